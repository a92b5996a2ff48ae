"""Owners of two builds of this package in one namespace: the newer takes new work, the older finishes what it has."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest

from airflow_ray.client.connection import ray_session
from airflow_ray.cluster.owner.keeper import Build
from airflow_ray.cluster.protocol import OWNER_PREFIX
from airflow_ray.exceptions import RayVersionMismatchError
from airflow_ray.hooks.ray import RayHook
from tests.conftest import new_uri

OLD, NEW = Build("0.1.0", "old"), Build("0.2.0", "new")


@dataclass
class Connections:
    """A connection of an Airflow worker of each release."""

    old: RayHook
    new: RayHook


def _wait_for(path):
    import pathlib
    import time

    print("begun")
    while not pathlib.Path(path).exists():
        time.sleep(0.05)
    return list(range(100_000))


@pytest.fixture
def connections(head, monkeypatch, tmp_path):
    monkeypatch.setenv("AIRFLOW_CONN_RAY_BUILDS", f"{head.driver_uri}&namespace={tmp_path.name}")
    monkeypatch.setattr(ray_session, "own_build", lambda: OLD)
    with RayHook("ray_builds").connect() as old:
        yield lambda: _newer(old, monkeypatch)


def _newer(old, monkeypatch):
    monkeypatch.setattr(ray_session, "own_build", lambda: NEW)
    new = RayHook("ray_builds")
    return Connections(old, new)


@pytest.mark.slow
def test_work_of_an_older_build_goes_on_and_its_result_is_an_input_of_the_newer(connections, tmp_path):
    both, made, used = connections(), new_uri("ray_builds", "make"), new_uri("ray_builds", "use")
    both.old.submit(_wait_for, str(tmp_path / "go"), uri=made)
    with both.new.connect():
        assert both.new.status(made) in ("PENDING", "RUNNING")
        (tmp_path / "go").touch()
        assert both.new.wait(made)["state"] == "SUCCEEDED"
        assert both.new.logs(made) == ["begun"]
        both.new.submit(len, str(made), uri=used)
        both.new.wait(used)
        assert both.new.get(used) == 100_000


@pytest.mark.slow
def test_older_build_takes_no_new_work_and_says_what_to_upgrade(connections):
    both = connections()
    both.old.put(1, uri=new_uri("ray_builds"))
    with both.new.connect():
        both.new.put(1, uri=new_uri("ray_builds"))
        with pytest.raises(RayVersionMismatchError, match=r"0\.2\.0"):
            both.old.submit(len, [1], uri=new_uri("ray_builds"))


# Without an end each of three calls would take the minute that an owner has to answer.
@pytest.mark.timeout(120)
@pytest.mark.slow
def test_two_builds_that_know_each_other_do_not_ask_each_other_without_end(connections):
    both, unknown = connections(), new_uri("ray_builds")
    of_old, of_new = new_uri("ray_builds"), new_uri("ray_builds")
    both.old.put(1, uri=of_old)
    with both.new.connect():
        both.new.put(2, uri=of_new)
        with pytest.raises(RayVersionMismatchError):
            both.old.submit(len, [1], uri=new_uri("ray_builds"))
        # The older one knows the newer by now.
        assert [hook.status(unknown) for hook in (both.new, both.old)] == ["LOST", "LOST"]
        assert both.new.release(unknown) == []
        assert (both.old.get(of_new), both.new.get(of_old)) == (2, 1)


@pytest.mark.slow
def test_older_build_takes_work_again_when_the_newer_has_nothing(connections):
    both, uri = connections(), new_uri("ray_builds")
    both.old.put(1, uri=new_uri("ray_builds"))
    with both.new.connect():
        both.old.submit(len, [1], uri=uri)
        assert both.old.wait(uri)["state"] == "SUCCEEDED"


@pytest.mark.slow
def test_try_of_the_newer_build_attaches_to_work_that_the_older_runs(connections, tmp_path):
    both, uri = connections(), new_uri("ray_builds")
    both.old.submit(_wait_for, str(tmp_path / "go"), uri=uri, generation="0", holder="first")
    with both.new.connect():
        both.new.submit(_wait_for, str(tmp_path / "go"), uri=uri, generation="0", holder="second")
        (tmp_path / "go").touch()
        assert both.old.wait(uri)["state"] == "SUCCEEDED"
        assert both.new.logs(uri) == ["begun"]


@pytest.mark.slow
def test_work_of_the_newer_build_takes_the_place_of_what_the_older_runs(connections, tmp_path):
    both, uri = connections(), new_uri("ray_builds")
    both.old.submit(_wait_for, str(tmp_path / "never"), uri=uri)
    with both.new.connect():
        both.new.submit(len, [1], uri=uri)
        assert both.new.wait(uri)["state"] == "SUCCEEDED"
        # The older owner ends when it has nothing more; who asks then is told what the newer one knows.
        assert both.old.status(uri) in ("LOST", "SUCCEEDED")


@pytest.mark.slow
def test_older_build_ends_when_it_is_empty(connections):
    both, uri = connections(), new_uri("ray_builds")
    both.old.put([1], uri=uri)
    with both.new.connect():
        assert _owners(both.new) == {OLD.owner_name, NEW.owner_name}
        assert both.new.release(uri) == [uri]
        deadline = time.monotonic() + 30
        while OLD.owner_name in _owners(both.new) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert _owners(both.new) == {NEW.owner_name}
        assert both.new.list_objects() == []


def _owners(hook: RayHook) -> set[str]:
    """Return the names of the owners in the namespace of a driver."""
    import ray

    return {name for name in hook.client.link.session.run(ray.util.list_named_actors) if name.startswith(OWNER_PREFIX)}
