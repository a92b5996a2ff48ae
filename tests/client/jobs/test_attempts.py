"""Which job a try of a task is: of an earlier try, or a new one."""

from __future__ import annotations

import re

import pytest

from airflow_ray.client.jobs import attempts
from airflow_ray.client.jobs.attempts import Attempt, job_name, submit_job
from airflow_ray.client.jobs.jobs import begin_job, job_info, open_dashboard, require_success, stop_job
from airflow_ray.exceptions import (
    RayAuthenticationError,
    RayConfigurationError,
    RayConnectionError,
    RayJobFailedError,
    RayJobLostError,
    RayJobStoppedError,
)
from airflow_ray.object_uri import ObjectURI
from tests.client.jobs.fake_dashboard import Job

BODY = {"entrypoint": "python train.py", "runtime_env": {"env_vars": {"A": "b"}}}


def attempt(number=1, generation="0", clearings=0, run="run", holder=None):
    of_try = {"number": number, "run": run, "clearings": clearings}
    return Attempt("name", of_try, generation, holder or f"{number} {generation}")


@pytest.fixture
def submitted(settings):
    """Submit what an attempt is, and return the id of its job."""

    def submit(attempt, body=BODY, with_result=False):
        with open_dashboard(settings) as dashboard:
            return submit_job(dashboard, attempt, body, with_result, lambda job: None)

    return submit


# Names


@pytest.mark.parametrize("task_id", ["a/b", "a b", "данные", "x" * 500, "group.task", "%2F", "Ünï"])
def test_name_is_one_that_ray_takes(task_id):
    name = job_name("airflow", ObjectURI("ray_here", "dag", "manual__2026-01-01T00:00:00+00:00", task_id))
    assert re.fullmatch(r"airflow-[A-Za-z0-9-]+", name)
    assert len(name) < 100


def test_names_are_told_apart_where_they_read_alike():
    tasks = [
        ("n", "a-b", "r", "c", -1),
        ("n", "a", "r", "b-c", -1),
        ("n", "a", "r", "b/c", -1),
        ("m", "a", "r", "b/c", 0),
    ]
    names = {job_name(namespace, ObjectURI("ray_here", *of_task)) for namespace, *of_task in tasks}
    assert len(names) == len(tasks)


# Tries


def test_retry_goes_on_with_the_job_that_runs(fake, submitted):
    assert submitted(attempt(1)) == submitted(attempt(2)) == "name"
    assert len(fake.submitted) == 1


def test_retry_takes_a_success_that_airflow_has_not_seen(fake, submitted):
    submitted(attempt(1))
    fake.jobs["name"].status = "SUCCEEDED"
    assert submitted(attempt(2)) == "name"


@pytest.mark.parametrize("status", ["FAILED", "STOPPED"])
def test_retry_begins_anew_after_a_job_without_success(fake, submitted, status):
    submitted(attempt(1))
    fake.jobs["name"].status = status
    assert submitted(attempt(2)) == "name-2"


def test_first_try_goes_on_with_none(fake, submitted):
    submitted(attempt(1, holder="a"))
    assert submitted(attempt(1, holder="b")) == "name-2"
    assert fake.jobs["name"].status == "STOPPED"


@pytest.mark.parametrize("other", [{"entrypoint": "python other.py"}, {**BODY, "runtime_env": {}}])
def test_retry_of_something_else_stops_what_runs(fake, submitted, other):
    submitted(attempt(1))
    assert submitted(attempt(2), other) == "name-2"
    assert fake.jobs["name"].status == "STOPPED"


def test_cleared_task_stops_what_runs_and_begins_anew(fake, submitted):
    submitted(attempt(1))
    assert submitted(attempt(2, generation="1")) == "name-2"
    assert fake.jobs["name"].status == "STOPPED"


def test_success_of_before_the_run_was_cleared_is_not_taken(fake, submitted):
    submitted(attempt(1))
    fake.jobs["name"].status = "SUCCEEDED"
    assert submitted(attempt(2, clearings=1)) == "name-2"


def test_success_is_not_taken_where_airflow_does_not_tell_of_clearings(fake, submitted):
    submitted(attempt(1, clearings=None))
    fake.jobs["name"].status = "SUCCEEDED"
    assert submitted(attempt(2, clearings=None)) == "name-2"


def test_job_of_a_run_of_before_under_the_same_id_is_not_gone_on_with(fake, submitted):
    submitted(attempt(1, run="deleted since"))
    assert submitted(attempt(2)) == "name-2"
    assert fake.jobs["name"].status == "STOPPED"


def test_job_of_somebody_else_under_the_same_id_is_left_alone(fake, submitted):
    fake.jobs["name"] = Job(metadata={"airflow_try_number": "no number"})
    assert submitted(attempt(2)) == "name-2"
    assert fake.jobs["name"].status == "RUNNING"


def test_submission_whose_answer_was_lost_is_one_job(fake, settings):
    own = attempt(1)
    fake.jobs["name"] = Job(metadata=own.metadata(BODY))
    with open_dashboard(settings) as dashboard:
        assert submit_job(dashboard, own, BODY, False, lambda job: None) == "name"


def test_earlier_job_that_does_not_end_is_told(fake, submitted, monkeypatch):
    monkeypatch.setattr(attempts, "STOP_SECONDS", 0.0)
    fake.on_stop = lambda job: None
    submitted(attempt(1))
    with pytest.raises(
        RayConnectionError, match="the job name of an earlier try has not ended".replace("the", "The", 1)
    ):
        submitted(attempt(2, generation="1"))


def test_job_learns_where_to_leave_a_result_and_each_has_a_place_of_its_own(fake, submitted):
    submitted(attempt(1, holder="a"), with_result=True)
    submitted(attempt(1, holder="b"), with_result=True)
    paths = [each["runtime_env"]["env_vars"]["AIRFLOW_RAY_RESULT"] for each in fake.submitted]
    assert [path.rpartition("/")[2] for path in paths] == ["airflow-ray-result-name", "airflow-ray-result-name-2"]
    assert fake.submitted[0]["runtime_env"]["env_vars"]["A"] == "b"
    assert submitted(attempt(2), with_result=True) == "name-2"


def test_kill_finds_the_job_that_is_about_to_be(settings, fake):
    noted = []
    with open_dashboard(settings) as dashboard:
        submit_job(dashboard, attempt(1), BODY, False, lambda job: noted.append((job, job in fake.jobs)))
    assert noted == [("name", False)]


# What the dashboard says


def begun(settings, **options):
    return begin_job(settings, attempt(1), "true", {}, options, False, lambda job: None)


def test_entrypoint_gets_what_it_asks_for(fake, settings):
    begun(settings, num_cpus="1", num_gpus=0.5, memory="1000", resources={"gadget": "2"}, runtime_env={"pip": ["a"]})
    (body,) = fake.submitted
    assert [body[f"entrypoint_{name}"] for name in ("num_cpus", "num_gpus", "memory")] == [1, 0.5, 1000]
    assert (body["entrypoint_resources"], body["runtime_env"]) == ({"gadget": 2}, {"pip": ["a"]})


def test_empty_entrypoint_is_refused(settings):
    with pytest.raises(RayConfigurationError, match="entrypoint must be a command"):
        begin_job(settings, attempt(1), " ", {}, {"num_cpus": 0}, False, lambda job: None)


def test_dashboard_that_is_away_for_a_moment_is_waited_for(fake, settings):
    fake.refusals = [(503, "Unavailable")]
    assert begun(settings, num_cpus=0) == "name"


@pytest.mark.parametrize("status", [404, 405])
def test_dashboard_without_jobs_is_told(fake, settings, status):
    fake.refusals = [(status, "Not Found")] * 1_000
    with pytest.raises(RayConnectionError, match=r"has no Jobs API: .*Install ray\[default\]"):
        begun(settings.model_copy(update={"connect_timeout": 0.1}), num_cpus=0)


def test_kill_waits_for_a_job_that_is_on_its_way(fake, settings):
    fake.refusals = [(404, "Job name does not exist")]
    fake.jobs["name"] = Job()
    stop_job(settings, "name", 10.0)
    assert fake.jobs["name"].status == "STOPPED"


def test_kill_waits_for_a_dashboard_that_is_away_for_a_moment(fake, settings):
    fake.refusals = [(503, "Unavailable")]
    fake.jobs["name"] = Job()
    stop_job(settings, "name", 10.0)
    assert fake.jobs["name"].status == "STOPPED"


def test_kill_does_not_wait_for_a_dashboard_that_refuses_the_token(fake, settings):
    fake.refusals = [(403, "Forbidden")]
    fake.jobs["name"] = Job()
    with pytest.raises(RayAuthenticationError):
        stop_job(settings, "name", 10.0)
    assert fake.jobs["name"].status != "STOPPED"


def test_job_that_has_ended_is_not_stopped(fake, settings):
    fake.jobs["name"] = Job(status="SUCCEEDED")
    stop_job(settings, "name", 0.0)
    assert job_info(settings, "name")["status"] == "SUCCEEDED"


def test_job_that_nobody_knows_cannot_be_stopped(settings):
    with pytest.raises(RayJobLostError):
        stop_job(settings, "name", 0.0)


def test_end_is_told_by_the_last_status():
    require_success("job", {"status": "SUCCEEDED"})
    with pytest.raises(RayJobStoppedError, match="job was stopped"):
        require_success("job", {"status": "STOPPED"})
    with pytest.raises(RayJobFailedError, match="job has failed: exit code 3"):
        require_success("job", {"status": "FAILED", "message": "exit code 3"})
