"""The signature of a manifest, and what an error tells of one that is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_ray.cluster.checkpoints import Storage, describe, load, save
from airflow_ray.cluster.failures import CheckpointFailure

KEYS = ["ab" * 32]
FOLDER = "ray/dag/run/task/-1/return_value"
URI = f"ray-object://{FOLDER}"


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    storage = Storage(f"file://{tmp_path}", {})
    save(storage, URI, 1, KEYS)
    return storage


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / FOLDER / "manifest.json"


def changed(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize("signature", ["ü" * 64, "\ud800", "", None, 5, ["a"]], ids=repr)
def test_signature_that_is_none_is_a_wrong_one(storage, path, signature):
    changed(path, signature=signature)
    with pytest.raises(CheckpointFailure, match="its signature is wrong") as raised:
        load(storage, URI, KEYS)
    assert raised.value.error["kind"] == "checkpoint_signature"


def test_manifest_that_names_another_output_is_refused_though_it_is_signed(storage, path, tmp_path):
    other = f"{URI}_2"
    save(storage, other, 2, KEYS)
    path.write_bytes((tmp_path / f"{FOLDER}_2" / "manifest.json").read_bytes())
    with pytest.raises(CheckpointFailure, match="another output"):
        describe(storage, URI, KEYS)


@pytest.mark.parametrize("content", [b"\xff a secret", b'{"version": 1, "note": "a secret"}'])
def test_error_does_not_show_what_is_in_a_broken_manifest(storage, path, content):
    path.write_bytes(content)
    with pytest.raises(CheckpointFailure, match="the manifest is not one") as raised:
        load(storage, URI, KEYS)
    assert "secret" not in raised.value.error["message"]


def test_broken_manifest_is_replaced_by_the_next_try(storage, path):
    path.write_bytes(b"{")
    save(storage, URI, 2, KEYS)
    assert load(storage, URI, KEYS)[0] == 2
