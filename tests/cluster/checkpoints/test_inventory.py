"""What is found under a path where others keep files too."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from airflow_ray.cluster.checkpoints import Storage, orphans, save, stored

KEYS = ["ab" * 32]
FOLDER = "ray/dag/run/task/-1/return_value"
URI = f"ray-object://{FOLDER}"
TWO_DAYS = 2 * 24 * 3600


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(f"file://{tmp_path}", {})


@pytest.fixture
def manifest(storage: Storage, tmp_path: Path) -> dict[str, Any]:
    """The manifest of a checkpoint that is there."""
    save(storage, URI, 1, KEYS)
    read: dict[str, Any] = json.loads((tmp_path / FOLDER / "manifest.json").read_text())
    return read


def make_old(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.exists() or path.write_bytes(b"x")
    os.utime(path, (0, time.time() - TWO_DAYS))
    return path


FOREIGN = {
    "no JSON": "<html>",
    "no text": b"\xff\xfe",
    "empty": "",
    "a list": "[1, 2]",
    "a list without end": "[" * 100_000,
    "a text": '"version"',
    "of a browser's extension": '{"manifest_version": 3, "name": "x"}',
    "of another program": '{"version": 1, "name": "x", "files": ["a"]}',
    "of another version": '{"version": 2}',
    "of a version that is a list": '{"version": [1]}',
}
WRONG = {
    "files that are a list": {"files": [1]},
    "files that are texts": {"files": {"data": ["a"]}},
    "files of numbers": {"files": {"data": [{"name": 5}]}},
    "objects that are numbers": {"objects": [5]},
    "a schema that is a text": {"schema": "rows"},
    "an address that is a number": {"uri": 5},
    "a time that is none": {"created_at": "yesterday"},
    "a time without a zone": {"created_at": "2026-01-01T00:00:00"},
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize("folder", [".", "site/assets"])
def test_manifest_of_another_program_is_passed_over(storage, manifest, tmp_path, folder, content):
    path = tmp_path / folder / "manifest.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    assert [each["uri"] for each in stored(storage)] == [URI]


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_manifest_in_which_something_is_of_another_type_is_passed_over(storage, manifest, tmp_path, wrong):
    (tmp_path / FOLDER / "manifest.json").write_text(json.dumps({**manifest, **wrong}))
    assert list(stored(storage)) == []


@pytest.mark.parametrize("name", ["type", "format", "schema", "files", "objects", "bytes", "created_at", "note"])
def test_manifest_in_which_something_is_missing_is_passed_over(storage, manifest, tmp_path, name):
    del manifest[name]
    (tmp_path / FOLDER / "manifest.json").write_text(json.dumps(manifest))
    assert list(stored(storage)) == []


def test_copy_of_a_checkpoint_elsewhere_is_none(storage, manifest, tmp_path):
    shutil.copytree(tmp_path / "ray", tmp_path / "backup" / "ray")
    assert [each["path"] for each in stored(storage)] == [f"file://{tmp_path}/{FOLDER}"]


def test_nothing_is_an_orphan_in_the_folder_of_a_manifest_of_another_release(storage, manifest, tmp_path):
    (tmp_path / FOLDER / "manifest.json").write_text(json.dumps({**manifest, "version": 2}))
    for file in (tmp_path / FOLDER).iterdir():
        make_old(file)
    assert orphans(storage) == []


def test_copy_of_a_checkpoint_elsewhere_is_no_orphan(storage, manifest, tmp_path):
    shutil.copytree(tmp_path / "ray", tmp_path / "backup" / "ray")
    for file in (tmp_path / "backup" / FOLDER).iterdir():
        make_old(file)
    assert orphans(storage) == []


@pytest.mark.parametrize("name", ["readme.txt", "search/experiment_state.json", "0123456789ab.csv", "a.data.00000"])
def test_file_that_no_checkpoint_is_made_of_is_no_orphan(storage, tmp_path, name):
    make_old(tmp_path / name)
    assert orphans(storage) == []


@pytest.mark.parametrize(
    "name",
    ["0123456789ab.data.00000", "0123456789ab-0-12.columns.level0.00010", "manifest.json.0123456789abcdef"],
)
def test_file_of_a_try_that_never_ended_is_an_orphan(storage, manifest, tmp_path, name):
    make_old(tmp_path / FOLDER / name)
    make_old(tmp_path / "ray/dag/run/other/-1/return_value" / name)
    assert sorted(orphans(storage)) == sorted([f"{FOLDER}/{name}", f"ray/dag/run/other/-1/return_value/{name}"])


def test_storage_that_fails_does_not_read_as_empty(storage, manifest, monkeypatch):
    def fail(name: str, limit: int) -> None:
        with storage._translated(name):
            raise OSError("the disk is gone")

    monkeypatch.setattr(storage, "read", fail)
    with pytest.raises(Exception, match="the disk is gone"):
        list(stored(storage))
