"""The command line: ``airflow ray`` and ``python -m airflow_ray``."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from importlib.metadata import version

import pytest
from packaging.version import Version

from airflow_ray.__main__ import main
from airflow_ray.client.connection.head_process import free_ports
from airflow_ray.client.doctor import diagnose
from airflow_ray.client.doctor.diagnosis import XCOM_BACKEND
from airflow_ray.client.doctor.readable import first_lines, quantity, readable_bytes, readable_seconds
from airflow_ray.cluster.values.preview import preview
from airflow_ray.hooks.ray import RayHook
from airflow_ray.object_uri import ObjectURI
from tests.checkpointing import connection_of
from tests.conftest import new_uri
from tests.dags.helpers.frame_kinds import TYPES
from tests.modin import needs_modin
from tests.ray_head import RayHead

CONNECTION = "ray_gateway"
# Airflow 3.1 has no place for commands of providers.
PROGRAM = ("airflow", "ray") if Version(version("apache-airflow")) >= Version("3.2") else ("airflow_ray",)


class Sealed:
    """Can be unpickled in any process but one."""

    def __init__(self, pid):
        self.pid = pid

    def __reduce__(self):
        return unsealed, (self.pid,)

    def __repr__(self):
        return "what is sealed"


def unsealed(pid):
    if os.getpid() == pid:
        raise ImportError("must not be unpickled here")
    return Sealed(pid)


def make_frame(rows):
    import pandas as pd

    return pd.DataFrame({"number": range(rows), "name": "abc"})


def fail():
    raise ValueError("the column\nis missing")


@pytest.fixture(scope="module")
def hook(head: RayHead):
    """A connected hook; the commands share its connection as a driver."""
    with RayHook(CONNECTION).connect() as hook:
        yield hook


@pytest.fixture
def uri(hook):
    return new_uri(CONNECTION)


@pytest.fixture
def cli(capsys):
    """Return a function that runs a command and gives its exit status and what it printed."""

    def run(*arguments: object) -> tuple[int, str]:
        status = 0
        # What the test itself has logged.
        capsys.readouterr()
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as exit_:
            if isinstance(exit_.code, str):
                print(exit_.code)
            status = 1 if isinstance(exit_.code, str) else exit_.code
        return status, capsys.readouterr().out

    return run


def made(hook, uri, fn, *args, **options):
    hook.submit(fn, *args, uri=uri, **options)
    hook.wait(uri)
    return uri


def command_line(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True)


# The real command line


def test_airflow_offers_the_commands_and_prints_nothing_but_what_was_asked_for(hook, uri):
    made(hook, uri, make_frame, 1000)
    finished = command_line(*PROGRAM, "objects", "--conn-id", CONNECTION, "--run-id", uri.run_id, "-o", "json")
    (found,) = json.loads(finished.stdout)
    assert (found["uri"], found["rows"], found["state"]) == (str(uri), 1000, "SUCCEEDED")


def test_error_is_one_line_on_stderr(head):
    finished = command_line("airflow_ray", "get", "ray-object://nonsense")
    assert (finished.returncode, finished.stdout) == (1, "")
    # Some releases of Airflow tell before it what they load.
    assert re.fullmatch(r"(.*\[info .*\n)*.*is a malformed object URI.*\n", finished.stderr)


@pytest.mark.slow
def test_what_every_call_of_airflow_imports_is_light():
    script = (
        "import sys, airflow.cli.cli_config, airflow_ray; before = set(sys.modules); import airflow_ray.cli\n"
        "airflow_ray.cli.get_cli_commands(); print(sorted(set(sys.modules) - before))"
    )
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert finished.stdout.splitlines()[-1] == "['airflow_ray.cli', 'airflow_ray.cluster.protocol']"


def test_connection_in_the_database_is_found(head, database, cli):
    from airflow.models import Connection
    from airflow.utils.session import create_session

    with create_session() as session:
        session.add(
            Connection("ray_in_database", "ray", host="127.0.0.1", port=head.ports[0], extra={"mode": "driver"})
        )
    assert cli("objects", "--conn-id", "ray_in_database", "--dag-id", "no_such_dag") == (0, "No data found\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["get", "ray-objects://x"], "is not an object URI"),
        (["describe", "ray-object://x/y"], "is a malformed object URI"),
        (["describe", "ray-object://nobody/dag/run/task/-1/key"], "`nobody` isn't defined"),
        (["objects", "--conn-id", "nobody"], "`nobody` isn't defined"),
        (["release"], "Say what to free"),
        (["release", "--run-id", "run"], "Say what to free"),
        (["release", "ray-object://ray_gateway/d/r/t/-1/k", "--dag-id", "d"], "Say what to free"),
        (["release", "ray-object://ray_gateway/d/r/t/-1/k", "nonsense"], "'nonsense' is not an object URI"),
    ],
)
def test_bad_input_is_told(cli, arguments, said):
    status, text = cli(*arguments)
    assert (status, said in text) == (1, True)


@pytest.mark.parametrize("rows", ["0", "-3", "many"])
def test_head_must_be_a_positive_number(cli, rows):
    assert cli("get", "ray-object://x", "--head", rows)[0] == 2


def test_cluster_that_is_down_is_told(cli, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_RAY_DOWN", f"ray://127.0.0.1:{free_ports(1)[0]}")
    status, text = cli("objects", "--conn-id", "ray_down")
    assert (status, "Connection refused" in text) == (1, True)


# objects, describe


def test_objects_are_listed_with_readable_numbers(hook, uri, cli):
    made(hook, uri, make_frame, 1_000_000)
    _, text = cli("objects", "--conn-id", CONNECTION, "--dag-id", uri.dag_id, "--run-id", uri.run_id)
    header, _, row, *_ = text.splitlines()
    assert header.split(" | ")[0].strip() == "uri"
    assert re.match(rf"{uri} \| SUCCEEDED \| pandas\.\S+ \| 1,000,000 \| 2 +\| [\d.]+ MB +\| \S+ +\| \S+ s", row)


def test_object_of_another_dag_is_not_listed(hook, uri, cli):
    made(hook, uri, len, "abc")
    status, text = cli("objects", "--conn-id", CONNECTION, "--dag-id", "another", "-o", "json")
    assert (status, json.loads(text)) == (0, [])


def test_object_is_described(hook, uri, cli):
    made(hook, uri, make_frame, 10)
    consumer = made(hook, new_uri(CONNECTION), len, uri)
    _, text = cli("describe", consumer)
    assert f"{uri}, from the store" in text
    assert re.search(r"output return_value *\| int, \d+ bytes", text)


def test_failure_is_described_with_its_traceback(hook, uri, cli):
    hook.submit(fail, uri=uri)
    list(hook.client.follow(uri))
    status, text = cli("describe", uri)
    assert (status, "ValueError: the column" in text) == (0, True)
    assert 'raise ValueError("the column' in text
    assert json.loads(cli("describe", uri, "-o", "json")[1])["error"]["type"] == "ValueError"


def test_description_of_what_is_not_known_is_an_error(hook, uri, cli):
    status, text = cli("describe", uri)
    assert (status, f"does not know the work for {uri}" in text) == (1, True)


# get


def test_head_of_a_large_frame_comes_alone(hook, uri, cli):
    made(hook, uri, make_frame, 1_000_000)
    status, text = cli("get", uri, "--head", 2)
    assert status == 0
    assert re.match(rf"{TYPES['pandas']}, shape 1,000,000 x 2, [\d.]+ MB\n", text)
    assert [line.split() for line in text.splitlines()[1:]] == [
        ["number", "name"],
        ["0", "0", "abc"],
        ["1", "1", "abc"],
    ]
    assert cli("objects", "--conn-id", CONNECTION, "--dag-id", "airflow_ray")[1] == "No data found\n"


def test_object_that_cannot_be_unpickled_here_is_shown(hook, cli):
    uri = made(hook, ObjectURI(CONNECTION, "dä/g", "rün", "täsk"), Sealed, os.getpid())
    assert "what is sealed" in cli("get", uri)[1]


def test_head_of_a_dataset_is_shown(hook, uri, cli):
    def make():
        import ray

        return ray.data.from_items([{"number": 7, "name": None}] * 20).materialize()

    made(hook, uri, make)
    assert cli("get", uri, "--head", 1)[1].splitlines()[1:] == ["  number  name", "0      7  None"]


@needs_modin
def test_head_of_a_modin_frame_is_shown(hook, uri, cli):
    def make():
        import modin.pandas as pd

        return pd.DataFrame({"number": range(5000)})

    made(hook, uri, make)
    assert cli("get", uri, "--head", 2)[1].splitlines()[1:] == ["   number", "0       0", "1       1"]


def test_object_of_a_failed_task_is_an_error(hook, uri, cli):
    hook.submit(fail, uri=uri)
    list(hook.client.follow(uri))
    status, text = cli("get", uri)
    assert (status, "its task is FAILED" in text) == (1, True)


def test_preview_of_tables_of_any_kind():
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    columns = {"number": [1, 2, 3, 4], "name": ["a", None, "c", "d"]}
    for value in (pd.DataFrame(columns, dtype=object), pl.DataFrame(columns), pl.LazyFrame(columns), pa.table(columns)):
        text = preview(value, 2, 80)
        assert re.search(r"number.*name", text)
        assert re.search(r"2.*(None|null)", text)
        assert not re.search(r"[34cd]", text.replace("i64", "").replace("polars", ""))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (list(range(100)), "[0, 1, ...]"),
        ({"a": 1, "b": 2, "c": 3}, "{'a': 1, 'b': 2, ...}"),
        ("x" * 10_000, r"'x{900,1000}\.\.\.x{900,1000}'"),
        (None, "None"),
        (3.5, "3.5"),
    ],
    ids=["list", "dict", "text", "none", "number"],
)
def test_preview_of_other_values_is_short(value, shown):
    text = preview(value, 2, 80)
    assert text == shown or re.fullmatch(shown, text)


def test_preview_of_frames_in_a_tuple_shows_each():
    assert preview((make_frame(9), "y"), 1, 80) == "[0]\n   number name\n0       0  abc"
    assert preview((make_frame(9), "y"), 2, 80).endswith("[1]\n'y'")


def test_preview_of_an_array_is_short():
    import numpy as np

    assert preview(np.zeros((1000, 2)), 2, 80) == "array([[0., 0.],\n       [0., 0.]])"
    assert len(preview(np.zeros((5, 1_000_000)), 5, 80)) < 1000
    assert preview(np.array(1), 5, 80) == "array(1)"


# release


def test_named_objects_are_freed_with_the_other_outputs_of_their_task(hook, uri, cli):
    made(hook, uri, lambda: {"train": b"x" * 2000, "test": b"x" * 1000}, multiple_outputs=True)
    status, text = cli("release", uri.with_key("train"), uri.with_key("test"))
    assert status == 0
    assert [line.split()[0] for line in text.splitlines()[:2]] == [str(uri.with_key(key)) for key in ("train", "test")]
    assert re.fullmatch(r"Freed 2 objects, 3\.\d+ kB", text.splitlines()[2])
    assert hook.status(uri) == "LOST"


def test_object_that_is_not_there_is_told_and_the_others_are_freed(hook, uri, cli):
    made(hook, uri, len, "abc")
    status, text = cli("release", new_uri(CONNECTION, "nowhere"), uri)
    assert (status, "Not in the cluster" in text) == (1, True)
    assert hook.status(uri) == "LOST"


@pytest.mark.parametrize(("answer", "freed"), [("y\n", True), ("n\n", False), ("", False)])
def test_objects_of_a_run_are_freed_when_the_user_agrees(hook, uri, cli, monkeypatch, answer, freed):
    made(hook, uri, len, "abc")
    answers = iter([answer.strip()] if answer else [])

    def ask(question):
        assert re.fullmatch(r"Free 1 object, \d+ bytes\? \[y/N\] ", question)
        try:
            return next(answers)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", ask)
    assert cli("release", "--conn-id", CONNECTION, "--dag-id", uri.dag_id, "--run-id", uri.run_id)[0] == 0
    assert (hook.status(uri) == "LOST") is freed


def test_work_under_way_is_cancelled_and_told(hook, uri, cli):
    hook.submit(time.sleep, 600, uri=uri)
    status, text = cli("release", "--conn-id", CONNECTION, "--dag-id", uri.dag_id, "--run-id", uri.run_id, "--yes")
    assert (status, text) == (0, f"{uri}  cancelled\nFreed 0 objects, 0 bytes\n")
    assert hook.status(uri) == "LOST"


# doctor


def outcomes(conn_id):
    return {finding.name: finding for finding in diagnose(RayHook(conn_id))}


@pytest.fixture
def examined(monkeypatch):
    """Return a function that examines a connection."""

    def examine(connection: str) -> dict:
        monkeypatch.setenv("AIRFLOW_CONN_RAY_EXAMINED", connection)
        return outcomes("ray_examined")

    return examine


def test_doctor_finds_nothing_wrong(hook, head, cli, monkeypatch, tmp_path):
    connection = connection_of(head, "client", checkpoint_path=f"file://{tmp_path}")
    monkeypatch.setenv("AIRFLOW_CONN_RAY_EXAMINED", connection)
    status, text = cli("doctor", "--conn-id", "ray_examined")
    assert status == 0
    lines = text.splitlines()
    assert [line[:8].strip() for line in lines] == ["ok"] * 11 + ["skipped"]
    assert "1 node: 4 CPU" in text
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_doctor_ends_with_status_1_and_a_remedy(cli):
    status, text = cli("doctor", "--conn-id", "nobody")
    assert status == 1
    assert "failed   connection       The conn_id `nobody` isn't defined" in text
    assert "AIRFLOW_CONN_NOBODY=ray://:TOKEN@HEAD?mode=gateway" in text
    assert "skipped  cluster          needs host" in text


@pytest.mark.parametrize(
    ("connection", "step", "text", "remedy"),
    [
        ("ray://head?mode=teleport", "connection", "mode must be one of", "Correct that setting"),
        ("ray://no-such-host.invalid", "host", r"no-such-host\.invalid: ", "Correct the host"),
        ("ray://127.0.0.1:{closed}", "cluster", "Connection refused", "ray status"),
        ("ray://127.0.0.1:{control}", "cluster", "another service listens", "ray status"),
    ],
)
def test_doctor_names_the_step_that_fails(head, examined, connection, step, text, remedy):
    found = examined(connection.format(closed=free_ports(1)[0], control=head.ports[0]))
    assert [name for name, finding in found.items() if finding.outcome == "failed"] == [step]
    assert re.search(text, found[step].text)
    assert remedy in found[step].remedy


@pytest.mark.parametrize(
    ("path", "step", "remedy"),
    [
        ("no path", "checkpoint path", "Correct that setting"),
        ("file:///proc/nowhere", "checkpoint write", "See that the bucket or folder exists"),
        ("s3://no-such-bucket/x", "checkpoint write", "See that the bucket or folder exists"),
    ],
)
def test_doctor_names_what_is_wrong_with_checkpoints(hook, head, s3, examined, monkeypatch, path, step, remedy):
    monkeypatch.setenv("AIRFLOW_CONN_S3", s3.connection())
    conn_id = {"checkpoint_conn_id": "s3"} if path.startswith("s3") else {}
    found = examined(connection_of(head, "driver", checkpoint_path=path, **conn_id))
    assert [name for name, finding in found.items() if finding.outcome == "failed"] == [step]
    assert remedy in found[step].remedy
    assert found["task"].outcome == "ok"


def test_doctor_tells_of_the_xcom_backend(examined, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__XCOM_BACKEND", XCOM_BACKEND)
    found = examined("ray://127.0.0.1:1?mode=nonsense")
    assert (found["xcom backend"].outcome, found["xcom backend"].text) == ("ok", XCOM_BACKEND)


# Numbers


def test_numbers_are_readable():
    sizes = [readable_bytes(count) for count in (0, 999, 1234, 640_000_000, 999_999_999, 5.5e15)]
    assert sizes == ["0 bytes", "999 bytes", "1.2 kB", "640.0 MB", "1,000.0 MB", "5.5 PB"]
    durations = [readable_seconds(seconds) for seconds in (0.00004, 0.5, 99, 101, 7200, 3 * 86400)]
    assert durations == ["0 s", "0.5 s", "99 s", "1.68 min", "2 h", "3.0 days"]
    assert [quantity(number, "object") for number in (0, 1, 2000)] == ["0 objects", "1 object", "2,000 objects"]


def test_errors_are_one_line():
    assert first_lines(ValueError("one\ntwo\n\nTraceback")) == "one two"
    assert first_lines(ValueError()) == "ValueError"
