"""What ``prune``, ``delete`` and ``save`` leave alone: all that is not a file of a checkpoint where one belongs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from airflow_ray.cluster.checkpoints import checkpoint, inventory
from airflow_ray.cluster.checkpoints.manifest import MANIFEST
from airflow_ray.cluster.checkpoints.storage import Storage
from airflow_ray.hooks.s3_checkpoint import S3CheckpointHook
from airflow_ray.object_uri import ObjectURI
from tests.conftest import new_uri
from tools.s3_server import S3Server

ANY_AGE = timedelta(0)
DAY = 24 * 3600.0
# As a file of a checkpoint is called.
DATA = "0123456789ab.data.00000"


@pytest.fixture
def uri() -> ObjectURI:
    return new_uri("ray")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "checkpoints"
    root.mkdir()
    return root


@pytest.fixture
def hook(root: Path) -> S3CheckpointHook:
    return S3CheckpointHook(path=f"file://{root}")


def folder_of(hook: S3CheckpointHook, uri: ObjectURI) -> Path:
    return Path(hook.describe(uri)["path"].removeprefix("file://"))


def put(path: Path, age: float = 30 * DAY) -> Path:
    """Make a file that is old, unless another age in seconds is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    os.utime(path, (0, time.time() - age))
    return path


# Of others, or of a search: its folder lies beside those of checkpoints where no other storage_path is given.
@pytest.mark.parametrize(
    "name",
    [
        "team/sales.parquet",
        f"team/{DATA}",
        f"a/b/c/d/e/f/{DATA}",
        f"ray/dag/run/task/-1/return_value/deeper/{DATA}",
        "ray/dag/run/task/-1/return_value/sales.parquet",
        "dag/run/task/-1/tune-0123456789abcdef/experiment_state-2026.json",
        f"dag/run/task/-1/tune-0123456789abcdef/trial_0/{DATA}",
        "dag/run/task/-1/tune-0123456789abcdef/manifest.json",
    ],
)
def test_prune_leaves_an_old_file_that_is_none_of_a_checkpoint(hook, root, name):
    path = put(root / name)
    assert hook.prune(ANY_AGE) == []
    assert path.exists()


@pytest.mark.parametrize("name", ["sales.parquet", f"deeper/{DATA}"])
@pytest.mark.parametrize("way", ["prune", "delete", "save"])
def test_file_of_others_in_the_folder_of_a_checkpoint_stays(hook, uri, way, name):
    hook.save(uri, 1)
    path = put(folder_of(hook, uri) / name)
    ways: dict[str, Callable[[], object]] = {
        "prune": lambda: hook.prune(ANY_AGE),
        "delete": lambda: hook.delete(uri),
        "save": lambda: hook.save(uri, 2),
    }
    ways[way]()
    assert path.exists()


@pytest.mark.parametrize("part", range(6), ids=["conn", "dag", "run", "task", "map_index", "key"])
def test_prune_deletes_nothing_through_a_link(hook, root, tmp_path, part):
    inside = ["ray", "dag", "run", "task", "-1", "return_value"]
    elsewhere = put(tmp_path.joinpath("elsewhere", *inside[part + 1 :], DATA))
    link = root.joinpath(*inside[: part + 1])
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(tmp_path / "elsewhere")
    hook.prune(ANY_AGE)
    assert elsewhere.exists()


@pytest.mark.parametrize("way", ["prune", "delete", "save"])
def test_checkpoint_behind_a_link_stays(root, tmp_path, uri, way):
    elsewhere = S3CheckpointHook(path=f"file://{tmp_path}/elsewhere")
    elsewhere.save(uri, 1)
    (root / "ray").symlink_to(tmp_path / "elsewhere" / "ray")
    hook = S3CheckpointHook(path=f"file://{root}")
    before = {path for path in (tmp_path / "elsewhere").rglob("*") if path.is_file()}
    ways: dict[str, Callable[[], object]] = {
        "prune": lambda: hook.prune(ANY_AGE),
        "delete": lambda: hook.delete(uri),
        "save": lambda: hook.save(uri, 2),
    }
    ways[way]()
    # What is saved is put in place of the earlier manifest, whose data stay.
    assert [path for path in before if not path.exists()] == []


def test_folder_that_became_a_link_before_its_files_are_deleted_keeps_them(hook, root, tmp_path, uri, monkeypatch):
    hook.save(uri, 1)
    folder = folder_of(hook, uri)
    orphan = put(folder / DATA)
    find = inventory.orphans

    def find_and_replace(*args: object) -> list[str]:
        names = find(*args)
        folder.rename(tmp_path / "elsewhere")
        folder.symlink_to(tmp_path / "elsewhere")
        return names

    monkeypatch.setattr("airflow_ray.cluster.checkpoints.orphans", find_and_replace)
    hook.prune(timedelta(days=1))
    assert orphan.exists()


def test_path_that_is_a_link_itself_is_pruned(root, tmp_path, uri):
    (tmp_path / "link").symlink_to(root)
    hook = S3CheckpointHook(path=f"file://{tmp_path}/link")
    hook.save(uri, 1)
    assert hook.list() == [uri]
    assert hook.prune(ANY_AGE) == [uri]
    assert [path for path in root.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(("older_than", "stays"), [(1, False), (30, True)])
def test_what_a_killed_try_left_is_no_younger_than_asked(hook, uri, older_than, stays):
    hook.save(uri, 1)
    path = put(folder_of(hook, uri) / DATA, age=2 * DAY)
    hook.prune(timedelta(days=older_than))
    assert path.exists() == stays


def test_prune_of_a_bucket_leaves_what_is_none_of_a_checkpoint(s3: S3Server, bucket, uri, monkeypatch):
    # Nothing can be put into a bucket that is older than now.
    monkeypatch.setattr(inventory, "ORPHAN_SECONDS", -60.0)
    hook = S3CheckpointHook("s3", f"s3://{bucket}/prefix")
    hook.save(uri, 1)
    others = [f"prefix/team/{DATA}", f"prefix/ray/dag/run/task/-1/tune-0/{DATA}/x", f"prefix/a/b/c/d/e/f/{DATA}"]
    for key in [*others, f"prefix/ray/dag/run/task/-1/return_value/{DATA}"]:
        s3.client().put_object(Bucket=bucket, Key=key, Body=b"x")
    hook.prune(ANY_AGE)
    assert sorted(s3.keys(bucket)) == sorted(others)


def test_prune_leaves_what_a_task_that_runs_again_has_written_so_far(hook, uri, monkeypatch):
    hook.save(uri, "earlier")
    write_content = checkpoint.write_content

    def write_and_prune(*args):
        content = write_content(*args)
        hook.prune(ANY_AGE)
        return content

    monkeypatch.setattr(checkpoint, "write_content", write_and_prune)
    hook.save(uri, "later")
    assert hook.load(uri) == "later"


def test_save_that_fails_after_its_manifest_is_in_place_leaves_a_whole_checkpoint(hook, uri, monkeypatch):
    hook.save(uri, "earlier")

    def interrupted(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "problem_with", lambda self, name, data: interrupted() if MANIFEST in name else None)
        with pytest.raises(KeyboardInterrupt):
            hook.save(uri, "later")
    assert hook.load(uri) == "later"
