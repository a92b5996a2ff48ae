"""S3CheckpointHook on a server of the S3 protocol and on a disk, and what it does when they fail."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from airflow_ray.exceptions import (
    RayCheckpointAccessError,
    RayCheckpointCorruptError,
    RayCheckpointNotFoundError,
    RayCheckpointSignatureError,
    RayCheckpointStorageError,
    RayCheckpointVersionError,
    RayConfigurationError,
    RayPicklingError,
)
from airflow_ray.hooks.s3_checkpoint import S3CheckpointHook
from airflow_ray.object_uri import ObjectURI
from tests.conftest import new_uri
from tests.dags.helpers.frame_kinds import TYPES

OTHER_FERNET_KEY = "YW5vdGhlciBrZXkgZm9yIHRlc3RzIG9mIDMyIGJ5dGU="
FRAME = pd.DataFrame({"a": np.arange(3_000_000.0)})


@pytest.fixture
def uri() -> ObjectURI:
    return new_uri("ray_default")


@pytest.fixture
def on_s3(bucket: str) -> S3CheckpointHook:
    return S3CheckpointHook("s3", f"s3://{bucket}/some/prefix")


@pytest.fixture
def on_disk(tmp_path: Path) -> S3CheckpointHook:
    return S3CheckpointHook(path=f"file://{tmp_path}")


@pytest.fixture(params=["s3", "disk"])
def hook(request: pytest.FixtureRequest) -> S3CheckpointHook:
    return request.getfixturevalue(f"on_{request.param}")


def test_what_is_saved_is_loaded_by_another_hook(hook, uri):
    hook.save(uri, FRAME)
    pd.testing.assert_frame_equal(S3CheckpointHook(hook.aws_conn_id, hook.path).load(str(uri)), FRAME)


@pytest.mark.parametrize(
    "at", ["s3://{bucket}/Prüfläufe mit Leerzeichen + 100%", "file://{folder}/Prüfläufe mit Leerzeichen"]
)
def test_path_may_hold_spaces_and_umlauts(bucket, tmp_path, uri, at):
    path = at.format(bucket=bucket, folder=tmp_path)
    hook = S3CheckpointHook("s3" if path.startswith("s3://") else None, path)
    hook.save(uri, FRAME)
    pd.testing.assert_frame_equal(hook.load(uri), FRAME)
    assert hook.list() == [uri]
    assert hook.prune(timedelta(0)) == [uri]


def test_description_tells_type_size_and_place(hook, uri):
    hook.save(uri, FRAME)
    described = hook.describe(uri)
    assert described["type"] == TYPES["pandas"]
    assert described["rows"] == 3_000_000
    assert described["bytes"] >= 24_000_000
    assert described["files"] >= 3
    assert described["path"].startswith(hook.path)
    assert described["packages"]["pandas"] == pd.__version__


def test_existence(hook, uri):
    assert not hook.exists(uri)
    hook.save(uri, 1)
    assert hook.exists(uri)


def test_load_of_what_was_never_saved_says_where_it_looked(hook, uri):
    with pytest.raises(RayCheckpointNotFoundError, match=hook.path):
        hook.load(uri)


def test_description_of_what_was_never_saved_is_an_error(hook, uri):
    with pytest.raises(RayCheckpointNotFoundError, match=hook.path):
        hook.describe(uri)


def test_save_replaces_value_and_files(on_s3, s3, bucket, uri):
    on_s3.save(uri, FRAME)
    before = s3.keys(bucket)
    on_s3.save(uri, "small")
    assert on_s3.load(uri) == "small"
    assert len([key for key in s3.keys(bucket) if not key.endswith("/")]) == 2 < len(before)


def test_delete_leaves_nothing(on_s3, s3, bucket, uri):
    on_s3.save(uri, FRAME)
    assert on_s3.delete(uri)
    assert s3.keys(bucket) == []


def test_delete_of_what_is_not_there(hook, uri):
    assert not hook.delete(uri)


def test_list_tells_the_uris_that_start_with_a_prefix(hook):
    uris = [ObjectURI("ray", "dag", f"run {i}/ü", "task", i, "key/ü") for i in range(3)]
    other = ObjectURI("ray", "dag_of_others", "run", "task")
    for each in [*uris, other]:
        hook.save(each, 1)
    assert hook.list() == [*uris, other]
    assert hook.list("ray-object://ray/dag/") == uris
    assert hook.list("ray-object://ray/dag") == [*uris, other]
    assert hook.list(uris[0].work) == uris[:1]
    assert hook.list("ray-object://nobody/") == []


def test_prune_deletes_what_is_older(hook):
    old, new = new_uri("ray_default"), new_uri("ray_default")
    hook.save(old, 1)
    time.sleep(0.01)
    pause = time.monotonic()
    hook.save(new, 2)
    assert hook.prune(older_than=timedelta(seconds=time.monotonic() - pause)) == [old]
    assert hook.list() == [new]


def test_prune_deletes_after_a_day_what_a_killed_try_left(on_disk, uri, tmp_path):
    folder = Path(on_disk.save(uri, 1)["path"].removeprefix("file://"))
    orphan, young = folder / "0123456789ab.data.00000", folder / "0123456789ac.data.00000"
    for path in (orphan, young):
        path.write_bytes(b"half")
    os.utime(orphan, (0, time.time() - 25 * 3600))
    assert on_disk.prune(older_than=timedelta(days=1)) == []
    assert not orphan.exists()
    assert young.exists()
    assert on_disk.load(uri) == 1


ODD_URIS = [
    ObjectURI("ray", "..", ".", "..", -1, ".."),
    ObjectURI("ray", "däg/with/slashes", "manual__2026-01-01T00:00:00+00:00", "group.task", 7, "key with spaces%2F"),
    ObjectURI("ray", "d" * 250, "ü" * 250, "t" * 250, 0, "k" * 250),
    ObjectURI("ray", "dag", "d" * 249 + "1", "task"),
    ObjectURI("ray", "dag", "d" * 249 + "2", "task"),
]


def test_odd_names_neither_leave_the_folder_nor_meet(hook):
    for number, each in enumerate(ODD_URIS):
        hook.save(each, number)
    assert [hook.load(each) for each in ODD_URIS] == list(range(len(ODD_URIS)))
    assert hook.list() == sorted(ODD_URIS)


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("bucket/prefix", "must look like"),
        ("", "no path for checkpoints"),
        ("http://bucket/x", "starts with http://"),
        ("s3:///prefix", "must name a bucket"),
        ("file://folder", "absolute folder"),
        ("s3://bucket/../other", r"may not hold '\.', '\.\.'"),
        ("file:///tmp/../etc", r"may not hold '\.', '\.\.'"),
        ("s3://bucket/x?region=eu", "may not hold"),
        (5, "must look like"),
    ],
)
def test_malformed_path_is_refused(path, complaint, uri):
    with pytest.raises(RayConfigurationError, match=complaint):
        S3CheckpointHook(path=path).save(uri, 1)


def test_path_comes_from_the_extra_of_the_aws_connection(s3, bucket, uri, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_S3", s3.connection(bucket=bucket, prefix="of/extra"))
    assert S3CheckpointHook("s3").save(uri, 1)["path"].startswith(f"s3://{bucket}/of/extra/")


def test_path_comes_from_the_configuration(tmp_path, uri, monkeypatch):
    monkeypatch.setenv("AIRFLOW__AIRFLOW_RAY__CHECKPOINT_PATH", f"file://{tmp_path}")
    assert S3CheckpointHook().save(uri, 1)["path"].startswith(f"file://{tmp_path}/")


def test_connection_that_does_not_exist_is_named(uri):
    with pytest.raises(RayConfigurationError, match="'nobody'"):
        S3CheckpointHook("nobody", "s3://bucket").save(uri, 1)


def test_aws_connection_for_a_disk_is_refused(uri, tmp_path, bucket):
    with pytest.raises(RayConfigurationError, match="not on S3"):
        S3CheckpointHook("s3", f"file://{tmp_path}").save(uri, 1)


def test_missing_bucket_is_told(s3, uri, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_S3", s3.connection())
    with pytest.raises(RayCheckpointAccessError, match=r"no-such-bucket.*NO_SUCH_BUCKET"):
        S3CheckpointHook("s3", "s3://no-such-bucket").save(uri, 1)


def test_refused_access_is_told(s3, bucket, on_s3, uri):
    with s3.check_credentials(), pytest.raises(RayCheckpointAccessError, match="what the credentials allow"):
        on_s3.save(uri, 1)


@pytest.mark.slow
def test_endpoint_that_nobody_listens_on_is_told(s3, uri, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
        monkeypatch.setenv("AIRFLOW_CONN_S3", s3.connection(endpoint_url=endpoint))
        with pytest.raises(RayCheckpointStorageError, match="Could not connect"):
            S3CheckpointHook("s3", "s3://bucket").save(uri, 1)


@pytest.fixture
def disturbed(s3, proxy, bucket, monkeypatch):
    """A hook whose requests go through the proxy."""
    monkeypatch.setenv("AIRFLOW_CONN_S3", s3.connection(endpoint_url=proxy.endpoint))
    return S3CheckpointHook("s3", f"s3://{bucket}")


@pytest.mark.parametrize(
    "after_bytes", [0, pytest.param(1_000, marks=pytest.mark.slow), 5_000_000], ids="after {} bytes".format
)
@pytest.mark.parametrize("fault", ["cut", "busy"])
def test_disturbance_that_passes_does_no_harm(disturbed, proxy, uri, fault, after_bytes):
    disturbed.save(uri, "earlier")
    proxy.fault, proxy.after_bytes, proxy.faults_left = fault, after_bytes, 2
    disturbed.save(uri, FRAME)
    assert proxy.faults > 0
    pd.testing.assert_frame_equal(disturbed.load(uri), FRAME)


# One that hangs later takes a minute to be given up.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "after_bytes"),
    [
        ("cut", 0),
        ("cut", 5_000_000),
        ("busy", 0),
        ("busy", 5_000_000),
        ("hang", 0),
    ],
)
def test_disturbance_that_stays_is_an_error_and_leaves_the_earlier_checkpoint(
    disturbed, proxy, on_s3, uri, fault, after_bytes
):
    disturbed.save(uri, "earlier")
    proxy.fault, proxy.after_bytes = fault, after_bytes
    with pytest.raises(RayCheckpointStorageError, match="Try again when the storage answers"):
        disturbed.save(uri, FRAME)
    proxy.fault = None
    assert disturbed.load(uri) == "earlier"


@pytest.mark.slow
def test_failed_save_leaves_no_data_behind(disturbed, proxy, s3, bucket, uri):
    proxy.fault, proxy.after_bytes = "cut", 5_000_000
    with pytest.raises(RayCheckpointStorageError):
        disturbed.save(uri, FRAME)
    assert [key for key in s3.keys(bucket) if not key.endswith("/")] == []


@pytest.mark.slow
def test_save_never_leaves_a_multipart_upload(disturbed, proxy, s3, bucket, uri):
    proxy.fault, proxy.after_bytes = "cut", 5_000_000
    with pytest.raises(RayCheckpointStorageError):
        disturbed.save(uri, FRAME)
    assert not any("uploads" in line for line in proxy.requests)
    assert "Uploads" not in s3.client().list_multipart_uploads(Bucket=bucket)


def data_file(hook, uri, number=0):
    folder = Path(hook.describe(uri)["path"].removeprefix("file://"))
    return next(folder.glob(f"*.data.{number:05d}"))


def test_file_that_was_cut_short_is_found(on_disk, uri):
    on_disk.save(uri, FRAME)
    path = data_file(on_disk, uri, 1)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RayCheckpointCorruptError, match=f"{path.name}: the file has 8388607 bytes instead of 8388608"):
        on_disk.load(uri)


def test_flipped_bit_is_found(on_disk, uri):
    on_disk.save(uri, FRAME)
    path = data_file(on_disk, uri, 1)
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(RayCheckpointCorruptError, match=f"{path.name}: the content of the file has changed"):
        on_disk.load(uri)


def test_missing_file_is_found(on_disk, uri):
    on_disk.save(uri, FRAME)
    path = data_file(on_disk, uri, 1)
    path.unlink()
    with pytest.raises(RayCheckpointCorruptError, match=f"{path.name}: the file is missing"):
        on_disk.load(uri)


def manifest_of(hook, uri):
    return Path(hook.describe(uri)["path"].removeprefix("file://"), "manifest.json")


def test_manifest_that_is_no_json_is_found(on_disk, uri):
    on_disk.save(uri, 1)
    path = manifest_of(on_disk, uri)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RayCheckpointCorruptError, match="the manifest is not one"):
        on_disk.load(uri)


def test_checkpoint_of_a_newer_format_is_told(on_disk, uri):
    on_disk.save(uri, 1)
    path = manifest_of(on_disk, uri)
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 2}))
    with pytest.raises(RayCheckpointVersionError, match=r"format version 2, and this release reads 1"):
        on_disk.load(uri)


class Marker:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_pickle_that_another_airflow_signed_is_not_loaded(on_disk, uri, tmp_path, monkeypatch):
    on_disk.save(uri, Marker(tmp_path / "ran"))
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", OTHER_FERNET_KEY)
    with pytest.raises(RayCheckpointSignatureError, match="fernet_key"):
        on_disk.load(uri)
    assert not (tmp_path / "ran").exists()


def test_pickle_put_in_place_of_another_is_not_loaded(on_disk, uri, tmp_path):
    on_disk.save(uri, 1)
    path = data_file(on_disk, uri)
    on_disk.save(new_uri("ray_default"), Marker(tmp_path / "ran"))
    (foreign,) = (each for each in tmp_path.rglob("*.data.00000") if each != path)
    path.write_bytes(foreign.read_bytes())
    with pytest.raises(RayCheckpointCorruptError):
        on_disk.load(uri)
    assert not (tmp_path / "ran").exists()


def test_manifest_of_another_output_of_the_same_task_is_not_taken(on_disk, uri):
    one, other = uri.with_key("train"), uri.with_key("test")
    on_disk.save(one, 1)
    on_disk.save(other, 2)
    manifest_of(on_disk, one).write_bytes(manifest_of(on_disk, other).read_bytes())
    with pytest.raises(RayCheckpointSignatureError, match="another output"):
        on_disk.load(one)


def test_manifest_of_another_output_is_not_taken(on_disk, uri, tmp_path):
    other = new_uri("ray_default")
    on_disk.save(uri, 1)
    on_disk.save(other, 2)
    path = manifest_of(on_disk, uri)
    path.write_bytes(manifest_of(on_disk, other).read_bytes())
    with pytest.raises(RayCheckpointSignatureError):
        on_disk.load(uri)


def test_earlier_fernet_key_after_the_current_one_still_reads(on_disk, uri, monkeypatch):
    on_disk.save(uri, 1)
    key = os.environ["AIRFLOW__CORE__FERNET_KEY"]
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", f"{OTHER_FERNET_KEY},{key}")
    assert on_disk.load(uri) == 1


@pytest.mark.parametrize("key", ["", "short"])
def test_airflow_without_a_valid_fernet_key_is_told(on_disk, uri, monkeypatch, key):
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", key)
    with pytest.raises(RayConfigurationError, match="fernet_key"):
        on_disk.save(uri, 1)


def test_value_that_does_not_pickle_is_told_and_leaves_nothing(on_disk, uri, tmp_path):
    with pytest.raises(RayPicklingError, match="cannot pickle"):
        on_disk.save(uri, threading.Lock())
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_full_disk_is_told_and_leaves_the_earlier_checkpoint(on_disk, uri, tmp_path):
    on_disk.save(uri, "earlier")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A limit for the size of files fails like a full disk: write() gives an error in the middle of a file.
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(RayCheckpointStorageError, match="has room"):
            on_disk.save(uri, FRAME)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, previous)
    assert on_disk.load(uri) == "earlier"
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 2


def test_folder_that_cannot_be_made_is_told(uri):
    with pytest.raises(RayCheckpointAccessError, match="Cannot create directory"):
        S3CheckpointHook(path="file:///proc/checkpoints").save(uri, 1)


WRITER = """
import sys, numpy as np, pandas as pd
from airflow_ray.hooks.s3_checkpoint import S3CheckpointHook
hook = S3CheckpointHook("s3", sys.argv[1])
for _ in range(int(sys.argv[4])):
    hook.save(sys.argv[2], pd.DataFrame({"a": np.full(3_000_000, float(sys.argv[3]))}))
"""


@pytest.mark.slow
def test_two_tries_that_write_at_once_leave_one_whole_checkpoint(on_s3, uri):
    command = [sys.executable, "-c", WRITER, on_s3.path, str(uri)]
    writers = [subprocess.Popen([*command, number, "4"]) for number in "12"]
    assert [writer.wait() for writer in writers] == [0, 0]
    loaded = on_s3.load(uri)
    assert loaded.shape == (3_000_000, 1)
    assert set(loaded["a"].unique()) in ({1.0}, {2.0})


@pytest.mark.slow
def test_reader_sees_a_whole_checkpoint_while_another_is_written(on_s3, uri):
    on_s3.save(uri, pd.DataFrame({"a": np.full(3_000_000, 1.0)}))
    writer = subprocess.Popen([sys.executable, "-c", WRITER, on_s3.path, str(uri), "2", "5"])
    while writer.poll() is None:
        assert on_s3.load(uri)["a"].nunique() == 1
    assert writer.returncode == 0


@pytest.mark.slow
def test_writer_killed_at_any_point_leaves_a_whole_checkpoint(on_s3, uri, s3, bucket):
    on_s3.save(uri, pd.DataFrame({"a": np.full(3_000_000, 0.0)}))
    files = set(s3.keys(bucket))
    for number in "123":
        writer = subprocess.Popen([sys.executable, "-c", WRITER, on_s3.path, str(uri), number, "9"])
        # Its first files are there: it is in the middle of a save, another time in another one.
        while len(set(s3.keys(bucket)) - files) < int(number):
            time.sleep(0.001)
        writer.kill()
        writer.wait()
        files |= set(s3.keys(bucket))
        assert on_s3.load(uri)["a"].nunique() == 1


MEMORY = """
import resource, sys, numpy as np, pandas as pd
from airflow_ray.hooks.s3_checkpoint import S3CheckpointHook

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

hook = S3CheckpointHook("s3", sys.argv[1])
columns = {f"c{i}": np.random.default_rng(i).random(2_500_000) for i in range(8)}
hook.save(sys.argv[2], pd.DataFrame({"warm": [1.0]}))
frame = pd.DataFrame(columns, copy=False)
before = peak()
hook.save(sys.argv[2], frame)
print(peak() - before)
size = frame.memory_usage().sum()
before = peak()
loaded = hook.load(sys.argv[2])
print(peak() - before - size)
"""


@pytest.mark.slow
def test_save_and_load_of_160_megabytes_take_at_most_64_megabytes_more_memory(on_s3, uri):
    command = [sys.executable, "-c", MEMORY, on_s3.path, str(uri)]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    saving, loading = map(int, output.split()[-2:])
    assert max(saving, loading) <= 64 * 1024 * 1024
