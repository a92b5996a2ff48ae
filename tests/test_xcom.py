"""RayXComBackend in DAG runs with a real database, against a real Ray head."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import os
import uuid
from collections import namedtuple
from datetime import date, timedelta

import attrs
import numpy as np
import pandas as pd
import pytest
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import task, task_group
from airflow.sdk.bases.xcom import BaseXCom
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time import xcom as xcom_of_airflow
from airflow.sdk.execution_time.comms import XComResult

from airflow_ray import xcom
from airflow_ray.client import kept as kept_connection
from airflow_ray.client import xcom_values
from airflow_ray.client.client import RayClient
from airflow_ray.decorators import ray_task
from airflow_ray.exceptions import RayConfigurationError, RayObjectLostError, RayPicklingError
from airflow_ray.hooks.ray import RayHook
from airflow_ray.object_uri import ObjectURI
from airflow_ray.operators.python import RayPythonOperator
from airflow_ray.operators.release import RayReleaseOperator
from airflow_ray.sensors.object import RayObjectSensor
from airflow_ray.xcom import RayXComBackend
from tests.dag_runs import new_dag, run_dag

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture(params=["ray_gateway"])
def dag(request, head, monkeypatch):
    """A DAG whose XComs go through the backend, as if the setting had been there when Airflow was imported."""
    monkeypatch.setenv("AIRFLOW__AIRFLOW_RAY__XCOM_CONN_ID", request.param)
    use_backend(monkeypatch)
    yield new_dag(params={})
    kept_connection.close(request.param)
    xcom._inner_backend.cache_clear()


def use_backend(monkeypatch):
    for module in (xcom_of_airflow, task_runner):
        monkeypatch.setattr(module, "XCom", RayXComBackend)


def uri_of(run, dag, task_id, key="return_value", map_index=-1):
    return ObjectURI("ray_gateway", dag.dag_id, run.run_id, task_id, map_index, key)


def make_frame(rows=10):
    return pd.DataFrame({"a": range(rows)})


def total(frame):
    return int(frame["a"].sum())


# Between plain tasks and Ray tasks


@pytest.mark.parametrize("dag", ["ray_gateway", pytest.param("ray_client", marks=pytest.mark.slow)], indirect=True)
def test_frame_goes_from_a_plain_task_to_ray_and_back(dag):
    conn_id = os.environ["AIRFLOW__AIRFLOW_RAY__XCOM_CONN_ID"]

    def double(frame):
        return frame * 2

    with dag:
        doubled = ray_task(double, ray_conn_id=conn_id)(task(make_frame)())
        task(total)(doubled)
    run = run_dag(dag)
    assert run.xcom("total") == 90
    assert run.xcom("make_frame") == str(ObjectURI(conn_id, dag.dag_id, run.run_id, "make_frame"))


def test_worker_does_not_fetch_what_a_ray_task_receives(dag, mocker):
    fetched = mocker.spy(RayClient, "get_there")
    with dag:
        ray_task(total, result="value")(task(make_frame)())
    assert run_dag(dag).xcom("total") == 45
    assert fetched.call_count == 0


@pytest.mark.parametrize(
    "value",
    [None, "text", 1.5, [1, {"a": [True, None]}], {"täg/": "é"}, [], {}, "", (1, 2)],
    ids=repr,
)
def test_small_json_stays_in_the_database(dag, value):
    @task
    def give():
        return value

    @task
    def take(given):
        return [given == value, type(given).__name__]

    with dag:
        take(give())
    run = run_dag(dag)
    assert run.xcom("take") == [True, type(value).__name__]
    assert RayHook("ray_gateway").list_objects(dag.dag_id) == []


@dataclasses.dataclass
class Plan:
    steps: int = 1


@attrs.define
class Model:
    depth: int = 1


class Color(str, enum.Enum):
    RED = "red"


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    "value",
    [
        {1: "a"},
        {"deep": [{True: 1}]},
        Plan(2),
        Model(3),
        [Plan(1), {"a": Model(2)}],
        Color.RED,
        {"color": Color.RED},
        Point(1, 2),
        [math.nan],
        math.inf,
        [2**64],
        "\ud800",
        {"__classname__": "x"},
        {"__type": "x", "__var": 1},
    ],
    ids=repr,
)
def test_what_the_database_would_not_give_back_as_it_was_goes_to_ray(head, monkeypatch, value):
    monkeypatch.setenv("AIRFLOW__AIRFLOW_RAY__XCOM_CONN_ID", "ray_gateway")
    where = {"key": "return_value", "dag_id": "tests", "run_id": uuid.uuid4().hex, "task_id": "give", "map_index": -1}
    stored = json.loads(json.dumps(RayXComBackend.serialize_value(value, **where)))
    back = RayXComBackend.deserialize_value(XComResult(key="return_value", value=stored))
    assert repr(back) == repr(value)
    assert type(back) is type(value)
    assert RayHook("ray_gateway").release(dag_id="tests", run_id=where["run_id"]) != []


@pytest.mark.parametrize("value", [np.float64(1.5), {1, 2}, date(2026, 1, 1), {"a": (1, [2, {"b": (3,)}])}], ids=repr)
def test_what_airflow_gives_back_as_it_was_stays_in_the_database(value):
    where = {"key": "return_value", "dag_id": "tests", "run_id": "run", "task_id": "give", "map_index": -1}
    stored = RayXComBackend.serialize_value(value, **where)
    back = RayXComBackend.deserialize_value(XComResult(key="return_value", value=stored))
    assert (back, type(back)) == (value, type(value))


def test_date_stays_in_the_database_as_airflow_keeps_it(dag):
    import pendulum

    @task
    def give():
        return pendulum.datetime(2026, 1, 1)

    @task
    def take(given):
        return given.isoformat()

    with dag:
        take(give())
    assert run_dag(dag).xcom("take") == "2026-01-01T00:00:00+00:00"
    assert RayHook("ray_gateway").list_objects(dag.dag_id) == []


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.arange(10),
        lambda: "x" * 1_000_001,
        lambda: list(range(1_000_001)),
        lambda: object,
        lambda: pd.DataFrame(),
        lambda: b"bytes",
        lambda: {"nested": [(np.arange(3),)]},
    ],
    ids=["array", "long text", "long list", "class", "empty frame", "bytes", "nested array"],
)
def test_what_is_not_small_json_is_the_same_in_the_next_plain_task(dag, make):
    @task
    def give():
        return make()

    @task
    def take(given):
        return repr(given) == repr(make())

    with dag:
        take(give())
    assert run_dag(dag).xcom("take") is True
    assert len(RayHook("ray_gateway").list_objects(dag.dag_id)) == 1


def test_threshold_is_a_setting(dag, monkeypatch):
    monkeypatch.setenv("AIRFLOW__AIRFLOW_RAY__XCOM_THRESHOLD", "10")
    with dag:
        task(lambda: "short", task_id="short")()
        task(lambda: "longer than ten", task_id="long")()
    run = run_dag(dag)
    assert (run.xcom("short"), run.xcom("long")) == ("short", str(uri_of(run, dag, "long")))


def test_no_threshold_is_too_small_for_what_a_ray_task_tells(dag, monkeypatch, tmp_path):
    monkeypatch.setenv("AIRFLOW__AIRFLOW_RAY__XCOM_THRESHOLD", "0")
    monkeypatch.setenv("AIRFLOW__AIRFLOW_RAY__CHECKPOINT_PATH", f"file://{tmp_path}")
    with dag:
        frame = ray_task(make_frame, checkpoint=True)()
        ray_task(total)(frame)
    run = run_dag(dag)
    told = [run.xcom("make_frame", key=key) for key in ("return_value", "ray_checkpoint", "ray_object")]
    assert told[0] == str(uri_of(run, dag, "make_frame"))
    assert told[1]["path"] == f"file://{tmp_path}"
    assert told[2]["shape"] == [10, 1]
    assert RayHook("ray_gateway").get(run.xcom("total")) == 45


def test_no_threshold_is_too_small_for_uris_that_a_task_passes_on_or_for_the_address_of_a_button(monkeypatch):
    monkeypatch.setenv("AIRFLOW__AIRFLOW_RAY__XCOM_THRESHOLD", "0")
    uri = ObjectURI("ray_gateway", "d", "r", "t")
    for value in (str(uri), [str(uri)] * 100, {"a": [str(uri)]}, (str(uri),)):
        assert xcom_values.handed_over(value, uri) == value
    assert not xcom_values._is_of_uris({1: str(uri)})
    assert xcom_values.handed_over("http://head:8265", uri.with_key("_link_RayDashboardLink")) == "http://head:8265"


@pytest.mark.slow
def test_negative_threshold_leaves_all_json_in_the_database(dag, monkeypatch):
    monkeypatch.setenv("AIRFLOW__AIRFLOW_RAY__XCOM_THRESHOLD", "-1")
    with dag:
        task(lambda: "x" * 2_000_000, task_id="long")()
    assert len(run_dag(dag).xcom("long")) == 2_000_000


def test_several_outputs_of_a_plain_task_are_an_object_each(dag):
    @task(multiple_outputs=True)
    def split():
        return {"train": make_frame(10), "test": make_frame(4), "note": "small"}

    with dag:
        parts = split()
        ray_task(total, result="value")(parts["train"])
        task(lambda all_parts: [total(all_parts["train"]), total(all_parts["test"]), all_parts["note"]], task_id="all")(
            parts
        )
    run = run_dag(dag)
    assert (run.xcom("total"), run.xcom("all")) == (45, [45, 6, "small"])
    held = [ObjectURI.parse(each["uri"]) for each in RayHook("ray_gateway").list_objects(dag.dag_id)]
    assert [uri.key for uri in held if uri.task_id == "split"] == ["train", "test"]


def test_plain_task_gets_several_outputs_of_a_ray_task(dag):
    with dag:
        both = RayPythonOperator(
            task_id="both",
            python_callable=lambda: {"train": [1, 2], "test": [3]},
            multiple_outputs=True,
            ray_conn_id="ray_gateway",
        )
        task(lambda parts, one: [parts["train"], one], task_id="use")(both.output, both.output["test"])
    assert run_dag(dag).xcom("use") == [[1, 2], [3]]


def test_value_is_pulled_by_hand(dag):
    @task
    def push(ti=None):
        ti.xcom_push("frame", make_frame())

    @task
    def pull(ti=None):
        return total(ti.xcom_pull(task_ids="push", key="frame"))

    with dag:
        push() >> pull()
    run = run_dag(dag)
    assert (run.xcom("pull"), run.xcom("push", key="frame")) == (45, str(uri_of(run, dag, "push", "frame")))


def test_object_uri_that_a_plain_task_returns_is_the_object_for_the_next(dag):
    @task
    def put(run_id=None):
        return RayHook("ray_gateway").put(make_frame(), uri=ObjectURI("ray_gateway", dag.dag_id, run_id, "elsewhere"))

    with dag:
        task(total)(put())
    assert run_dag(dag).xcom("total") == 45


def test_template_of_a_plain_operator_shows_the_value(dag):
    with dag:
        made = task(lambda: np.arange(3), task_id="make")()
        made >> BashOperator(task_id="echo", bash_command="echo '{{ ti.xcom_pull(task_ids=\"make\") }}'")
    assert run_dag(dag).xcom("echo") == "[0 1 2]"


def test_sensor_gets_the_uri(dag):
    with dag:
        made = task(make_frame)()
        RayObjectSensor(task_id="wait", object_uri=made, poke_interval=0.1)
    assert run_dag(dag).task_states("wait") == ["success"]


# Mapped tasks


@pytest.mark.parametrize("on_ray", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_mapped_tasks_get_an_item_each_of_a_plain_list_of_frames(dag, on_ray, mocker):
    fetched = mocker.spy(RayClient, "get_there")

    @task
    def give():
        return [make_frame(rows) for rows in (1, 2, 3)]

    with dag:
        decorate = ray_task(result="value", ray_conn_id="ray_gateway") if on_ray else task
        decorate(total).expand(frame=give())
    run = run_dag(dag)
    assert [run.xcom("total", map_index=i) for i in range(3)] == [0, 1, 3]
    assert fetched.call_count == (0 if on_ray else 3)


@pytest.mark.parametrize("on_ray", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_outputs_of_mapped_tasks_are_gathered(dag, on_ray):
    def add(frames):
        return sum(int(frame["a"].sum()) for frame in frames)

    with dag:
        frames = task(make_frame).expand(rows=[1, 2, 3])
        (ray_task(result="value", ray_conn_id="ray_gateway") if on_ray else task)(add)(frames)
    assert run_dag(dag).xcom("add") == 4


@pytest.mark.slow
def test_mapped_ray_tasks_get_the_items_of_a_list_that_is_too_long_for_the_database(dag, monkeypatch):
    monkeypatch.setenv("AIRFLOW__AIRFLOW_RAY__XCOM_THRESHOLD", "100")
    with dag:
        numbers = task(lambda: list(range(100, 125)), task_id="numbers")()
        ray_task(lambda x: x + 1, task_id="more", result="value", ray_conn_id="ray_gateway").expand(x=numbers)
    run = run_dag(dag)
    assert [run.xcom("more", map_index=i) for i in (0, 24)] == [101, 125]


# What Airflow runs on the worker for a Ray task


def rows_of(frame):
    return len(frame)


@pytest.mark.slow
@pytest.mark.parametrize("on_ray", [True, False])
def test_functions_of_maps_get_values_on_the_way_to_a_ray_task(dag, on_ray):
    """All in one run, which takes most of the time."""
    decorate = ray_task(ray_conn_id="ray_gateway") if on_ray else task

    @task
    def frames():
        return [make_frame(rows) for rows in (1, 2, 3)]

    def as_list(x):
        return list(x)

    with dag:
        listed, mapped = frames(), decorate(make_frame).expand(rows=[4, 5])
        take = ray_task(as_list, result="value", ray_conn_id="ray_gateway")
        take.override(task_id="of_list")(listed.map(rows_of))
        take.override(task_id="of_mapped")(mapped.map(rows_of))
        take.override(task_id="of_concat")(listed.concat(mapped).map(rows_of).map(lambda rows: -rows))
        take.override(task_id="of_zip")(listed.zip(mapped).map(lambda pair: [*map(rows_of, pair)]))
        each = ray_task(lambda x: x, task_id="each", result="value", ray_conn_id="ray_gateway")
        each.expand(x=listed.map(rows_of))
        both = ray_task(lambda x, y: [x, *y], task_id="both", result="value", ray_conn_id="ray_gateway")
        both.partial(y=mapped.map(rows_of)).expand(x=mapped.map(rows_of))

        @task_group
        def group(rows):
            each.override(task_id="in_group")(rows)

        group.expand(rows=listed.map(rows_of))
    run = run_dag(dag)
    assert run.xcom("of_list") == [1, 2, 3]
    assert run.xcom("of_mapped") == [4, 5]
    assert run.xcom("of_concat") == [-1, -2, -3, -4, -5]
    assert run.xcom("of_zip") == [[1, 4], [2, 5]]
    assert [run.xcom("each", map_index=i) for i in range(3)] == [1, 2, 3]
    assert [run.xcom("both", map_index=i) for i in range(2)] == [[4, 4, 5], [5, 4, 5]]
    assert [run.xcom("group.in_group", map_index=i) for i in range(3)] == [1, 2, 3]


def test_branches_sensors_and_templates_get_values(dag):
    @task.branch
    def choose(frame):
        return "many" if len(frame) > 5 else "few"

    with dag:
        made = ray_task(make_frame, ray_conn_id="ray_gateway")()
        choose(made) >> [task(lambda: 1, task_id=name)() for name in ("many", "few")]
        task.sensor(lambda frame: len(frame) == 10, task_id="watch", poke_interval=0.1)(made)
        task.short_circuit(lambda frame: frame.empty, task_id="stop")(made) >> task(lambda: 1, task_id="stopped")()
        BashOperator(task_id="echo", bash_command="echo '{{ ti.xcom_pull(task_ids=\"make_frame\").size }}'")
        made >> dag.get_task("echo")
    run = run_dag(dag)
    states = {name: run.task_states(name) for name in ("many", "few", "watch", "stopped")}
    assert states == {"many": ["success"], "few": ["skipped"], "watch": ["success"], "stopped": ["skipped"]}
    assert run.xcom("echo") == 10


# With and without the backend


def test_values_of_both_are_read_by_both(dag, monkeypatch):
    with dag:
        task(make_frame)()
    run = run_dag(dag)
    with_backend = run.xcom("make_frame")
    plain = BaseXCom.serialize_value({"a": [1]})
    wrapped = type("Wrapped", (), {"value": plain})
    assert RayXComBackend.deserialize_value(wrapped) == {"a": [1]}
    assert BaseXCom.deserialize_value(type("Wrapped", (), {"value": with_backend})) == with_backend
    assert total(RayHook("ray_gateway").get(with_backend)) == 45


def test_other_backend_underneath_stores_what_does_not_go_to_ray(dag, monkeypatch, tmp_path):
    monkeypatch.setenv(
        "AIRFLOW__AIRFLOW_RAY__XCOM_INNER_BACKEND",
        "airflow.providers.common.io.xcom.backend.XComObjectStorageBackend",
    )
    monkeypatch.setenv("AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH", f"file://{tmp_path}")
    monkeypatch.setenv("AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD", "1000")
    xcom._inner_backend.cache_clear()
    with dag:
        text = task(lambda: "x" * 5000, task_id="text")()
        task(lambda text, frame: [len(text), total(frame)], task_id="use")(text, task(make_frame)())
    run = run_dag(dag)
    assert run.xcom("use") == [5000, 45]
    assert run.xcom("text").startswith("file://")
    assert run.xcom("make_frame") == str(uri_of(run, dag, "make_frame"))


@pytest.mark.parametrize("name", ["airflow_ray.xcom.RayXComBackend", "json.dumps"])
def test_other_backend_that_is_none_is_refused(dag, monkeypatch, name):
    monkeypatch.setenv("AIRFLOW__AIRFLOW_RAY__XCOM_INNER_BACKEND", name)
    xcom._inner_backend.cache_clear()
    with pytest.raises(RayConfigurationError, match="xcom_inner_backend"):
        RayXComBackend.serialize_value(1)


# Failures and the end of objects


def test_value_that_cannot_be_pickled_is_told(dag, capfd):
    @task
    def give():
        return (i for i in range(3))

    with dag:
        give()
    assert run_dag(dag).state == "failed"
    assert RayPicklingError.__name__ in "".join(capfd.readouterr())


def test_object_that_is_gone_is_told_with_the_task_to_clear(dag):
    uri = ObjectURI("ray_gateway", dag.dag_id, "run", "make")
    with pytest.raises(RayObjectLostError, match="clear that task"):
        RayXComBackend.deserialize_value(type("Wrapped", (), {"value": str(uri)}))


def deleted(dag, monkeypatch, value, map_index=-1):
    """Delete what the task ``make`` has pushed, as Airflow does when a try starts; return what was asked of its API."""
    sent = []

    class Supervisor:
        def send(self, message):
            sent.append(type(message).__name__)
            return XComResult(key="return_value", value=value)

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Supervisor(), raising=False)
    RayXComBackend.delete("return_value", "make", dag.dag_id, "run", map_index)
    return sent


def test_next_try_frees_what_the_one_before_has_put(dag, monkeypatch):
    uri = ObjectURI("ray_gateway", dag.dag_id, "run", "make", 2)
    other = ObjectURI("ray_gateway", dag.dag_id, "run", "of_another_task")
    hook = RayHook("ray_gateway")
    for each in (uri, other):
        hook.put(1, uri=each)
    sent = deleted(dag, monkeypatch, {"own": str(uri), "passed on": [str(other)]}, map_index=2)
    assert (sent[0], sent[-1]) == ("GetXCom", "DeleteXCom")
    assert [each["uri"] for each in hook.list_objects(dag.dag_id)] == [str(other)]


def test_next_try_takes_what_the_one_before_has_made_though_its_xcom_is_deleted(dag, monkeypatch, tmp_path):
    succeed, failed = task_runner._handle_current_task_success, []

    def succeed_later(context, ti):
        if not failed:
            failed.append(ti.xcom_pull("make"))
            raise RuntimeError("the first time")
        return succeed(context, ti)

    def make(path):
        with open(path, "a") as file:
            file.write("started\n")
        return make_frame()

    monkeypatch.setattr(task_runner, "_handle_current_task_success", succeed_later)
    with dag:
        made = ray_task(make, retries=1, retry_delay=timedelta(0))(str(tmp_path / "starts"))
        ray_task(total, result="value")(made)
    run = run_dag(dag)
    assert (run.state, run.xcom("total"), len(failed)) == ("success", 45, 1)
    assert (tmp_path / "starts").read_text() == "started\n"


def test_deletion_goes_on_where_the_cluster_does_not_answer(dag, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_RAY_GONE", "ray://127.0.0.1:1")
    uri = ObjectURI("ray_gone", dag.dag_id, "run", "make")
    assert deleted(dag, monkeypatch, str(uri))[-1] == "DeleteXCom"


# Teardown


def test_teardown_frees_all_of_the_run_though_a_task_has_failed(dag):
    @ray_task(ray_conn_id="ray_gateway")
    def fail(frame):
        raise ValueError

    with dag:
        made = ray_task(make_frame, ray_conn_id="ray_gateway")()
        release = RayReleaseOperator(task_id="release", ray_conn_id="ray_gateway")
        made >> fail(made) >> release.as_teardown(setups=made.operator)
    run = run_dag(dag)
    assert (run.state, run.task_states("release")) == ("failed", ["success"])
    assert RayHook("ray_gateway").list_objects(dag.dag_id) == []


def test_release_of_given_objects_leaves_the_others(dag):
    with dag:
        one, two, three = (ray_task(make_frame, task_id=name, ray_conn_id="ray_gateway")() for name in "abc")
        RayReleaseOperator(task_id="release", object_uri=[one, {"nested": two}])
        [one, two, three] >> dag.get_task("release")
    run = run_dag(dag)
    assert [each["uri"] for each in RayHook("ray_gateway").list_objects(dag.dag_id)] == [str(uri_of(run, dag, "c"))]


def test_release_of_an_object_that_was_never_made_leaves_the_others(dag):
    with dag:
        kept = ray_task(make_frame, ray_conn_id="ray_gateway")()
        nothing = task(lambda: None, task_id="nothing")()
        kept >> RayReleaseOperator(task_id="release", object_uri=nothing)
    run = run_dag(dag)
    assert run.task_states("release") == ["success"]
    assert len(RayHook("ray_gateway").list_objects(dag.dag_id)) == 1


def test_release_of_what_is_no_object_uri_fails(dag):
    with dag:
        RayReleaseOperator(task_id="release", object_uri=json.dumps({}))
    assert run_dag(dag).state == "failed"


def test_parts_with_dots_in_their_names_are_objects_of_their_own(monkeypatch):
    stored = {}

    def put(value, uri):
        stored[str(uri)] = value
        return str(uri)

    monkeypatch.setattr(xcom_values, "_put", put)
    frames = [pd.DataFrame({"a": [number]}) for number in range(4)]
    value = {"a": {"x": frames[0]}, "a.x": frames[1], "a%2Ex": frames[2], "b": [frames[3]]}
    told = xcom_values._with_uris(value, ObjectURI("ray_gateway", "d", "r", "t"))
    uris = [told["a"]["x"], told["a.x"], told["a%2Ex"], told["b"][0]]
    assert [stored[uri]["a"].item() for uri in uris] == [0, 1, 2, 3]
