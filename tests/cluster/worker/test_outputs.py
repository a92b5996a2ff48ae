"""How long a checkpoint is tried for that the storage does not take, with storages that are made up."""

from __future__ import annotations

import enum

import pytest

from airflow_ray.cluster.checkpoints import Storage
from airflow_ray.cluster.failures import CheckpointFailure
from airflow_ray.cluster.protocol import FailureKind
from airflow_ray.cluster.worker import outputs

EXPIRED = OSError("AWS Error UNKNOWN (HTTP status 400) during PutObject: Unable to parse ExceptionName: ExpiredToken")
OPTIONS = {"region": "us-east-1", "endpoint_override": "http://127.0.0.1:1", "access_key": "a", "secret_key": "b"}


@pytest.fixture
def tries(monkeypatch):
    """Let checkpoints fail as often, and in the way, as it says itself; it lists the keys that were tried."""
    monkeypatch.setattr(outputs, "PAUSE_SECONDS", 0.0)
    tries = Tries()
    monkeypatch.setattr(outputs, "save", tries.save)
    return tries


class Tries(list):
    failures = 10**9
    kind = FailureKind.CHECKPOINT_STORAGE
    cause: OSError | None = OSError("AWS Error NETWORK_CONNECTION")

    def save(self, storage, uri, value, keys):
        self.append(uri.rpartition("/")[2])
        if len(self) > self.failures:
            return {}
        raise CheckpointFailure(self.kind, "where", "no answer") from self.cause


class Clock:
    seconds = 1.0

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def written(*keys, path="s3://bucket/prefix", required=True, session_tokens=()):
    """Write a checkpoint of each key, and return the header and what was said.

    :param session_tokens: of the credentials that the owner has, one for each time that it is asked; then the last.
    """
    said: list[str] = []
    header = {"outputs": {key: {} for key in keys}}
    storage = Storage(path, {} if path.startswith("file:") else OPTIONS).settings
    target = {"storage": storage, "uri": "ray-object://c/d/r/t/-1", "keys": ["00"], "required": required}
    tokens = list(session_tokens)

    def newest():
        token = tokens.pop(0) if len(tokens) > 1 else (tokens or [None])[0]
        options = {**storage["options"], **({"session_token": token} if token else {})}
        return {**target, "storage": {**storage, "options": options}}

    outputs.write_checkpoints(target, dict.fromkeys(keys, 1), header, said.append, newest)
    return header["outputs"], said


def test_storage_that_answers_again_has_the_checkpoint(tries):
    tries.failures = 3
    header, said = written("a")
    assert "error" not in header["a"]["checkpoint"]
    assert sum(line.startswith("The checkpoint cannot be written: no answer.") for line in said) == 3


def test_storage_that_does_not_come_back_is_given_up_for_all_outputs(tries, monkeypatch):
    monkeypatch.setattr(outputs, "PATIENCE_SECONDS", 0.01)
    header, _ = written("a", "b")
    assert [header[key]["checkpoint"]["error"]["kind"] for key in "ab"] == [FailureKind.CHECKPOINT_STORAGE] * 2
    assert tries.count("a") > 1
    assert tries.count("b") == 1


def test_checkpoint_that_need_not_be_holds_up_nobody(tries):
    written("a", required=False)
    assert tries == ["a"]


@pytest.mark.parametrize(
    ("kind", "cause", "path"),
    [
        (FailureKind.CHECKPOINT_ACCESS, OSError(), "s3://bucket/prefix"),
        (FailureKind.CHECKPOINT_STORAGE, None, "s3://bucket/prefix"),
        (FailureKind.CHECKPOINT_STORAGE, OSError("No space left on device"), "file:///nowhere"),
    ],
    ids=["access", "other content", "disk"],
)
def test_what_stays_as_it_is_is_not_tried_again(tries, kind, cause, path):
    tries.kind, tries.cause = kind, cause
    header, _ = written("a", path=path)
    assert header["a"]["checkpoint"]["error"]["kind"] == kind
    assert tries == ["a"]


def test_credentials_that_have_expired_are_waited_for_until_somebody_renews_them(tries):
    tries.kind, tries.cause, tries.failures = FailureKind.CHECKPOINT_ACCESS, EXPIRED, 1
    header, said = written("a", session_tokens=[None, None, "new"])
    assert "error" not in header["a"]["checkpoint"]
    assert sum("have expired, and the work waits for newer ones" in line for line in said) == 1
    assert tries == ["a", "a"]


def test_credentials_that_expire_again_after_they_were_renewed_are_waited_for_as_long_again(tries, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(outputs, "time", clock)
    monkeypatch.setattr(outputs, "PAUSE_SECONDS", outputs.RENEWAL_SECONDS * 0.4)
    tries.kind, tries.cause, tries.failures = FailureKind.CHECKPOINT_ACCESS, EXPIRED, 2
    header, _ = written("a", session_tokens=[None, None, None, "new", "new", "new", "newer"])
    assert "error" not in header["a"]["checkpoint"]
    assert clock.seconds > outputs.RENEWAL_SECONDS


def test_credentials_that_nobody_renews_are_given_up_for_all_outputs(tries, monkeypatch):
    monkeypatch.setattr(outputs, "RENEWAL_SECONDS", 0.01)
    tries.kind, tries.cause = FailureKind.CHECKPOINT_ACCESS, EXPIRED
    header, _ = written("a", "b")
    assert [header[key]["checkpoint"]["error"]["kind"] for key in "ab"] == [FailureKind.CHECKPOINT_ACCESS] * 2
    assert tries == ["a", "b"]


def test_nobody_waits_for_credentials_for_a_checkpoint_that_need_not_be(tries):
    tries.kind, tries.cause = FailureKind.CHECKPOINT_ACCESS, EXPIRED
    written("a", required=False)
    assert tries == ["a"]


def test_keys_that_are_members_of_an_enum_are_plain_texts_for_the_owner():
    class Split(str, enum.Enum):
        TRAIN = "train"

    named, told = outputs.named_outputs({Split.TRAIN: 1}, multiple_outputs=True, max_items=None)
    assert (named, told) == ({"train": 1}, {"train": "train"})
    assert {type(key) for key in [*named, *told, *told.values()]} == {str}
