"""Secrets of a runtime environment show neither where a line is cut nor in what Ray, pip or a storage says."""

from __future__ import annotations

import json
import os
import threading

import pytest

from airflow_ray.client.connection import secrets
from airflow_ray.cluster.failures import failure
from airflow_ray.cluster.owner.record import Record
from airflow_ray.cluster.protocol import FailureKind, State
from airflow_ray.cluster.redaction import STARS, LineCutter, redacted, secrets_in
from airflow_ray.cluster.worker.level_marks import LevelMarks
from airflow_ray.cluster.worker.line_assembler import MAX_LINE_BYTES
from airflow_ray.cluster.worker.log_tee import _Pump
from airflow_ray.hooks.ray import RayHook
from tests.conftest import new_uri

SECRET = "a-secret-of-the-task"
INDEX = "https://reader:pass-of-index@packages.example/simple"
WITH_CREDENTIALS = {
    "options of pip": {"pip": {"packages": ["a"], "pip_install_options": [f"--index-url={INDEX}"]}},
    "a line of pip": {"pip": [f"--extra-index-url {INDEX}", "a"]},
    "a requirement": {"pip": ["a @ git+https://reader:pass-of-index@git.example/a.git"]},
    "uv": {"uv": {"packages": ["a"], "uv_pip_install_options": [f"--index-url {INDEX}"]}},
    "conda": {"conda": {"dependencies": ["pip", {"pip": [f"--index-url {INDEX}"]}]}},
    "an archive": {"working_dir": "https://reader:pass-of-index@files.example/code.zip"},
}


def lines_of(data: bytes, secrets: list[str], chunk: int) -> list[str]:
    """Return the lines that the pump sends of what a callable writes in chunks."""
    sent: list[str] = []
    (source, sink), (wake, stop) = os.pipe(), os.pipe()
    with open(os.devnull, "w") as own:
        take = lambda lines, levels: sent.extend(redacted(lines, secrets))  # noqa: E731
        pump = _Pump(source, wake, own.fileno(), take, secrets, LevelMarks())
        pump.start()
        writer = threading.Thread(target=write, args=(sink, data, chunk))
        writer.start()
        writer.join(300)
        os.close(sink)
        os.write(stop, b"x")
        pump.join(300)
    for descriptor in (source, wake, stop):
        os.close(descriptor)
    return sent


def write(sink: int, data: bytes, chunk: int) -> None:
    for start in range(0, len(data), chunk):
        os.write(sink, data[start : start + chunk])


@pytest.mark.parametrize("chunk", [1000, MAX_LINE_BYTES])
@pytest.mark.parametrize("before", [0, 1, len(SECRET) // 2, len(SECRET) - 1, len(SECRET)])
@pytest.mark.parametrize("after", [0, 1, 100, 3 * MAX_LINE_BYTES])
def test_secret_across_the_place_where_a_line_is_cut_is_hidden(chunk, before, after):
    data = b"x" * (MAX_LINE_BYTES - before) + SECRET.encode() + b"y" * after
    sent = lines_of(data, [SECRET], chunk)
    assert "".join(sent) == "x" * (MAX_LINE_BYTES - before) + STARS + "y" * after


def test_secret_that_begins_another_one_leaves_nothing_of_it():
    longer = f"{SECRET}-and-more-of-it"
    both = secrets_in({"env_vars": {"short": SECRET, "long": longer}})
    data = b"x" * MAX_LINE_BYTES + longer.encode() + b"y" * 100
    # Wherever the first of two chunks ends that come one after the other.
    for end in range(MAX_LINE_BYTES, len(data)):
        pieces, rest = LineCutter(both, MAX_LINE_BYTES).cut(data[:end])
        more, rest = LineCutter(both, MAX_LINE_BYTES).cut(rest + data[end:])
        shown = "".join(redacted(piece.decode(), both) for piece in [*pieces, *more, rest])
        assert shown == "x" * MAX_LINE_BYTES + STARS + "y" * 100


def test_line_without_end_is_sent_in_pieces_that_are_no_longer_than_before():
    sent = lines_of(b"x" * (5 * MAX_LINE_BYTES), [SECRET], 4096)
    assert [len(line) for line in sent[:4]] == [MAX_LINE_BYTES] * 4


@pytest.mark.parametrize("runtime_env", WITH_CREDENTIALS.values(), ids=WITH_CREDENTIALS)
def test_credentials_in_an_address_are_secrets(runtime_env):
    assert redacted(f"error at {INDEX}", secrets_in(runtime_env)) == f"error at https://{STARS}@packages.example/simple"
    assert redacted("wrong: pass-of-index", secrets_in(runtime_env)) == f"wrong: {STARS}"


@pytest.mark.parametrize(
    "user_info", ["a-long-token", "a-long-token:x-oauth-basic", "user:p%40ss%2Fword", "user:p@ssword"]
)
def test_what_stands_before_the_host_is_hidden_as_it_is_written(user_info):
    address = f"git+https://{user_info}@git.example/a.git"
    assert redacted(address, secrets_in({"pip": [address]})) == f"git+https://{STARS}@git.example/a.git"


@pytest.mark.parametrize(
    "address", ["https://packages.example/simple", "s3://bucket/a@b.zip", "https://x/?mail=a@b.example"]
)
def test_address_without_credentials_holds_no_secret(address):
    assert secrets_in({"working_dir": address, "pip": [address]}) == []


@pytest.mark.parametrize("runtime_env", WITH_CREDENTIALS.values(), ids=WITH_CREDENTIALS)
def test_airflow_masks_credentials_in_an_address(monkeypatch, runtime_env):
    masked: list[str] = []
    monkeypatch.setattr(secrets, "mask_secret", masked.append)
    secrets.mask_runtime_env(runtime_env)
    secrets.mask_runtime_env(json.dumps(runtime_env))
    assert masked == ["reader:pass-of-index", "pass-of-index"] * 2


def test_error_of_a_record_holds_no_secret():
    options = {"runtime_env": {"env_vars": {"KEY": SECRET}, **WITH_CREDENTIALS["a line of pip"]}}
    record = Record("dag/run/task/-1", "attempt", options)
    record.finish(State.FAILED, failure(FailureKind.RUNTIME_ENV, message=f"{SECRET} {INDEX}", causes=[{"x": SECRET}]))
    assert SECRET not in str(record.describe())
    assert "pass-of-index" not in str(record.describe())


def test_variable_that_is_called_as_a_kind_of_failure_does_not_hide_that():
    told = failure(FailureKind.OUT_OF_MEMORY, message="out of memory", record_id="memory/run/task/-1", key="memory")
    hidden = redacted(told, secrets_in({"env_vars": {"STORE": "memory"}}))
    assert hidden == {**told, "message": f"out of {STARS}"}


def test_error_of_a_best_effort_checkpoint_holds_no_secret(head, tmp_path):
    secret = "a-folder-that-is-secret"
    (tmp_path / secret).write_text("no folder")
    uri = new_uri("ray_client")
    with RayHook("ray_client").connect() as hook:
        hook.submit(
            os.getpid,
            uri=uri,
            checkpoint="best-effort",
            checkpoint_path=f"file://{tmp_path}/{secret}/inside",
            runtime_env={"env_vars": {"SECRET": secret}},
        )
        record = hook.wait(uri)
    told = record["outputs"]["return_value"]["checkpoint"]["error"]
    assert STARS in told["message"]
    assert secret not in str(record)
