"""RayPythonOperator and ray_task in DAG runs with a real database, against a real Ray head."""

from __future__ import annotations

import os
import signal
import threading
import time
from datetime import timedelta
from types import MappingProxyType

import pytest
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import TaskGroup, task, task_group

from airflow_ray._compat import AirflowFailException, AirflowSkipException
from airflow_ray.decorators import ray_task
from airflow_ray.exceptions import RayConfigurationError
from airflow_ray.hooks.ray import RayHook
from airflow_ray.object_uri import ObjectURI
from airflow_ray.operators import base
from airflow_ray.operators.python import RayPythonOperator
from tests.conftest import await_file
from tests.dag_runs import context_of, new_dag, run_dag
from tests.dags.helpers.frame_kinds import TYPES

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def dag(head):
    """A DAG whose Ray tasks go through the gateway."""
    return new_dag(params={"cpus": 2, "name": "parameter"})


def get(text):
    uri = ObjectURI.parse(text)
    return RayHook(uri.conn_id).get(uri)


def make_frame(rows):
    import pandas as pd

    return pd.DataFrame({"a": range(rows)})


def total(frame):
    return int(frame["a"].sum())


def test_output_of_one_task_is_the_input_of_the_next(dag):
    with dag:
        made = RayPythonOperator(task_id="make", python_callable=make_frame, op_args=[10])
        RayPythonOperator(task_id="sum", python_callable=total, op_args=[made.output], result="value")
    run = run_dag(dag)
    assert run.xcom("sum") == 45
    assert run.xcom("make") == str(ObjectURI("ray_gateway", dag.dag_id, run.run_id, "make"))


def test_beside_the_uri_stands_what_the_object_is(dag):
    with dag:
        RayPythonOperator(task_id="make", python_callable=make_frame, op_args=[10])
        RayPythonOperator(task_id="several", python_callable=lambda: {"ray_object": 1, "n": 2}, multiple_outputs=True)
        RayPythonOperator.partial(task_id="mapped", python_callable=make_frame).expand(op_args=[[1], [2]])
        RayPythonOperator(task_id="value", python_callable=lambda: 3, result="value")
    run = run_dag(dag)
    assert run.state == "success"
    told = run.xcom("make", "ray_object")
    assert told.pop("bytes") > 80
    assert told == {"type": TYPES["pandas"], "shape": [10, 1], "columns": ["a: int64"]}
    # An output of that name is the user's own.
    assert run.xcom("several", "ray_object") == str(ObjectURI.parse(run.xcom("several", "n")).with_key("ray_object"))
    assert [run.xcom("mapped", "ray_object", index)["shape"] for index in range(2)] == [[1, 1], [2, 1]]
    assert run.xcom("value", "ray_object") is None


def test_same_dag_over_ray_client(dag):
    with dag:
        made = RayPythonOperator(task_id="make", python_callable=make_frame, op_args=[10], ray_conn_id="ray_client")
        RayPythonOperator(
            task_id="sum", python_callable=total, op_args=[made.output], result="value", ray_conn_id="ray_client"
        )
    assert run_dag(dag).xcom("sum") == 45


def test_xcom_pull_in_a_template_brings_the_object(dag):
    with dag:
        made = RayPythonOperator(task_id="make", python_callable=make_frame, op_args=[4])
        summed = RayPythonOperator(
            task_id="sum",
            python_callable=lambda frames: total(frames["one"]),
            op_kwargs={"frames": {"one": "{{ ti.xcom_pull(task_ids='make') }}"}},
            result="value",
        )
        made >> summed
    assert run_dag(dag).xcom("sum") == 6


def test_templated_numbers_reach_ray(dag):
    def asked():
        import ray

        return ray.get_runtime_context().get_assigned_resources()

    with dag:
        RayPythonOperator(
            task_id="asked",
            python_callable=asked,
            num_cpus="{{ params.cpus }}",
            memory="{{ 50 * 1024 * 1024 }}",
            resources={"gadget": "{{ 1 }}"},
            result="value",
        )
    assert run_dag(dag).xcom("asked") == {"CPU": 2, "memory": 52428800, "gadget": 1}


def test_templated_connection_and_runtime_env_reach_ray(dag):
    def variable():
        import os

        return os.environ["OF_RUN"]

    with dag:
        RayPythonOperator(
            task_id="variable",
            python_callable=variable,
            ray_conn_id="ray_{{ 'driver' }}",
            runtime_env={"env_vars": {"OF_RUN": "{{ params.name }}"}},
            result="value",
        )
    assert run_dag(dag).xcom("variable") == "parameter"


def test_each_key_of_several_outputs_is_an_xcom_of_its_own(dag):
    with dag:
        parts = RayPythonOperator(
            task_id="split", python_callable=lambda: {"train": [1, 2], "test": [3]}, multiple_outputs=True
        )
        RayPythonOperator(task_id="use", python_callable=len, op_args=[parts.output["train"]], result="value")
    run = run_dag(dag)
    assert run.xcom("use") == 2
    assert get(run.xcom("split", key="test")) == [3]


def test_callable_that_returns_a_dict_may_return_none_as_with_a_plain_task(dag):
    @ray_task
    def nothing() -> dict:
        return None

    @ray_task
    def empty() -> dict:
        return {}

    @ray_task
    def other_mapping() -> dict:
        return MappingProxyType({"a": 1})

    def show(whole, part, empty, mapping):
        return {"whole": whole, "part": part, "empty": empty, "mapping": mapping}

    with dag:
        given = {"whole": nothing(), "part": nothing.override(task_id="other")()["part"], "empty": empty()}
        task(show)(**given, mapping=other_mapping())
    run = run_dag(dag)
    shown = run.xcom("show")
    assert run.state == "success"
    assert (shown["whole"], shown["part"], shown["empty"]) == (None, None, {})
    assert get(shown["mapping"]["a"]) == 1


def test_mapped_tasks_expand_over_the_items_of_what_a_ray_task_returns(dag):
    """All in one run, which takes most of the time."""

    def listed():
        return [1, {"a": 2}, [3]]

    def pair(item):
        return [item[0], item[1]]

    same = ray_task(lambda x: x, task_id="same", result="value")
    with dag:
        items = ray_task(listed)()
        same.expand(x=items)
        same.override(task_id="whole")(items)
        RayPythonOperator.partial(task_id="classic", python_callable=lambda *args: len(args), result="value").expand(
            op_args=ray_task(lambda: [[1], [1, 2]], task_id="arguments")()
        )
        RayPythonOperator(
            task_id="named_arguments",
            python_callable=lambda x, ds: [x, ds],
            op_kwargs=ray_task(lambda: {"x": 1}, task_id="by_name")(),
            result="value",
        )
        ray_task(pair, result="value").expand(item=ray_task(lambda: {"x": 1, "y": 2}, task_id="named")())
        same.override(task_id="of_none").expand(x=ray_task(lambda: [], task_id="no_items")())
        task(lambda uri: get(uri), task_id="plain").expand(uri=ray_task(lambda: ("a", "b"), task_id="two")())

        @task_group
        def group(x):
            same.override(task_id="inside")(x)

        group.expand(x=items)
    run = run_dag(dag)
    assert [run.xcom("same", map_index=i) for i in range(3)] == listed()
    assert [run.xcom("group.inside", map_index=i) for i in range(3)] == listed()
    assert run.xcom("whole") == listed()
    assert run.xcom("named_arguments")[0] == 1
    assert [run.xcom("classic", map_index=i) for i in range(2)] == [1, 2]
    assert [run.xcom("pair", map_index=i) for i in range(2)] == [["x", 1], ["y", 2]]
    assert run.task_states("of_none") == ["skipped"]
    assert [run.xcom("plain", map_index=i) for i in range(2)] == ["a", "b"]


@pytest.mark.slow
def test_mapped_tasks_expand_over_a_deferred_one_with_checkpoints(dag, tmp_path, monkeypatch):
    monkeypatch.setattr(base, "SHORT_SECONDS", 0.0)
    with dag:
        items = ray_task(
            lambda: [1, 2], task_id="listed", deferrable=True, checkpoint=True, checkpoint_path=f"file://{tmp_path}"
        )()
        ray_task(lambda x: x, task_id="same", result="value").expand(x=items)
    run = run_dag(dag)
    assert [run.xcom("same", map_index=i) for i in range(2)] == [1, 2]


@pytest.mark.parametrize(
    ("result", "told"),
    [(lambda: 5, "has to be a list, a tuple or a dict, and is a int"), (lambda: "text", "is a str"),
     (lambda: range(2000), "has 2,000 items")],
)  # fmt: skip
def test_what_no_task_can_expand_over_is_told_before_anything_is_stored(dag, result, told, capfd):
    with dag:
        ray_task(lambda x: x, task_id="use").expand(x=ray_task(result, task_id="made")())
    assert run_dag(dag).task_states("made") == ["failed"]
    assert told in capfd.readouterr().out
    assert [each["type"] for each in RayHook("ray_gateway").list_objects(dag.dag_id) if each["type"]] == []


@pytest.mark.slow
def test_twenty_mapped_tasks_are_gathered(dag):
    with dag:
        squares = RayPythonOperator.partial(task_id="square", python_callable=lambda x: x * x).expand(
            op_args=[[i] for i in range(20)]
        )
        RayPythonOperator(task_id="sum", python_callable=sum, op_args=[squares.output], result="value")
    run = run_dag(dag)
    assert run.xcom("sum") == sum(i * i for i in range(20))
    assert ObjectURI.parse(run.xcom("square", map_index=7)).map_index == 7


def test_mapped_tasks_take_custom_resources(dag):
    with dag:
        RayPythonOperator.partial(
            task_id="mapped", python_callable=abs, resources={"gadget": 1}, result="value"
        ).expand(op_args=[[-1], [-2]])
    assert run_dag(dag).xcom("mapped", map_index=1) == 2


def test_task_group_is_part_of_the_uri(dag):
    with dag, TaskGroup("group"):
        RayPythonOperator(task_id="one", python_callable=lambda: 1)
    run = run_dag(dag)
    assert ObjectURI.parse(run.xcom("group.one")).task_id == "group.one"


def test_plain_context_variables_reach_a_callable_that_names_them(dag):
    def show(x, ds, run_id, logical_date, params, conf):
        return [x, ds, run_id, logical_date.isoformat(), type(logical_date).__module__, params["name"], conf]

    with dag:
        RayPythonOperator(task_id="show", python_callable=show, op_args=["x"], result="value")
    run = run_dag(dag, conf={"a": 1, "name": "of run"})
    x, ds, run_id, logical_date, module, name, conf = run.xcom("show")
    assert (x, run_id, module, name, conf) == ("x", run.run_id, "datetime", "of run", {"a": 1, "name": "of run"})
    assert logical_date.startswith(ds)


@pytest.mark.parametrize("name", ["ti", "task_instance", "dag", "dag_run", "var", "macros"])
def test_callable_that_names_a_live_object_is_refused_when_the_dag_is_parsed(name):
    namespace = {}
    exec(f"def function({name}): pass", namespace)
    with pytest.raises(RayConfigurationError, match=f"names '{name}'"):
        RayPythonOperator(task_id="task", python_callable=namespace["function"])


def test_argument_may_have_the_name_of_a_live_object(dag):
    with dag:
        RayPythonOperator(task_id="one", python_callable=lambda task: task, op_args=["given"], result="value")
        RayPythonOperator(task_id="two", python_callable=lambda var: var, op_kwargs={"var": "given"}, result="value")
    run = run_dag(dag)
    assert (run.xcom("one"), run.xcom("two")) == ("given", "given")


def test_arguments_may_all_come_from_another_task(dag):
    with dag:
        arguments = PythonOperator(task_id="arguments", python_callable=lambda: [1, 2])
        RayPythonOperator(
            task_id="add", python_callable=lambda task, y: task + y, op_args=arguments.output, result="value"
        )
    assert run_dag(dag).xcom("add") == 3


def test_poll_interval_of_zero_is_refused():
    with pytest.raises(RayConfigurationError, match="poll_interval"):
        RayPythonOperator(task_id="task", python_callable=print, poll_interval=0)


def test_failed_callable_fails_the_task_with_its_traceback_in_the_log(dag, capfd):
    def fail():
        raise ValueError("of the user")

    with dag:
        RayPythonOperator(task_id="fail", python_callable=fail)
    assert run_dag(dag).state == "failed"
    assert 'raise ValueError("of the user")' in capfd.readouterr().out


def test_output_of_the_callable_and_its_result_are_logged(dag, capfd):
    def talk():
        import logging

        print("said on the cluster")
        logging.getLogger("of").error("went wrong")
        return make_frame(3)

    with dag:
        RayPythonOperator(task_id="talk", python_callable=talk)
    run = run_dag(dag)
    log = capfd.readouterr().out
    assert "said on the cluster" in log
    (error,) = (line for line in log.splitlines() if "went wrong" in line)
    assert "[error" in error.lower()
    lines = log.splitlines()
    (result,) = (number for number, line in enumerate(lines) if "Result: " in line)
    assert f"{TYPES['pandas']} of shape (3, 1)" in lines[result]
    assert run.xcom("talk") in lines[result + 1]


def test_fetch_logs_false_keeps_the_output_out_of_the_log(dag, capfd):
    with dag:
        RayPythonOperator(task_id="talk", python_callable=lambda: print("said on the cluster"), fetch_logs=False)
    run_dag(dag)
    assert "said on the cluster" not in capfd.readouterr().out


def test_execution_timeout_cancels_the_remote_work(dag, tmp_path):
    def sleep(path):
        import os
        import time

        with open(path, "w") as file:
            file.write(str(os.getpid()))
        time.sleep(600)

    with dag:
        RayPythonOperator(
            task_id="sleep",
            python_callable=sleep,
            op_args=[str(tmp_path / "pid")],
            execution_timeout=timedelta(seconds=600),
        )

    def time_out():
        await_file(tmp_path / "pid")
        # What the timer of Airflow sends when the time is over.
        os.kill(os.getpid(), signal.SIGALRM)

    threading.Thread(target=time_out, daemon=True).start()
    run = run_dag(dag)
    uri = ObjectURI("ray_gateway", dag.dag_id, run.run_id, "sleep")
    assert (run.state, RayHook("ray_gateway").status(uri)) == ("failed", "CANCELLED")


def test_on_kill_cancels_the_remote_work(dag, tmp_path):
    gate = tmp_path / "started"

    def sleep(path):
        import time

        open(path, "w").close()
        time.sleep(600)

    with dag:
        operator = RayPythonOperator(task_id="sleep", python_callable=sleep, op_args=[str(gate)])

    def kill():
        while not gate.exists():
            time.sleep(0.05)
        operator.on_kill()

    threading.Thread(target=kill, daemon=True).start()
    with pytest.raises(Exception, match="was cancelled"):
        operator.execute(context_of(dag.dag_id))


def test_retried_task_runs_again_under_the_same_uri(dag, tmp_path):
    def fail_once(path):
        import os

        if not os.path.exists(path):
            open(path, "w").close()
            raise RuntimeError("first try")
        return "second try"

    with dag:
        RayPythonOperator(
            task_id="flaky",
            python_callable=fail_once,
            op_args=[str(tmp_path / "tried")],
            retries=1,
            retry_delay=timedelta(seconds=0),
        )
    run = run_dag(dag)
    assert get(run.xcom("flaky")) == "second try"


# Decorators


def test_decorated_tasks_mix_with_plain_ones(dag):
    @task
    def rows():
        return 5

    @ray_task
    def frame(rows):
        return make_frame(rows)

    @task.ray(num_cpus=0.5)
    def doubled(frame):
        return frame * 2

    @task
    def summed(uri):
        return int(get(uri)["a"].sum())

    with dag:
        summed(doubled(frame(rows())))
    assert run_dag(dag).xcom("summed") == 20


def test_decorated_task_is_overridden_mapped_and_partial(dag):
    @ray_task(result="value")
    def add(x, y):
        return x + y

    with dag:
        add.override(task_id="three")(1, 2)
        add.override(task_id="mapped").partial(y=10).expand(x=[1, 2])
    run = run_dag(dag)
    assert (run.xcom("three"), run.xcom("mapped", map_index=1)) == (3, 12)


def test_decorated_task_whose_annotation_is_a_dict_has_several_outputs(dag):
    @ray_task
    def parts() -> dict[str, list[int]]:
        return {"a": [1], "b": [2]}

    with dag:
        parts()
    assert get(run_dag(dag).xcom("parts", key="b")) == [2]


def test_decorated_mapped_task_takes_custom_resources(dag):
    @ray_task(result="value", ray_options={"resources": {"gadget": 1}})
    def absolute(x):
        return abs(x)

    with dag:
        absolute.expand(x=[-1, -2])
    assert run_dag(dag).xcom("absolute", map_index=1) == 2


@pytest.mark.slow
def test_decorated_task_may_have_a_process_of_its_own(dag):
    @ray_task(result="value")
    def pid():
        import os

        return os.getpid()

    with dag:
        pid() >> pid.override(task_id="own", fresh_process=True)() >> pid.override(task_id="after")()
    run = run_dag(dag)
    assert run.xcom("own") not in (run.xcom("pid"), run.xcom("after"))


@pytest.mark.parametrize(("error", "state"), [(AirflowSkipException, "skipped"), (AirflowFailException, "failed")])
def test_decorated_task_may_skip_and_give_up(dag, error, state):
    class Own(error):
        pass

    @ray_task(retries=1)
    def end():
        raise Own("enough")

    with dag:
        end()
    assert run_dag(dag).task_states("end") == [state]


def test_decorated_task_gets_plain_context(dag):
    @ray_task(result="value")
    def show(x, run_id=None):
        return [x, run_id]

    with dag:
        show("x")
    run = run_dag(dag)
    assert run.xcom("show") == ["x", run.run_id]


def test_result_as_value_feeds_a_plain_operator(dag):
    with dag:
        value = RayPythonOperator(task_id="value", python_callable=lambda: {"a": [1]}, result="value")
        PythonOperator(task_id="plain", python_callable=lambda value: value["a"], op_args=[value.output])
    assert run_dag(dag).xcom("plain") == [1]
