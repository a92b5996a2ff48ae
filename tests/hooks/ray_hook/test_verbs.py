"""RayHook against a real Ray head, over Ray Client and as a driver."""

from __future__ import annotations

import logging
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest
import ray

from airflow_ray.exceptions import (
    ObjectURIError,
    RayConfigurationError,
    RayObjectLostError,
    RayPicklingError,
    RayResultError,
    RayRuntimeEnvError,
    RaySchedulingError,
    RayTaskCancelledError,
    RayTaskFailedError,
    RayWaitTimeoutError,
    RayWorkerCrashedError,
)
from airflow_ray.hooks.ray import RayHook
from airflow_ray.object_uri import ObjectURI
from tests.conftest import await_file, new_uri
from tests.dags.helpers.frame_kinds import TYPES
from tests.hooks.ray_hook import helpers_for_user_code
from tests.hooks.ray_hook.helpers_for_user_code import Interval, widen

LOCK = threading.Lock()


class Point(NamedTuple):
    x: object
    y: object


def sleep_until_cancelled(path):
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    time.sleep(600)


def run(hook, uri, fn, *args, **options):
    hook.submit(fn, *args, uri=uri, **options)
    return hook.wait(uri)


def await_state(hook, uri, state):
    for progress in hook.client.follow(uri, poll_interval=0.5):
        if progress.state == state:
            return


def await_exit(pid):
    while os.path.exists(f"/proc/{pid}"):
        time.sleep(0.05)


# Values and inputs


def test_returned_value_is_read_back(hook, uri):
    run(hook, uri, lambda a, b: {"sum": a + b}, 1, 2)
    assert hook.get(uri) == {"sum": 3}


def test_none_is_a_value(hook, uri):
    run(hook, uri, lambda: None)
    assert hook.get(uri) is None


def test_object_uris_arrive_as_objects_however_nested(hook, uri):
    run(hook, uri, lambda: [1, 2])

    def use(plain, *, table):
        return plain, table["deep"][0][0], table["text"]

    consumer = new_uri(hook.ray_conn_id)
    table = {"deep": [(uri,), 0], "text": f"not a URI: {uri}"}
    run(hook, consumer, use, str(uri), kwargs={"table": table})
    assert hook.get(consumer) == ([1, 2], [1, 2], f"not a URI: {uri}")


def test_containers_of_object_uris_keep_their_kind(hook, uri):
    run(hook, uri, lambda: [1, 2])
    point = Point(uri, 0)
    groups = defaultdict(list, one=[uri])
    consumer = new_uri(hook.ray_conn_id)
    run(hook, consumer, lambda point, groups: (point.x, groups["one"], groups["none"]), point, groups)
    assert hook.get(consumer) == ([1, 2], [[1, 2]], [])


def test_input_is_read_without_a_copy_on_the_cluster(hook, uri):
    import numpy as np

    run(hook, uri, lambda: np.ones(1_000_000))
    consumer = new_uri(hook.ray_conn_id)
    run(hook, consumer, lambda array: array.flags.owndata, uri)
    assert hook.get(consumer) is False


def test_each_key_of_several_outputs_is_an_object(hook, uri):
    record = run(hook, uri, lambda: {"train": [1, 2], "te/st": "x"}, multiple_outputs=True)
    assert list(record["outputs"]) == ["train", "te/st"]
    assert (hook.get(uri.with_key("train")), hook.get(uri.with_key("te/st"))) == ([1, 2], "x")


def test_result_as_value_comes_with_the_end(hook, uri):
    hook.submit(lambda: {"accuracy": 0.5}, uri=uri, result="value")
    assert list(hook.client.follow(uri))[-1].value == {"accuracy": 0.5}


def test_record_describes_the_outputs(hook, uri):
    def frame():
        import pandas as pd

        return pd.DataFrame({"a": range(1000)})

    output = run(hook, uri, frame)["outputs"]["return_value"]
    assert (output["type"], output["shape"]) == (TYPES["pandas"], [1000, 1])
    assert output["bytes"] > 8000


def test_put_object_is_an_input_like_any_other(hook, uri):
    import pandas as pd

    hook.put(pd.DataFrame({"a": [1, 2]}), uri=uri)
    consumer = new_uri(hook.ray_conn_id)
    run(hook, consumer, lambda frame: int(frame["a"].sum()), uri)
    assert hook.get(consumer) == 3


def test_empty_frame_is_handed_over(hook, uri):
    import pandas as pd

    hook.put(pd.DataFrame({"a": pd.Series([], dtype="float64")}), uri=uri)
    assert hook.describe(uri)["outputs"]["return_value"]["shape"] == [0, 1]
    assert list(hook.get(uri).columns) == ["a"]


def test_argument_of_many_megabytes_arrives(hook, uri):
    run(hook, uri, len, b"x" * 8_000_000)
    assert hook.get(uri) == 8_000_000


def test_ids_with_slashes_and_unicode_name_an_object(hook):
    uri = ObjectURI(hook.ray_conn_id, "dä/g", "manual__2026-01-01T00:00:00+00:00", "group a.täsk", 7)
    run(hook, uri, lambda: "found")
    assert hook.get(str(uri)) == "found"


def test_new_work_takes_the_place_of_the_old(hook, uri):
    run(hook, uri, lambda: "old")
    run(hook, uri, lambda: "new")
    assert hook.get(uri) == "new"


def test_released_object_is_gone(hook, uri):
    run(hook, uri, lambda: 1)
    assert hook.release(uri)
    with pytest.raises(RayObjectLostError):
        hook.get(uri)


# User code


@pytest.mark.slow
def test_threads_may_submit_at_the_same_time(hook):
    uris = [new_uri(hook.ray_conn_id) for _ in range(24)]

    def submit(of_thread):
        with RayHook(hook.ray_conn_id).connect() as own_hook:
            for uri in of_thread:
                own_hook.submit(lambda: widen(Interval(1, 2), by=1).low, uri=uri)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(submit, [uris[start::4] for start in range(4)]))
    assert [hook.wait(uri)["state"] for uri in uris] == ["SUCCEEDED"] * len(uris)


def test_helper_module_travels_with_the_callable(hook, uri):
    run(hook, uri, lambda: widen(Interval(1, 2), by=1))
    assert hook.get(uri) == Interval(0, 3)


def test_module_object_travels_with_the_callable(hook, uri):
    run(hook, uri, lambda: helpers_for_user_code.widen(Interval(1, 2), by=1).low)
    assert hook.get(uri) == 0


def test_helper_module_is_importable_inside_the_callable(hook, uri, tmp_path, monkeypatch):
    (tmp_path / "late").mkdir()
    (tmp_path / "late" / "numbers_of_user.py").write_text("from late.base import START\nANSWER = START + 2\n")
    (tmp_path / "late" / "base.py").write_text("START = 40\n")
    (tmp_path / "user_dag.py").write_text(
        "def answer():\n    from late.numbers_of_user import ANSWER\n    return ANSWER\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import user_dag

    run(hook, uri, user_dag.answer)
    assert hook.get(uri) == 42


def test_callable_of_main_runs(head, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from airflow_ray.hooks.ray import RayHook\n"
        "from airflow_ray.object_uri import ObjectURI\n"
        "def double(x):\n"
        "    return x * factor()\n"
        "def factor():\n"
        "    return 2\n"
        "uri = ObjectURI('ray_client', 'main', 'run', 'double')\n"
        "with RayHook('ray_client').connect() as hook:\n"
        "    hook.submit(double, 21, uri=uri)\n"
        "    hook.wait(uri)\n"
        "    print('result', hook.get(uri))\n"
    )
    finished = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert "result 42" in finished.stdout


# Log lines


def test_all_that_the_callable_writes_becomes_log_lines(hook, uri):
    def write():
        print("printed")
        print("to stderr", file=sys.stderr)
        logging.getLogger("user").info("logged")
        warnings.warn("warned", stacklevel=1)
        os.system("echo by another process")
        os.write(1, b"by a C library\n")
        print("without end of line", end="")

    run(hook, uri, write)
    text = "\n".join(hook.logs(uri))
    expected = ["printed", "to stderr", "INFO user: logged", "warned", "by another process", "by a C library"]
    assert [part for part in [*expected, "without end of line"] if part not in text] == []


def test_lines_arrive_while_the_callable_runs(hook, uri, tmp_path):
    gate = tmp_path / "gate"

    def write():
        print("first")
        while not gate.exists():
            time.sleep(0.05)

    hook.submit(write, uri=uri)
    states = []
    for progress in hook.client.follow(uri):
        states += [progress.state] * ("first" in progress.lines)
        if states:
            gate.touch()
    assert states == ["RUNNING"]


@pytest.mark.slow
def test_follower_gets_every_line_of_a_flood(hook, uri):
    def flood():
        for i in range(200_000):
            print(i, "x" * 60)

    hook.submit(flood, uri=uri)
    lines = [line for progress in hook.client.follow(uri) for line in progress.lines]
    assert len(lines) == 200_000
    assert lines[-1].startswith("199999 ")


@pytest.mark.slow
def test_kept_log_is_bounded_and_holds_the_newest_lines(hook, uri):
    def flood():
        for i in range(200_000):
            print(i, "x" * 60)

    hook.submit(flood, uri=uri)
    while hook.status(uri) in ("PENDING", "RUNNING"):
        time.sleep(0.1)
    lines = hook.logs(uri)
    assert sum(map(len, lines)) < 5_000_000
    assert lines[-1].startswith("199999 ")


def test_handler_that_a_callable_leaves_behind_does_not_disturb_the_next(hook, uri):
    def leave_handler():
        logging.basicConfig(force=True)

    run(hook, uri, leave_handler)
    run(hook, uri, lambda: logging.warning("once"))
    assert sum("once" in line for line in hook.logs(uri)) == 1


def test_signal_handler_that_a_callable_leaves_behind_keeps_nothing_alive(hook, uri, tmp_path):
    pid_file = tmp_path / "pid"

    def leave_handler():
        import ray

        @ray.remote(num_cpus=0)
        class Held:
            def pid(self):
                return os.getpid()

        held = Held.remote()
        pid_file.write_text(str(ray.get(held.pid.remote())))
        signal.signal(signal.SIGINT, lambda *_: held)

    run(hook, uri, leave_handler)
    await_exit(int(pid_file.read_text()))


# Failures


def test_failure_has_the_users_exception_and_lines(hook, uri):
    def fail():
        raise ZeroDivisionError("nö")  # this line

    with pytest.raises(RayTaskFailedError) as caught:
        run(hook, uri, fail)
    assert caught.value.exception_type == "ZeroDivisionError"
    assert caught.value.exception_message == "nö"
    assert 'raise ZeroDivisionError("nö")  # this line' in str(caught.value)
    assert "airflow_ray/cluster" not in str(caught.value)


def test_sys_exit_fails_the_task(hook, uri):
    with pytest.raises(RayTaskFailedError, match="SystemExit"):
        run(hook, uri, lambda: sys.exit(0))


def test_process_that_kills_itself_is_a_crash(hook, uri):
    with pytest.raises(RayWorkerCrashedError):
        run(hook, uri, lambda: os.kill(os.getpid(), 9), max_retries=0)


def test_crashed_process_is_tried_again_max_retries_times(hook, uri, tmp_path):
    def crash_once():
        try:
            (tmp_path / "tried").touch(exist_ok=False)
        except FileExistsError:
            return "second try"
        os._exit(1)

    run(hook, uri, crash_once, max_retries=1)
    assert hook.get(uri) == "second try"


def test_next_task_works_after_a_crash(hook, uri):
    with pytest.raises(RayWorkerCrashedError):
        run(hook, uri, lambda: os._exit(1), max_retries=0)
    run(hook, uri, lambda: "well")
    assert hook.get(uri) == "well"


def test_result_that_cannot_be_pickled_is_refused(hook, uri):
    with pytest.raises(RayResultError, match=r"cannot be pickled.*lock"):
        run(hook, uri, threading.Lock)


def test_value_that_is_not_json_is_refused(hook, uri):
    with pytest.raises(RayResultError, match=r"result\['a'\]\[1\] is of type set\..*result='ref'"):
        run(hook, uri, lambda: {"a": [0, {1, 2}]}, result="value")
    assert uri.key not in hook.describe(uri)["outputs"]


def test_value_over_one_megabyte_is_refused(hook, uri):
    with pytest.raises(RayResultError, match="1,000,000"):
        run(hook, uri, lambda: "x" * 1_000_001, result="value")


def test_several_outputs_need_a_dict(hook, uri):
    with pytest.raises(RayResultError, match="returned list"):
        run(hook, uri, lambda: [1], multiple_outputs=True)


@pytest.mark.parametrize(
    ("argument", "kind"),
    [(threading.Lock(), "lock"), (socket.socket(), "socket"), ((i for i in "ab"), "generator")],
    ids=["lock", "socket", "generator"],
)
def test_argument_that_cannot_be_pickled_is_named(hook, uri, argument, kind):
    with pytest.raises(RayPicklingError, match=rf"op_kwargs\['bad'\] of type {kind}"):
        hook.submit(print, uri=uri, kwargs={"bad": argument})


def test_put_value_that_cannot_be_pickled_is_refused(hook, uri):
    with pytest.raises(RayPicklingError, match="type lock cannot be pickled"):
        hook.put(threading.Lock(), uri=uri)


def test_put_value_that_the_cluster_cannot_read_is_refused(hook, uri):
    with pytest.raises(RayPicklingError, match="cannot be unpickled on the Ray cluster"):
        hook.put(uri, uri=uri)


def test_put_value_of_a_users_class_is_read_on_the_cluster(hook, uri):
    hook.put(Interval(1, 2), uri=uri)
    consumer = new_uri(hook.ray_conn_id)
    run(hook, consumer, lambda interval: interval.high, uri)
    assert hook.get(consumer) == 2


def test_absurd_number_of_cpus_is_refused(hook, uri):
    with pytest.raises(RaySchedulingError, match=r"asked for CPU 1e\+30"):
        run(hook, uri, print, num_cpus=1e30)


def test_what_makes_a_callable_unpicklable_is_named(hook, uri):
    with pytest.raises(RayPicklingError, match=r"'LOCK' \(lock\)"):
        hook.submit(lambda: LOCK.acquire(), uri=uri)


def test_package_that_the_cluster_lacks_is_named(hook, uri):
    def use_missing():
        import package_that_is_not_there

        return package_that_is_not_there

    with pytest.raises(RayTaskFailedError, match="No module named 'package_that_is_not_there'"):
        run(hook, uri, use_missing)


def test_object_of_a_run_that_does_not_exist_names_what_to_clear(hook, uri):
    missing = ObjectURI(hook.ray_conn_id, "sales", "never", "load", 2)
    with pytest.raises(RayObjectLostError, match=r"'load' with map index 2 of DAG 'sales' in run 'never': clear"):
        hook.submit(print, missing, uri=uri)


def test_output_that_a_task_does_not_have_is_refused(hook, uri):
    run(hook, uri, lambda: 1)
    with pytest.raises(RayObjectLostError, match="no output of that name"):
        hook.get(uri.with_key("other"))


def test_object_of_another_connection_is_refused(hook, uri):
    with pytest.raises(ObjectURIError, match="'elsewhere'"):
        hook.submit(print, ObjectURI("elsewhere", "d", "r", "t"), uri=uri)


def test_malformed_object_uri_names_the_argument(hook, uri):
    with pytest.raises(ObjectURIError, match=r"op_kwargs\['frames'\]\[1\]"):
        hook.submit(print, uri=uri, kwargs={"frames": ["fine", "ray-object://broken"]})


def test_unknown_ray_option_is_refused(hook, uri):
    with pytest.raises(RayConfigurationError, match="no_such_option"):
        hook.submit(print, uri=uri, ray_options={"no_such_option": 1})


def test_infeasible_request_tells_what_was_asked_and_what_there_is(hook, uri):
    with pytest.raises(RaySchedulingError, match=r"asked for CPU 1, gadget 99,.*nodes have .*CPU 4.*gadget 2"):
        run(hook, uri, print, resources={"gadget": 99})


def test_scheduling_timeout_ends_the_wait_for_busy_resources(hook, uri, tmp_path):
    blocker = new_uri(hook.ray_conn_id)
    hook.submit(sleep_until_cancelled, str(tmp_path / "pid"), uri=blocker, resources={"gadget": 2}, num_cpus=0)
    await_state(hook, blocker, "RUNNING")
    with pytest.raises(RaySchedulingError, match="scheduling_timeout=1 seconds"):
        run(hook, uri, print, resources={"gadget": 1}, scheduling_timeout=1)
    hook.cancel(blocker)


def test_waiting_work_is_pending_and_says_for_what(hook, uri, tmp_path):
    blocker = new_uri(hook.ray_conn_id)
    hook.submit(sleep_until_cancelled, str(tmp_path / "pid"), uri=blocker, resources={"gadget": 2}, num_cpus=0)
    await_state(hook, blocker, "RUNNING")
    hook.submit(print, uri=uri, resources={"gadget": 1})
    details = (progress.detail for progress in hook.client.follow(uri, 0.5) if progress.state == "PENDING")
    assert "'gadget': 1" in next(filter(None, details))
    hook.cancel(blocker)
    hook.cancel(uri)


@pytest.mark.slow
@pytest.mark.parametrize("connected_hook", ["ray_gateway"], indirect=True)
def test_runtime_env_whose_index_does_not_answer_is_told_of_and_fails_in_time(hook, uri):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        index = f"http://127.0.0.1:{silent.getsockname()[1]}/simple"
        pip = {"packages": ["no-such-package"], "pip_install_options": ["--index-url", index]}
        hook.submit(print, uri=uri, runtime_env={"pip": pip, "config": {"setup_timeout_seconds": 10}})
        details = [progress.detail or "" for progress in hook.client.follow(uri, 0.5)]
    assert any(detail.startswith("the runtime_env, which ") for detail in details)
    with pytest.raises(RayRuntimeEnvError, match=r"within .*10 seconds"):
        hook.wait(uri)


def test_runtime_env_that_does_not_build_says_so(hook, uri):
    with pytest.raises(RayRuntimeEnvError):
        run(hook, uri, print, runtime_env={"working_dir": "file:///no/such/file.zip"})


def test_runtime_env_variables_reach_the_callable(hook, uri):
    run(hook, uri, lambda: os.environ["FROM_TASK"], runtime_env={"env_vars": {"FROM_TASK": "yes"}})
    assert hook.get(uri) == "yes"


# Waiting and cancelling


def test_wait_that_takes_too_long_leaves_the_work_running(hook, uri, tmp_path):
    hook.submit(sleep_until_cancelled, str(tmp_path / "pid"), uri=uri)
    with pytest.raises(RayWaitTimeoutError):
        hook.wait(uri, timeout=0.5)
    assert hook.status(uri) in ("PENDING", "RUNNING")
    hook.cancel(uri)


def test_cancel_ends_the_process(hook, uri, tmp_path):
    hook.submit(sleep_until_cancelled, str(tmp_path / "pid"), uri=uri)
    pid = await_file(tmp_path / "pid")
    assert hook.cancel(uri)
    await_exit(pid)
    with pytest.raises(RayTaskCancelledError):
        hook.wait(uri, timeout=10)


def test_cancel_ends_the_tasks_that_the_callable_started(hook, uri, tmp_path):
    def start_child():
        import ray

        ray.get(ray.remote(sleep_until_cancelled).remote(str(tmp_path / "child")))

    hook.submit(start_child, uri=uri)
    pid = await_file(tmp_path / "child")
    hook.cancel(uri)
    await_exit(pid)


def test_cancel_ends_the_actors_that_the_callable_started(hook, uri, tmp_path):
    def start_actor():
        import ray

        @ray.remote
        class Sleeper:
            def sleep(self, path):
                sleep_until_cancelled(path)

        ray.get(Sleeper.remote().sleep.remote(str(tmp_path / "actor")))

    hook.submit(start_actor, uri=uri)
    pid = await_file(tmp_path / "actor")
    hook.cancel(uri)
    await_exit(pid)


class Trace:
    """Leaves a file with the number of each process that unpickles it."""

    def __init__(self, folder):
        self._folder = folder

    def __reduce__(self):
        return leave_trace, (self._folder,)


def leave_trace(folder):
    pathlib.Path(folder, str(os.getpid())).touch()


def test_owner_runs_no_code_of_the_actors_that_it_ends(hook, head, uri, tmp_path):
    traces = tmp_path / "traces"
    traces.mkdir()

    def start_actor():
        import ray

        trace = Trace(str(traces))

        @ray.remote
        class Sleeper:
            leaves = trace

            def sleep(self, path):
                sleep_until_cancelled(path)

        ray.get(Sleeper.remote().sleep.remote(str(tmp_path / "actor")))

    hook.submit(start_actor, uri=uri)
    pid = await_file(tmp_path / "actor")
    hook.cancel(uri)
    await_exit(pid)
    owners = {str(process.pid) for process in head.processes("ray::Owner")}
    left = {path.name for path in traces.iterdir()}
    assert str(pid) in left
    assert not owners & left


def hold_gadgets(path):
    from ray.util.placement_group import placement_group

    group = placement_group([{"gadget": 2}])
    assert group.wait(300)
    sleep_until_cancelled(path)


@pytest.mark.slow
def test_cancel_gives_back_what_placement_groups_hold(hook, uri, tmp_path):
    hook.submit(hold_gadgets, str(tmp_path / "pid"), uri=uri)
    await_file(tmp_path / "pid")
    hook.cancel(uri)
    assert run(hook, new_uri(hook.ray_conn_id), int, resources={"gadget": 2})["state"] == "SUCCEEDED"


def test_crash_gives_back_what_placement_groups_hold(hook, uri, tmp_path):
    hook.submit(hold_gadgets, str(tmp_path / "pid"), uri=uri, max_retries=0)
    os.kill(int(await_file(tmp_path / "pid")), signal.SIGKILL)
    with pytest.raises(RayWorkerCrashedError):
        hook.wait(uri)
    assert run(hook, new_uri(hook.ray_conn_id), int, resources={"gadget": 2})["state"] == "SUCCEEDED"


@pytest.mark.slow
def test_placement_group_of_an_output_lives_as_long_as_the_output(hook, uri):
    def make_group():
        from ray.util.placement_group import placement_group

        group = placement_group([{"gadget": 2}])
        assert group.wait(300)
        return group

    run(hook, uri, make_group)
    waiting = hook.submit(int, uri=new_uri(hook.ray_conn_id), resources={"gadget": 2})
    while not hook.describe(waiting)["detail"]:
        time.sleep(0.1)
    hook.release(uri)
    assert hook.wait(waiting)["state"] == "SUCCEEDED"


class Service:
    def pid(self):
        return os.getpid()


def make_service(path, **options):
    import ray

    service = ray.remote(num_cpus=0)(Service).options(**options).remote()
    pathlib.Path(path).write_text(str(ray.get(service.pid.remote())))
    return service


def make_named_service(path):
    make_service(path, name=f"service {path}")


def make_service_beside_an_object(path):
    import ray

    return {"service": make_service(path), "object": ray.put("so that the value is taken apart")}


@pytest.mark.parametrize("make", [make_service, make_named_service, make_service_beside_an_object])
def test_actor_of_a_callable_ends_when_its_work_is_released(hook, uri, tmp_path, make):
    run(hook, uri, make, str(tmp_path / "pid"))
    pid = int((tmp_path / "pid").read_text())
    hook.release(uri)
    await_exit(pid)


@pytest.mark.slow
def test_actor_inside_a_result_serves_until_it_is_released(hook, uri, tmp_path):
    def ask(made):
        import ray

        return ray.get(made["service"].pid.remote())

    run(hook, uri, make_service_beside_an_object, str(tmp_path / "pid"))
    asked = new_uri(hook.ray_conn_id)
    run(hook, asked, ask, str(uri), result="value")
    hook.release(asked)
    run(hook, asked, ask, str(uri))
    assert hook.get(asked) == int((tmp_path / "pid").read_text())


@pytest.mark.slow
def test_detached_actor_outlives_the_work_that_made_it(hook, uri, tmp_path):
    def make(path):
        make_service(path, name="detached", lifetime="detached")

    def ask():
        import ray

        service = ray.get_actor("detached")
        pid = ray.get(service.pid.remote())
        ray.kill(service)
        return pid

    run(hook, uri, make, str(tmp_path / "pid"))
    hook.release(uri)
    run(hook, uri, ask)
    assert hook.get(uri) == int((tmp_path / "pid").read_text())


def test_cancel_of_pending_work_is_final(hook, uri):
    hook.submit(print, uri=uri, resources={"gadget": 99}, scheduling_timeout=60)
    hook.cancel(uri)
    assert hook.status(uri) == "CANCELLED"


def test_cancel_of_finished_work_does_nothing(hook, uri):
    run(hook, uri, lambda: 1)
    assert not hook.cancel(uri)
    assert hook.get(uri) == 1


def test_work_that_is_not_known_is_lost(hook, uri):
    assert hook.status(uri) == "LOST"
    with pytest.raises(RayObjectLostError):
        hook.wait(uri, timeout=10)


def test_ten_tasks_reuse_one_warm_worker(hook):
    uris = [new_uri(hook.ray_conn_id, f"task_{i}") for i in range(10)]
    pids = [run(hook, uri, os.getpid)["pid"] for uri in uris]
    assert len(set(pids[1:])) == 1


def test_secrets_of_the_runtime_env_are_in_no_line_of_the_log(hook, uri):
    def tell():
        import os

        print(f"the password is {os.environ['PASSWORD']}.")

    hook.submit(tell, uri=uri, runtime_env={"env_vars": {"PASSWORD": "swordfish"}})
    hook.wait(uri)
    assert hook.logs(uri) == ["the password is ***."]


def test_secrets_of_the_runtime_env_are_in_no_error(hook, uri):
    def fail():
        import os

        raise RuntimeError(os.environ["PASSWORD"])

    hook.submit(fail, uri=uri, runtime_env={"env_vars": {"PASSWORD": "swordfish"}})
    with pytest.raises(RayTaskFailedError, match=r"RuntimeError on the Ray cluster: \*\*\*"):
        hook.wait(uri)
    assert "swordfish" not in str(hook.describe(uri))


@pytest.mark.slow
def test_owner_of_another_version_is_named_where_an_object_is_not_found(hook, uri):
    class Owner:
        def is_there(self):
            return True

    def start():
        named = {"name": "airflow_ray_owner_v0", "lifetime": "detached", "get_if_exists": True}
        owner = ray.remote(Owner).options(num_cpus=0, **named).remote()
        ray.get(owner.is_there.remote())
        return owner

    with RayHook("ray_client").connect() as starter:
        other = starter.client.link.session.run(start)
        try:
            with pytest.raises(RayObjectLostError, match="airflow_ray_owner_v0 of another version"):
                hook.get(uri)
        finally:
            starter.client.link.session.run(lambda: ray.kill(other))
