"""Messages as bytes."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_ray.cluster.messages import packed, unpacked

texts = st.text(st.characters())
keys = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), texts, st.binary())
plain = st.recursive(
    st.one_of(keys, st.floats(allow_nan=False)),
    lambda parts: st.one_of(st.lists(parts), st.dictionaries(keys, parts)),
    max_leaves=20,
)


@given(plain)
def test_plain_data_arrives_as_it_was(message: object) -> None:
    assert unpacked(packed(message)) == message


@given(st.binary(max_size=200))
@example(b"\x81\x90\xc0")  # a list as a key
@example(b"\x81\x80\xc0")  # a mapping as a key
@example(b"\x91" * 5000)
@example(b"\xdd\xff\xff\xff\xff")  # a list of four billion parts
@example(b"\xc7\x0c\xff" + b"\xff" * 12)  # a moment with too many nanoseconds
def test_whatever_is_no_message_is_a_value_error(data: bytes) -> None:
    with suppress(ValueError):
        unpacked(data)


def test_extensions_are_refused() -> None:
    with pytest.raises(ValueError, match="plain data"):
        unpacked(b"\xd4\x05a")
