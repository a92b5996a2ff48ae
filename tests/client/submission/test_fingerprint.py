"""The name of a search: the same for each try that may go on with it, and made without packing it."""

from __future__ import annotations

import threading

import pytest

from airflow_ray.client.submission import payload
from airflow_ray.client.submission.fingerprint import experiment_name
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
