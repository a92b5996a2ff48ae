"""A place for checkpoints where others keep files too, and one that changes while it is pruned."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from airflow_ray.client.checkpoints.location import CheckpointLocation
from airflow_ray.client.checkpoints.store import CheckpointStore
from airflow_ray.cluster import checkpoints
from airflow_ray.cluster.checkpoints import Storage
from airflow_ray.object_uri import ObjectURI
from tests.conftest import new_uri
from tools.s3_server import S3Server

ANY_AGE = timedelta(0)


@pytest.fixture
def on_disk(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(CheckpointLocation(f"file://{tmp_path}"))


@pytest.fixture
def on_s3(bucket: str) -> CheckpointStore:
    return CheckpointStore(CheckpointLocation(f"s3://{bucket}/prefix", "s3"))


@pytest.fixture
def put_on_disk(tmp_path: Path) -> Callable[[str, str], None]:
    def put(name: str, text: str) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    return put


@pytest.fixture
def put_on_s3(s3: S3Server, bucket: str) -> Callable[[str, str], None]:
    def put(name: str, text: str) -> None:
        s3.client().put_object(Bucket=bucket, Key=f"prefix/{name}", Body=text)

    return put


@pytest.mark.parametrize("name", ["manifest.json", "site/manifest.json"])
@pytest.mark.parametrize("place", ["disk", "s3"])
def test_manifest_of_another_program_stays_and_hides_no_checkpoint(request, place, name):
    store: CheckpointStore = request.getfixturevalue(f"on_{place}")
    put: Callable[[str, str], None] = request.getfixturevalue(f"put_on_{place}")
    uri = new_uri("ray_default")
    store.save(uri, 1)
    put(name, '{"manifest_version": 3, "version": "1.0", "name": "an extension"}')
    assert store.list() == [uri]
    assert store.prune(ANY_AGE) == [uri]
    assert store._storage.read(name, 1000) is not None


def test_manifest_whose_address_is_no_object_uri_is_passed_over(on_disk, put_on_disk, tmp_path):
    uri = new_uri("ray_default")
    path = on_disk.save(uri, 1)["path"].removeprefix("file://")
    manifest = json.loads(Path(path, "manifest.json").read_text())
    put_on_disk("short/manifest.json", json.dumps({**manifest, "uri": "ray-object://short"}))
    assert on_disk.list() == [uri]
    assert on_disk.prune(ANY_AGE) == [uri]


def test_checkpoint_that_is_written_anew_while_others_are_pruned_stays(on_disk, monkeypatch):
    uris = [ObjectURI("ray", "dag", "run", "task", number) for number in range(2)]
    for uri in uris:
        on_disk.save(uri, "old")
    asked: list[str] = []
    outdated_files_of = checkpoints.outdated_files_of

    def write_the_other_meanwhile(storage: Storage, uri: str, limit: datetime) -> list[str]:
        asked.append(uri)
        if len(asked) == 1:
            (other,) = {*uris} - {ObjectURI.parse(uri)}
            on_disk.save(other, "new")
        return outdated_files_of(storage, uri, limit)

    monkeypatch.setattr(checkpoints, "outdated_files_of", write_the_other_meanwhile)
    assert [str(uri) for uri in on_disk.prune(ANY_AGE)] == asked[:1]
    assert [on_disk.load(uri) for uri in on_disk.list()] == ["new"]
