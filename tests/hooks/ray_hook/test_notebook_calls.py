"""What a notebook calls at its beginning and end, and what it leaves of its process to the next task."""

from __future__ import annotations

import os

import pytest
import ray

from tests.conftest import new_uri
from tests.hooks.ray_hook.test_verbs import run


def lines_about(hook, uri, call):
    return [line for line in hook.logs(uri) if call in line]


# ray.init() and ray.shutdown()


def test_ray_init_of_a_callable_changes_nothing_and_tells_which_arguments_have_no_effect(hook, uri):
    def notebook():
        ray.init(num_cpus=3, ignore_reinit_error=True, runtime_env={"env_vars": {"SECRET": "hidden words"}})

        @ray.remote
        def child():
            return 42

        return ray.get(child.remote())

    run(hook, uri, notebook)
    (line,) = lines_about(hook, uri, "ray.init()")
    assert hook.get(uri) == 42
    assert "num_cpus, runtime_env" in line
    assert "hidden words" not in line


def test_ray_shutdown_of_a_callable_neither_ends_nor_repeats_it(hook, uri, tmp_path):
    runs = tmp_path / "runs"

    def notebook():
        with runs.open("a") as file:
            file.write("x")
        ray.init()
        ref = ray.put(42)
        ray.shutdown()
        ray.shutdown()
        return ray.get(ref)

    run(hook, uri, notebook)
    assert (hook.get(uri), runs.read_text()) == (42, "x")
    assert len(lines_about(hook, uri, "ray.shutdown()")) == 2


@pytest.mark.slow
def test_context_of_ray_init_leads_nowhere_else(hook, uri):
    def notebook():
        from ray import init

        with init("auto") as context:
            return context.address_info["gcs_address"], ray.get_runtime_context().gcs_address

    run(hook, uri, notebook)
    there, here = hook.get(uri)
    assert there == here
    (line,) = lines_about(hook, uri, "ray.init()")
    assert "Without effect" not in line


# Processes


def leave_behind():
    os.environ["LEFT_BEHIND"] = "yes"
    os.chdir("/")


def read_what_is_left():
    return os.environ.get("LEFT_BEHIND"), os.getcwd() == "/"


@pytest.mark.parametrize("ending", ["returns", pytest.param("raises", marks=pytest.mark.slow)])
def test_what_a_callable_changes_in_its_process_does_not_reach_the_next(hook, uri, ending):
    def leave():
        leave_behind()
        if ending == "raises":
            raise ValueError

    # They share a process, which nobody else uses.
    options = {"runtime_env": {"env_vars": {"ONLY_OF": str(uri)}}}
    hook.submit(leave, uri=uri, **options)
    list(hook.client.follow(uri))
    after = new_uri(hook.ray_conn_id)
    run(hook, after, read_what_is_left, **options)
    assert hook.get(after) == (None, False)


@pytest.mark.slow
def test_fresh_process_is_nobody_elses(hook, uri):
    uris = [new_uri(hook.ray_conn_id), uri, new_uri(hook.ray_conn_id)]
    run(hook, uris[0], os.getpid)
    run(hook, uris[1], os.getpid, fresh_process=True)
    run(hook, uris[2], os.getpid)
    before, fresh, after = map(hook.get, uris)
    assert fresh not in (before, after)
