"""RaySubmitJobOperator: against a dashboard that does what it is told, and as jobs of a real head without Ray here."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import textwrap
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pandas as pd
import psutil
import pytest

from airflow_ray import triggers
from airflow_ray._compat import AirflowTaskTimeout
from airflow_ray.client import deferral
from airflow_ray.client.connection.head_process import free_ports
from airflow_ray.client.connection.threads import start_in_thread
from airflow_ray.client.jobs import jobs
from airflow_ray.exceptions import (
    RayAuthenticationError,
    RayConfigurationError,
    RayJobFailedError,
    RayJobResultError,
    RayJobStoppedError,
    RayTaskCancelledError,
)
from airflow_ray.hooks.ray import RayHook
from airflow_ray.object_uri import ObjectURI
from airflow_ray.operators import job
from airflow_ray.operators.job import RaySubmitJobOperator
from airflow_ray.operators.python import RayPythonOperator
from airflow_ray.triggers import RayJobTrigger
from tests.airflow_kill import kill
from tests.client.jobs.conftest import fake as fake
from tests.client.jobs.fake_dashboard import Job, connection_uri
from tests.conftest import await_file
from tests.dag_runs import TaskInstance, context_of, new_dag, run_dag
from tests.without_ray import python_without_ray
from tests.without_ray import told as told_by

TOKEN = "0123456789abcdef0123456789abcdef"


def context(try_number=1, dag_id=None):
    return context_of(dag_id or f"dag_{uuid.uuid4().hex}", try_number=try_number)


def job_operator(conn_id="ray_here", entrypoint="python train.py", **kwargs):
    return RaySubmitJobOperator(task_id="by_hand", entrypoint=entrypoint, ray_conn_id=conn_id, **kwargs)


# What is asked of a dashboard


@pytest.fixture
def here(fake, monkeypatch):
    """A dashboard that fakes, as the connection ``ray_here``."""
    monkeypatch.setenv("AIRFLOW_CONN_RAY_HERE", connection_uri(fake.url))
    return fake


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"max_retries": 1}, "no max_retries"),
        ({"ray_options": {}, "fresh_process": True}, "no fresh_process, ray_options"),
        ({"checkpoint": True}, "needs a result"),
        ({"result": "file"}, "result must be"),
        ({"poll_interval": 0}, "poll_interval"),
        ({"memory": [10**9, 2 * 10**9]}, "memory of a job is one amount"),
    ],
)
def test_argument_that_is_wrong_is_told_when_the_dag_is_read(arguments, told):
    with pytest.raises(RayConfigurationError, match=told):
        job_operator(**arguments)


@pytest.mark.parametrize(
    ("connection", "told"),
    [("ray://?mode=local", "mode local runs no dashboard"), ("ray://?mode=driver", "dashboard_url is missing")],
)
def test_connection_without_a_dashboard_is_told(monkeypatch, connection, told):
    monkeypatch.setenv("AIRFLOW_CONN_RAY_HERE", connection)
    with pytest.raises(RayConfigurationError, match=told):
        job_operator().execute(context())


def test_job_says_which_task_it_is_of_and_what_the_user_says(here):
    of_task = context(dag_id="a/b")
    job = job_operator(metadata={"team": "x", "airflow_dag_id": "mine"}).execute(of_task)
    (body,) = here.submitted
    told = {name: text for name, text in body["metadata"].items() if not name.startswith("airflow_ray")}
    assert told == {
        "team": "x",
        "airflow_dag_id": "a/b",
        "airflow_run_id": TaskInstance.run_id,
        "airflow_task_id": "by_hand",
        "airflow_map_index": "-1",
        "airflow_try_number": "1",
    }
    assert job == body["submission_id"]


def test_link_leads_to_the_page_of_the_job(here):
    pushed = {}
    of_task = context()
    of_task["ti"].xcom_push = lambda key, value: pushed.update({key: value})
    job = job_operator().execute(of_task)
    assert [*pushed.values()] == [f"{here.url}/#/jobs/{job}"]


def test_job_goes_on_where_a_kill_is_not_to_stop_it(here, capfd):
    operator = job_operator(cancel_on_kill=False)
    operator._job, here.jobs["job-1"] = "job-1", Job()
    operator.on_kill()
    assert here.jobs["job-1"].status == "RUNNING"
    assert "The job job-1 goes on without this task" in capfd.readouterr().out


def test_job_does_not_begin_of_a_task_that_was_killed_while_it_sent_its_files(here, monkeypatch):
    operator, pack = job_operator(), jobs.packed_runtime_env

    def killed_meanwhile(*args):
        operator.on_kill()
        return pack(*args)

    monkeypatch.setattr(jobs, "packed_runtime_env", killed_meanwhile)
    with pytest.raises(RayTaskCancelledError, match="was killed before it had submitted its work"):
        operator.execute(context())
    assert here.submitted == []


@pytest.mark.parametrize(("cancel_on_kill", "status"), [(True, "STOPPED"), (False, "RUNNING")])
def test_job_whose_task_was_killed_as_it_submitted_it_is_stopped(here, monkeypatch, cancel_on_kill, status):
    monkeypatch.setattr(job, "KILL_SECONDS", 0.1)
    operator = job_operator(cancel_on_kill=cancel_on_kill)
    note = operator._note

    def killed_before_the_request(job_id):
        note(job_id)
        operator.on_kill()

    monkeypatch.setattr(operator, "_note", killed_before_the_request)
    with pytest.raises(RayTaskCancelledError, match="killed as it submitted the job"):
        operator.execute(context())
    assert [each.status for each in here.jobs.values()] == [status]


def test_timeout_while_the_output_is_read_ends_the_task(here, monkeypatch):
    """Airflow's timeout is a signal, whose handler raises wherever the main thread is."""

    def time_out(signal_number, frame):
        raise AirflowTaskTimeout("execution_timeout")

    async def read_for_ever():
        # A callback is where asyncio logs what is raised, and goes on.
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGUSR1)
        await asyncio.sleep(30)

    operator = job_operator()
    monkeypatch.setattr(operator, "_show_output", read_for_ever)
    before = signal.signal(signal.SIGUSR1, time_out)
    try:
        with pytest.raises(AirflowTaskTimeout):
            operator.execute(context())
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert [each.status for each in here.jobs.values()] == ["STOPPED"]


def test_each_try_begins_anew_where_the_task_is_not_durable(here):
    jobs = [job_operator(durable=False).execute(context(number, "same")) for number in (1, 2)]
    assert len({*jobs}) == 2


def test_timeout_stops_the_job(here, monkeypatch):
    operator = job_operator()

    async def time_out():
        raise AirflowTaskTimeout("execution_timeout")

    monkeypatch.setattr(operator, "_show_output", time_out)
    with pytest.raises(AirflowTaskTimeout):
        operator.execute(context())
    assert [job.status for job in here.jobs.values()] == ["STOPPED"]


def test_dashboard_that_does_not_answer_a_kill_is_told_with_what_to_do(here, capfd):
    operator = job_operator()
    operator._job = "job-1"
    here.refusals = [(502, "Bad Gateway")] * 100
    operator.on_kill()
    assert f"ray job stop job-1 --address {here.url}" in capfd.readouterr().out
    here.refusals, here.jobs["job-1"] = [], Job()
    operator.on_kill()
    assert here.jobs["job-1"].status == "STOPPED"


@pytest.fixture
def event():
    """What a trigger tells of the one job of a dashboard."""
    return {"status": triggers.ENDED, "resume": {"job": "job-1", "holder": "h", "deadline": None, "submissions": 1}}


def test_last_status_decides_whatever_the_trigger_has_seen(here, event):
    here.jobs["job-1"] = Job(status="FAILED", message="exit code 3")
    with pytest.raises(RayJobFailedError, match="exit code 3"):
        job_operator().job_complete(context(), event)


def test_kill_of_a_trigger_whose_connection_is_gone_says_that_the_job_may_go_on(capfd):
    kill(RayJobTrigger("ray_deleted", "job-1"))
    assert "may go on: The conn_id `ray_deleted` isn't defined" in capfd.readouterr().out


def test_deferred_job_that_takes_too_long_is_stopped(here, event):
    here.jobs["job-1"] = Job()
    with pytest.raises(AirflowTaskTimeout):
        job_operator().job_complete(context(), {**event, "status": triggers.TIMEOUT})
    assert here.jobs["job-1"].status == "STOPPED"


def test_error_of_the_trigger_is_that_of_the_task(here, event):
    told = {"status": triggers.ERROR, "type": "RayAuthenticationError", "message": "another token"}
    with pytest.raises(RayAuthenticationError, match="another token"):
        job_operator().job_complete(context(), {**event, **told})


def test_trigger_survives_being_stored():
    trigger = RayJobTrigger("ray_here", "job-1", 5.0, 1.5, False, {"job": "job-1"}, False)
    path, arguments = trigger.serialize()
    assert path == "airflow_ray.triggers.RayJobTrigger"
    assert RayJobTrigger(**json.loads(json.dumps(arguments))).serialize() == (path, arguments)


def event_of(trigger, monkeypatch):
    """Return what a trigger tells in the end."""
    monkeypatch.setattr(deferral, "MAX_SETTLE_SECONDS", 0.0)

    async def run():
        return [event async for event in trigger.run()]

    (event,) = asyncio.run(run())
    return event.payload


def test_trigger_tells_the_end_and_shows_the_output(here, monkeypatch, capfd):
    here.jobs["job-1"] = Job(messages=["one\ntwo\n"], end="FAILED")
    told = event_of(RayJobTrigger("ray_here", "job-1", 0.1, resume={"job": "job-1"}), monkeypatch)
    assert told == {"status": triggers.ENDED, "resume": {"job": "job-1"}}
    said = capfd.readouterr().out
    assert [said.count(line) for line in ("one", "two")] == [1, 1]


def test_trigger_tells_that_the_time_is_over(here, monkeypatch):
    here.jobs["job-1"] = Job(status="PENDING")
    assert event_of(RayJobTrigger("ray_here", "job-1", 0.1, deadline=0.0), monkeypatch)["status"] == triggers.TIMEOUT


def test_trigger_tells_that_the_job_is_lost(here, monkeypatch):
    told = event_of(RayJobTrigger("ray_here", "job-1", 0.1), monkeypatch)
    assert (told["status"], told["type"]) == (triggers.ERROR, "RayJobLostError")


# A real head


def uri_of(head, **extra):
    fields = {"dashboard_url": f"http://127.0.0.1:{head.dashboard_port}", **extra}
    return head.gateway_uri + "".join(f"&{name}={quote(value, safe='')}" for name, value in fields.items())


@pytest.fixture(scope="module")
def head() -> Iterator[object]:
    """A head with a dashboard, on whose path is the Python that has Ray; its connection is ``ray_jobs``."""
    from tests.ray_head import RayHead

    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    head = RayHead(dashboard_port=free_ports(1)[0], PATH=path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_RAY_JOBS", uri_of(head))
        yield head
    head.stop()


@pytest.fixture
def conn_id(head):
    return "ray_jobs"


@pytest.fixture
def script(tmp_path):
    """Write a script, and return the runtime environment that has it."""

    def write(text):
        (tmp_path / "scripts" / "helpers").mkdir(parents=True)
        (tmp_path / "scripts" / "helpers" / "__init__.py").write_text("def double(number):\n    return 2 * number\n")
        (tmp_path / "scripts" / "script.py").write_text(textwrap.dedent(text))
        return {"working_dir": str(tmp_path / "scripts")}

    return write


LEAVES_A_FRAME = """
    import os, sys
    import pandas as pd
    from helpers import double

    print("rows:", sys.argv[1], "caf\\u00e9")
    rows = range(double(int(sys.argv[1])))
    pd.DataFrame({"a": rows}).to_parquet(os.environ["AIRFLOW_RAY_RESULT"])
"""


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("deferrable", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_what_a_script_leaves_is_the_input_of_a_ray_task(head, conn_id, script, capfd, monkeypatch, deferrable):
    monkeypatch.setattr(deferral, "MAX_SETTLE_SECONDS", 0.0)
    dag = new_dag(params={"rows": 3})
    with dag:
        job = RaySubmitJobOperator(
            task_id="job",
            entrypoint="python script.py {{ params.rows }}",
            runtime_env=script(LEAVES_A_FRAME),
            result="ref",
            deferrable=deferrable,
            ray_conn_id=conn_id,
        )
        RayPythonOperator(
            task_id="sum",
            python_callable=lambda frame: int(frame["a"].sum()),
            op_args=[job.output],
            result="value",
            ray_conn_id=conn_id,
        )
    run = run_dag(dag)
    assert run.xcom("sum") == 15
    assert run.xcom("job") == str(ObjectURI(conn_id, dag.dag_id, run.run_id, "job"))
    assert capfd.readouterr().out.count("rows: 3 café") == 1
    assert [each for each in os.listdir("/tmp") if dag.dag_id.replace("_", "-") in each] == []


def test_failure_tells_the_last_lines_and_the_exit_code(conn_id, capfd):
    command = 'python -c \'print("epoch 1"); raise SystemExit("no data in 2026")\''
    with pytest.raises(RayJobFailedError, match=r"exit code 1(.|\n)*no data in 2026"):
        job_operator(conn_id, command).execute(context())
    assert "epoch 1" in capfd.readouterr().out


def test_kill_ends_the_job_with_all_that_it_has_started(conn_id, tmp_path):
    operator = job_operator(conn_id, f"sh -c 'sleep 600 & echo $! > {tmp_path}/pid; wait'")
    running = start_in_thread(lambda: operator.execute(context()))
    sleeping = psutil.Process(int(await_file(tmp_path / "pid")))
    operator.on_kill()
    with pytest.raises(RayJobStoppedError):
        running.result(300)
    sleeping.wait()


def test_retry_goes_on_with_the_job_of_the_try_before(conn_id, tmp_path):
    dag_id = f"dag_{uuid.uuid4().hex}"
    command = f"sh -c 'echo begun >> {tmp_path}/begun; while [ ! -e {tmp_path}/gate ]; do sleep 0.1; done'"
    lost = start_in_thread(lambda: job_operator(conn_id, command).execute(context(1, dag_id)))
    await_file(tmp_path / "begun")
    retry = start_in_thread(lambda: job_operator(conn_id, command).execute(context(2, dag_id)))
    (tmp_path / "gate").touch()
    assert retry.result(300) == lost.result(300)
    assert (tmp_path / "begun").read_text() == "begun\n"


@pytest.mark.slow
def test_value_of_a_script_is_returned(conn_id):
    command = "echo '{\"rows\": 3}' > $AIRFLOW_RAY_RESULT"
    with RayHook(conn_id).connect():
        assert job_operator(conn_id, command, result="value").execute(context()) == {"rows": 3}


WITHOUT_RAY = """
import json, sys
from airflow_ray.operators.job import RaySubmitJobOperator
from tests.dag_runs import context_of

operator = RaySubmitJobOperator(
    task_id="by_hand",
    entrypoint="echo 42 > $AIRFLOW_RAY_RESULT",
    ray_conn_id="ray_jobs",
    result="value",
)
value = operator.execute(context_of("without_ray"))
print(json.dumps([value, "ray" in sys.modules]))
"""


@pytest.mark.slow
def test_airflow_needs_no_ray_for_a_job_nor_for_its_result(conn_id, tmp_path):
    python = python_without_ray(tmp_path / "environment")
    assert told_by(python, "-c", WITHOUT_RAY) == [42, False]


@pytest.mark.slow
def test_script_that_leaves_nothing_is_told_what_to_write(conn_id):
    with pytest.raises(RayJobResultError, match="AIRFLOW_RAY_RESULT says"):
        job_operator(conn_id, "true", result="ref").execute(context())


@pytest.mark.slow
def test_checkpoint_of_what_a_script_leaves_outlives_the_object(conn_id, script, tmp_path):
    of_task = context()
    returned = job_operator(
        conn_id,
        "python script.py 3",
        runtime_env=script(LEAVES_A_FRAME),
        result="ref",
        checkpoint=True,
        checkpoint_path=f"file://{tmp_path}/checkpoints",
    ).execute(of_task)
    assert list((tmp_path / "checkpoints").rglob("manifest.json"))
    pd.testing.assert_frame_equal(RayHook(conn_id).get(returned), pd.DataFrame({"a": range(6)}))


@pytest.mark.slow
def test_entrypoint_runs_where_its_resources_are(conn_id):
    command = 'python -c \'import ray; ray.init(); print("free:", ray.available_resources().get("gadget"))\''
    job_operator(conn_id, command, resources={"gadget": 2}, num_cpus=1).execute(context())


@pytest.mark.slow
def test_output_that_is_no_utf8_and_long_lines_come_whole(conn_id, capfd):
    command = (
        r"""python -c 'import sys; sys.stdout.buffer.write(b"caf\xe9\n"); print(5_000_000 * "x"); print("the end")'"""
    )
    job_operator(conn_id, command).execute(context())
    said = capfd.readouterr().out
    assert said.count("caf\ufffd") >= 1
    assert said.count("x") > 5_000_000
    assert said.count("the end") >= 1


@pytest.mark.slow
def test_trigger_that_is_killed_by_a_person_stops_the_job(conn_id, tmp_path):
    operator = job_operator(conn_id, f"sh -c 'echo $$ > {tmp_path}/pid; sleep 600'")
    running = start_in_thread(lambda: operator.execute(context()))
    process = psutil.Process(int(await_file(tmp_path / "pid")))
    kill(RayJobTrigger(conn_id, operator._job))
    process.wait()
    with pytest.raises(RayJobStoppedError):
        running.result(300)


@pytest.fixture(scope="module")
def guarded_head() -> Iterator[object]:
    """A head whose dashboard asks for a token."""
    from tests.ray_head import RayHead

    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    head = RayHead(dashboard_port=free_ports(1)[0], PATH=path, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN)
    yield head
    head.stop()


@pytest.mark.slow
def test_token_of_the_connection_opens_the_dashboard(guarded_head, monkeypatch, capfd):
    url = f"http://127.0.0.1:{guarded_head.dashboard_port}"
    for conn_id, token in (("RAY_RIGHT", TOKEN), ("RAY_WRONG", "f" * 32)):
        connection = {**json.loads(connection_uri(url)), "password": token}
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id}", json.dumps(connection))
    job_operator("ray_right", "echo inside").execute(context())
    assert "inside" in capfd.readouterr().out
    with pytest.raises(RayAuthenticationError, match="another token than the password"):
        job_operator("ray_wrong", "echo inside").execute(context())
