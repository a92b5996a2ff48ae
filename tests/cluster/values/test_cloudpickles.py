"""PyPI's cloudpickle and Ray's copy of it, in one process."""

from __future__ import annotations

import io
import sys

import cloudpickle
import numpy as np
import pyarrow as pa
import pytest
from ray import cloudpickle as of_ray

from airflow_ray.client.submission.identity import keep_identities
from airflow_ray.cluster.values.cloudpickles import difference
from airflow_ray.cluster.values.pickler import Unpickler, dumps, loads

KINDS = [cloudpickle, of_ray]


def local_class() -> type:
    class Counted:
        made = 0

    return Counted


@pytest.mark.parametrize("first", KINDS)
@pytest.mark.parametrize("second", KINDS)
def test_class_is_the_same_whichever_of_the_two_pickled_and_reads_it(first, second):
    keep_identities()
    cls = local_class()
    assert second.loads(first.dumps(cls)) is cls
    assert first.loads(second.dumps(cls())).__class__ is cls


@pytest.mark.parametrize("kind", KINDS)
def test_class_that_one_of_them_has_read_stays_as_it_is(kind):
    keep_identities()
    cls = local_class()
    pickled = kind.dumps(cls)
    cls.made = 7
    for each in (kind.loads, loads):
        each(pickled)
    assert cls.made == 7


@pytest.mark.parametrize("kind", KINDS)
def test_names_of_the_other_one_are_found(kind):
    pickled = kind.dumps(lambda: 5)
    assert Unpickler(io.BytesIO(pickled)).load()() == 5


def test_reducer_of_rays_is_not_in_a_pickle_for_others(monkeypatch):
    def reduce(table):
        raise AssertionError

    reduce.__module__ = "ray._private.arrow_serialization"
    monkeypatch.setitem(of_ray.CloudPickler.dispatch, pa.Table, reduce)
    table = pa.table({"a": [1, 2]})
    pickled = dumps([table])
    assert b"ray." not in pickled
    assert loads(pickled)[0].equals(table)


@pytest.mark.parametrize(("own", "of_cluster"), [("3.0.0", "3.1.2"), ("3.1.2", "3.0.0")])
def test_releases_of_one_format_do_not_differ(own, of_cluster):
    assert difference(own, of_cluster) is None


def test_releases_of_two_formats_are_told_with_what_to_install():
    words = difference("4.0.0", "3.1.2")
    assert words is not None
    assert "cloudpickle 4.0.0" in words
    assert "Install cloudpickle 3.1.2" in words


def named_in(module: str) -> bytes:
    """Return a pickle that names what puts arrays together in a module."""
    return f"c{module}\n_frombuffer\n.".encode()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("module", ["numpy.core.numeric", "numpy._core.numeric"])
def test_arrays_of_any_numpy_are_read(module):
    assert loads(named_in(module))(b"\0", np.dtype("u1"), (1,), "C") == [0]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("module", ["numpy.core.numeric", "numpy._core.numeric"])
def test_arrays_of_any_numpy_are_read_by_one_before_release_2(monkeypatch, module):
    monkeypatch.setattr(np, "__version__", "1.26.4")
    # There that name stands for a few other modules.
    monkeypatch.setitem(sys.modules, "numpy._core.numeric", None)
    assert loads(named_in(module))(b"\0", np.dtype("u1"), (1,), "C") == [0]
