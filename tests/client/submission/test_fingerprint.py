"""The name of a search: the same for each try that may go on with it, and made without packing it."""

from __future__ import annotations

import logging
import threading

import pytest

from airflow_ray.client.submission import payload
from airflow_ray.client.submission.fingerprint import experiment_name, fingerprint
from airflow_ray.client.submission.options import RemoteOptions
from airflow_ray.exceptions import RayPicklingError


def parabola(config):
    return config["x"] ** 2


def line(config):
    return config["x"]


def name_of(code=parabola, space=None, generation="0"):
    return experiment_name(code, [space or {"x": 1}, "loss", "min"], [], generation)


def test_name_is_the_same_for_the_same_search():
    assert name_of() == name_of()


@pytest.mark.parametrize("other", [{"code": line}, {"space": {"x": 2}}, {"generation": "1"}])
def test_name_is_another_for_another_search(other):
    assert name_of(**other) != name_of()


def test_search_is_not_packed_for_its_name(monkeypatch):
    def packs(file):
        raise AssertionError("it was packed")

    monkeypatch.setattr(payload, "_pickler", packs)
    assert name_of().startswith("tune-")


def test_what_cannot_be_pickled_is_explained():
    with pytest.raises(RayPicklingError, match=r"op_args\[0\] of type dict cannot be pickled"):
        name_of(space={"x": threading.Lock()})


def registered():
    """Return a function that closes over what holds it, as a decorator with a registry makes it."""
    registry = {}

    def call(key):
        return registry[key]

    registry["call"] = call
    return call


def fingerprint_of(function, *args):
    return fingerprint(function, args, {}, {}, RemoteOptions(), "generation")


def test_function_that_closes_over_itself_has_a_fingerprint():
    assert fingerprint_of(registered()) == fingerprint_of(registered()) != fingerprint_of(parabola)


def test_list_that_holds_itself_has_a_fingerprint():
    endless = []
    endless.append(endless)
    assert fingerprint_of(print, endless) == fingerprint_of(print, endless)


def test_value_that_comes_twice_is_told_twice():
    part = [1]
    assert fingerprint_of(print, [part, part]) == fingerprint_of(print, [[1], [1]])


def test_function_that_holds_what_cannot_be_pickled_has_no_fingerprint(caplog):
    caplog.set_level(logging.INFO)
    lock = threading.Lock()

    def synchronized():
        return lock

    assert fingerprint_of(synchronized) is None
    assert "Each try of this task starts its work anew" in caplog.text
