"""Values as streams of bytes."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_ray.cluster.values.pickler import pickler, unpickler
from airflow_ray.cluster.values.stream import CHUNK_BYTES, MIN_BUFFER_BYTES, Departing, arrived

SMALL = {"numbers": [1, 2, 3], "text": "ü" * 50, "bytes": b"0123456789"}


def moved(value: Any) -> Any:
    departing = Departing(value, pickler)
    return arrived(departing.sizes, departing.chunks(), unpickler)


def whole(departing: Departing) -> bytes:
    return b"".join(departing.chunks())


def array(size: int = MIN_BUFFER_BYTES) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return (np.arange(size) % 251).astype(np.uint8)


@pytest.mark.parametrize(
    "value", [None, b"", "", [], SMALL, b"x" * (CHUNK_BYTES + 1)], ids=lambda value: str(value)[:20]
)
def test_value_arrives_as_it_was(value: object) -> None:
    assert moved(value) == value


def test_bytes_of_several_chunks_amid_others_arrive_as_they_were() -> None:
    value = [b"a", b"b" * (CHUNK_BYTES * 2 + 5), "c", b"d" * (CHUNK_BYTES - 10), b"e" * 100]
    assert moved(value) == value


def test_buffers_arrive_as_they_were_and_may_be_written_to() -> None:
    arrays = moved([array(0), array(MIN_BUFFER_BYTES - 1), array(), array(CHUNK_BYTES * 2 + 1)])
    for each in arrays:
        assert (each == array(len(each))).all()
        each[:1] = 7


def test_large_buffers_stay_out_of_the_pickle() -> None:
    assert Departing([array(MIN_BUFFER_BYTES - 1), array()], pickler).sizes[1:] == [MIN_BUFFER_BYTES]


def test_sizes_are_those_of_what_is_sent() -> None:
    departing = Departing([SMALL, array(), b"x" * (CHUNK_BYTES + 1)], pickler)
    assert sum(departing.sizes) == len(whole(departing))


def test_chunks_have_a_bound() -> None:
    departing = Departing([b"x" * (3 * CHUNK_BYTES), array(3 * CHUNK_BYTES), *[b"y" * 3_000_000] * 5], pickler)
    assert max(len(chunk) for chunk in departing.chunks()) <= CHUNK_BYTES


@given(st.lists(st.integers(0, 70_000), max_size=8))
def test_it_may_be_cut_anywhere(cuts: list[int]) -> None:
    departing = Departing([SMALL, array()], pickler)
    sent = whole(departing)
    ends = [0, *sorted(cuts), len(sent)]
    chunks = (sent[start:end] for start, end in itertools.pairwise(ends))
    value, buffer = arrived(departing.sizes, chunks, unpickler)
    assert value == SMALL
    assert (buffer == array()).all()


@given(st.data())
def test_one_that_ends_too_early_is_an_eof_error(data: st.DataObject) -> None:
    departing = Departing([SMALL, array(), list(range(100))], pickler)
    sent = whole(departing)
    end = data.draw(st.integers(0, len(sent) - 1))
    with pytest.raises(EOFError):
        arrived(departing.sizes, iter([sent[:end]]), unpickler)


def test_one_that_is_no_pickle_says_so() -> None:
    with pytest.raises(pickle.UnpicklingError):
        arrived([4], iter([b"\xff\xff\xff\xff"]), unpickler)


def test_error_of_whoever_sends_is_raised_as_it_is() -> None:
    departing = Departing([SMALL, array()], pickler)

    def chunks() -> Iterator[Any]:
        yield from itertools.islice(departing.chunks(), 1)
        raise ConnectionError("cut")

    with pytest.raises(ConnectionError, match="cut"):
        arrived(departing.sizes, chunks(), unpickler)
