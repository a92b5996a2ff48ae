"""Whether an object is lost, asked of a real cluster, and what the question does to it."""

from __future__ import annotations

import pytest

from airflow_ray.exceptions import RayTaskCancelledError
from airflow_ray.hooks.ray import RayHook
from tests.conftest import new_uri

MODULE = """
class Thing:
    def __init__(self, size):
        self.data = b"x" * size
"""


def _make(size):
    from module_of_one_environment import Thing

    return Thing(size)


def _measure(thing):
    return len(thing.data)


@pytest.mark.slow
@pytest.mark.parametrize("size", [10, 5_000_000], ids=["inside the owner", "in the store"])
def test_to_look_for_an_object_of_another_environment_leaves_it_readable(hook, tmp_path, size):
    (tmp_path / "module_of_one_environment.py").write_text(MODULE)
    environment = {"env_vars": {"PYTHONPATH": str(tmp_path)}}
    made, measured = (new_uri(hook.ray_conn_id, task_id) for task_id in ("make", "measure"))
    hook.submit(_make, size, uri=made, runtime_env=environment)
    hook.wait(made)
    assert hook.client.is_available(made)
    hook.submit(_measure, str(made), uri=measured, runtime_env=environment)
    hook.wait(measured)
    assert hook.get(measured) == size


def test_work_of_a_try_that_was_killed_before_it_submitted_does_not_begin(hook, uri, tmp_path):
    hook.client.cancel(uri, "killed")
    with pytest.raises(RayTaskCancelledError):
        hook.submit((tmp_path / "ran").touch, uri=uri, holder="killed")
    assert hook.status(uri) == "LOST"


def test_payload_of_a_try_that_attaches_is_not_sent(hook, uri, monkeypatch):
    sent = []
    monkeypatch.setattr(hook.client.link, "send", sent.append)
    monkeypatch.setattr("airflow_ray.client.submission.submitter.LARGE_PAYLOAD_BYTES", 10**9)
    hook.submit(len, b"x" * 2_000_000, uri=uri, generation="0", holder="first")
    monkeypatch.setattr("airflow_ray.client.submission.submitter.LARGE_PAYLOAD_BYTES", 1_000_000)
    hook.submit(len, b"x" * 2_000_000, uri=uri, generation="0", holder="second")
    assert (hook.wait(uri)["state"], sent) == ("SUCCEEDED", [])


def test_submission_costs_one_call(uri, hook, monkeypatch):
    calls = []
    call = hook.client.link.call_same
    monkeypatch.setattr(
        hook.client.link, "call_same", lambda *args, **kwargs: calls.append(args[0]) or call(*args, **kwargs)
    )
    hook.client.submit(len, [1], uri=uri, generation="0")
    assert calls == ["submit"]


def test_release_of_a_run_frees_work_and_objects(head):
    with RayHook("ray_driver").connect() as hook:
        uri = new_uri("ray_driver")
        hook.put([1], uri=uri)
        assert hook.release(dag_id=uri.dag_id, run_id=uri.run_id) == [uri]
