"""A manifest is anybody's text until it is verified: what is wrong with it costs that checkpoint, and no other."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from airflow_ray.cluster.checkpoints import folder_of, manifest
from airflow_ray.exceptions import RayCheckpointCorruptError, RayCheckpointError, RayCheckpointStorageError
from airflow_ray.hooks.s3_checkpoint import S3CheckpointHook
from airflow_ray.object_uri import ObjectURI
from tests.conftest import new_uri
from tools.s3_server import S3Server

ANY_AGE = timedelta(0)
TERABYTE = 1024**4


@pytest.fixture
def uri() -> ObjectURI:
    return new_uri("ray")


@pytest.fixture
def hook(tmp_path: Path) -> S3CheckpointHook:
    return S3CheckpointHook(path=f"file://{tmp_path}")


def manifest_of(hook: S3CheckpointHook, uri: ObjectURI) -> Path:
    return Path(hook.save(uri, 1)["path"].removeprefix("file://"), "manifest.json")


BAD: dict[str, Any] = {
    "only a version": {"version": 1},
    "a version that is true": {"version": True},
    "a version of 4,000 digits": {"version": 10**4000},
    "a signature beyond ASCII": {"signature": "ü" * 64},
    "a signature that no text holds": {"signature": "\ud800"},
    "a signature that is a list": {"signature": [["a"]]},
    "a time before all times": {"created_at": "0001-01-01T00:00:00+23:59"},
    "a time after all times": {"created_at": "9999-12-31T23:59:59-23:59"},
    "an address of this folder, written in another way": {"uri": "ray-object://r%61y/tests/run/task/-1/return_value"},
    "files that name others": {"files": {"data": [{"name": "../../../../../../x", "bytes": 1, "sha256": ""}]}},
}


@pytest.mark.parametrize("wrong", BAD.values(), ids=BAD)
def test_bad_manifest_breaks_no_list_prune_or_save(hook, uri, wrong):
    other = new_uri("ray")
    path = manifest_of(hook, uri)
    content = wrong if wrong == {"version": 1} else {**json.loads(path.read_text()), **wrong}
    path.write_text(json.dumps(content))
    hook.save(other, 2)
    assert other in hook.list()
    with pytest.raises(RayCheckpointError):
        hook.load(uri)
    assert other in hook.prune(ANY_AGE)
    hook.save(uri, 3)
    assert hook.load(uri) == 3


def test_no_depth_of_a_manifest_is_too_much_for_whoever_has_read_it(hook, uri):
    path = manifest_of(hook, uri)
    text = json.dumps({**json.loads(path.read_text()), "schema": {"rows": "deep"}})
    # What reads JSON gets only so far, and what goes through it afterwards not quite as far.
    for depth in range(700, 1000):
        path.write_text(text.replace('"deep"', "[" * depth + "]" * depth))
        with pytest.raises(RayCheckpointError):
            hook.load(uri)
    assert hook.prune(timedelta(days=1)) == []


@pytest.mark.parametrize(
    "content", [b"<html>", b'{"version": 1}', b'{"version": 2}', b"[" * 100_000], ids=["html", "short", "newer", "deep"]
)
def test_list_and_prune_name_the_bad_manifest(hook, uri, caplog, content):
    path = manifest_of(hook, uri)
    path.write_bytes(content)
    assert hook.list() == []
    assert hook.prune(ANY_AGE) == []
    told = [record.getMessage() for record in caplog.records if str(path) in record.getMessage()]
    assert len(told) == 2
    assert path.exists()


def test_name_of_a_bad_manifest_is_shown_without_control_characters(hook, tmp_path, caplog):
    folder = tmp_path / "ray/dag/run/task/-1/\x1b[31mred\nline"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{")
    hook.list()
    (told,) = (record.getMessage() for record in caplog.records if "Passed over" in record.getMessage())
    assert "\x1b" not in told
    assert "\n" not in told


def test_forged_manifest_in_another_folder_deletes_nothing(hook, uri, tmp_path):
    victim = new_uri("ray")
    hook.save(victim, "kept")
    path = manifest_of(hook, uri)
    forged = {**json.loads(path.read_text()), "uri": str(victim), "created_at": "2000-01-01T00:00:00+00:00"}
    path.write_text(json.dumps(forged))
    other = tmp_path / "ray/dag/run/task/-1/return_value"
    other.mkdir(parents=True)
    (other / "manifest.json").write_text(json.dumps(forged))
    assert hook.prune(timedelta(days=1)) == []
    assert hook.load(victim) == "kept"


def test_error_shows_nothing_of_what_a_version_holds(hook, uri):
    manifest_of(hook, uri).write_text(json.dumps({"version": "a secret" * 1000}))
    with pytest.raises(RayCheckpointCorruptError) as raised:
        hook.load(uri)
    assert "secret" not in str(raised.value)


# Sizes


@pytest.mark.parametrize("name", ["manifest.json", "*.data.00000"])
def test_file_that_is_larger_than_it_may_be_is_not_read(hook, uri, tmp_path, name):
    manifest_of(hook, uri)
    (path,) = tmp_path.glob(f"ray/tests/*/task/-1/return_value/{name}")
    # Of zeros that take no room on the disk, and have none in memory.
    os.truncate(path, 10 * TERABYTE)
    with pytest.raises(RayCheckpointCorruptError, match=f"the file has {10 * TERABYTE} bytes"):
        hook.load(uri)
    hook.prune(ANY_AGE)


@pytest.mark.parametrize("ending", ["manifest.json", ".data.00000"])
def test_object_that_is_larger_than_it_may_be_is_not_fetched(s3: S3Server, bucket, uri, monkeypatch, ending):
    hook = S3CheckpointHook("s3", f"s3://{bucket}/prefix")
    hook.save(uri, 1)
    (key,) = (key for key in s3.keys(bucket) if key.endswith(ending))
    limit = 10_000
    monkeypatch.setattr(manifest, "MAX_BYTES", limit)
    s3.client().put_object(Bucket=bucket, Key=key, Body=b" " * (limit + 1))
    with pytest.raises(RayCheckpointCorruptError, match=f"the file has {limit + 1} bytes, .* nothing of it was read"):
        hook.load(uri)


def test_manifest_that_nobody_could_read_is_not_written(hook, uri, monkeypatch):
    hook.save(uri, "earlier")
    monkeypatch.setattr(manifest, "MAX_BYTES", 5000)
    with pytest.raises(RayCheckpointStorageError, match="5000 can be read"):
        hook.save(uri, pd.DataFrame({f"column {number}": [number] for number in range(500)}))
    assert hook.load(uri) == "earlier"


@pytest.mark.parametrize("name", ["manifest.json", "*.data.00000"])
def test_pipe_in_place_of_a_file_holds_up_no_reader(hook, uri, tmp_path, name):
    manifest_of(hook, uri)
    (path,) = tmp_path.glob(f"ray/tests/*/task/-1/return_value/{name}")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(RayCheckpointStorageError, match="not a regular file"):
        hook.load(uri)


# Folders


def test_real_name_that_looks_like_a_cut_one_has_a_folder_of_its_own(hook):
    long = ObjectURI("ray", "dag", "run", "t" * 200)
    cut = folder_of(str(long)).split("/")[3]
    real = ObjectURI("ray", "dag", "run", cut)
    hook.save(long, "long")
    hook.save(real, "real")
    assert (hook.load(long), hook.load(real)) == ("long", "real")
    assert hook.list() == sorted([long, real])


def test_cut_name_of_a_name_that_looks_like_a_cut_one_is_another_again():
    names = ["t" * 200]
    for _ in range(3):
        names.append(folder_of(f"ray-object://ray/dag/run/{names[-1]}/-1/return_value").split("/")[3])
    assert len(set(names)) == len(names)
    assert {len(name) for name in names[1:]} == {manifest.MAX_SEGMENT_BYTES}


def test_folder_of_a_long_name_stays_where_earlier_releases_put_it():
    folder = folder_of(f"ray-object://ray/dag/run/{'t' * 200}/-1/return_value").split("/")[3]
    assert folder == f"{'t' * 87}~8cbeafc05ce09a3eac73af9f501dfe20"
