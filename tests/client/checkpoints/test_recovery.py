"""Lose a worker, a node, the owner or the whole cluster: the next task still gets its input."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from airflow_ray.client.client import RayClient
from airflow_ray.client.connection.head_process import free_ports
from airflow_ray.exceptions import (
    RayCheckpointAccessError,
    RayCheckpointCorruptError,
    RayConfigurationError,
    RayObjectLostError,
    RayWorkerCrashedError,
)
from airflow_ray.hooks.ray import RayHook
from airflow_ray.hooks.s3_checkpoint import S3CheckpointHook
from airflow_ray.object_uri import ObjectURI
from tests.checkpointing import CONNECTION, Cluster, connection_of, consumed, make_frame, produced, total
from tests.conftest import await_file, new_uri
from tools.s3_server import S3Server

KEY = "test-secret-key"


@pytest.fixture(scope="module")
def running_cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    yield cluster
    cluster.head.stop()


@pytest.fixture(params=["gateway"])
def cluster(request, running_cluster, monkeypatch, bucket) -> Cluster:
    """A cluster whose connection names the bucket for checkpoints."""
    extra = {"checkpoint_path": f"s3://{bucket}/checkpoints", "checkpoint_conn_id": "s3"}
    connection = connection_of(running_cluster.head, request.param, **extra)
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONNECTION.upper()}", connection)
    return running_cluster


def kill_owner(cluster: Cluster) -> None:
    (owner,) = cluster.head.processes("ray::Owner")
    owner.kill()


each_mode = pytest.mark.parametrize(
    "cluster",
    ["gateway", *(pytest.param(mode, marks=pytest.mark.slow) for mode in ("client", "driver"))],
    indirect=True,
)


@each_mode
def test_input_comes_from_the_store_while_it_is_there(cluster):
    assert consumed(produced(1000)) == (499_500, "store")


# Through the gateway tell that the tests of what was lost at once.
@pytest.mark.slow
@pytest.mark.parametrize("cluster", ["client", "driver"], indirect=True)
def test_tasks_and_this_process_get_the_checkpoint_after_the_loss_of_the_cluster(cluster):
    first, second = produced(1000), produced(1000)
    cluster.lose()
    assert consumed(first) == (499_500, "checkpoint")
    assert RayHook(CONNECTION).get(second).shape == (1000, 2)


@each_mode
def test_input_comes_from_the_checkpoint_after_the_loss_of_the_owner(cluster):
    uri = produced(1000)
    kill_owner(cluster)
    assert consumed(uri) == (499_500, "checkpoint")


@pytest.mark.slow
@pytest.mark.parametrize("cluster", ["driver"], indirect=True)
def test_process_that_has_read_a_value_joins_the_head_that_comes_in_place_of_a_lost_one(cluster):
    assert RayHook(CONNECTION).get(produced(1000)).shape == (1000, 2)
    cluster.lose()
    assert consumed(produced(1000)) == (499_500, "store")


def make_modin(rows):
    import modin.pandas as mpd
    import numpy as np

    return mpd.DataFrame({"a": np.arange(rows), "b": np.arange(rows).astype(str)})


def of_modin(frame):
    return type(frame).__module__, int(frame["a"].sum())


def make_dataset(rows):
    import ray

    return ray.data.range(rows, override_num_blocks=4).materialize()


def make_tuple(rows):
    import pandas as pd

    return make_modin(rows), {"held_out": pd.DataFrame({"a": range(rows)})}


def of_tuple(both):
    return of_modin(both[0]), int(both[1]["held_out"]["a"].sum())


class OfThisFile:
    def __init__(self, value):
        self.value = value


class Lost(NamedTuple):
    """Objects that were lost with their cluster.

    :param uris: by what they are.
    :param bucket: with their checkpoints.
    :param connection: that names it.
    """

    uris: dict[str, ObjectURI]
    bucket: str
    connection: str


@pytest.fixture(scope="module")
def lost_at_once(running_cluster: Cluster, s3: S3Server) -> Lost:
    """Objects of many kinds that were lost with one cluster: to start another one takes long."""
    bucket = s3.new_bucket()
    path = f"s3://{bucket}/checkpoints"
    connection = connection_of(running_cluster.head, "gateway", checkpoint_path=path, checkpoint_conn_id="s3")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_S3", s3.connection())
        patch.setenv(f"AIRFLOW_CONN_{CONNECTION.upper()}", connection)
        uris = {
            "outputs": produced(fn=lambda: {"train": [1], "täst/1": [2]}, multiple_outputs=True),
            "10 rows": produced(10),
            "20 rows": produced(20),
            "30 rows": produced(30),
            "40 rows": produced(40),
            "modin": produced(10_000, fn=make_modin),
            "dataset": produced(10_000, fn=make_dataset),
            "tuple": produced(1000, fn=make_tuple),
            "object": produced(42, fn=OfThisFile),
            "without checkpoint": produced(10, checkpoint=False),
            "broken checkpoint": produced(10),
        }
        running_cluster.lose()
    return Lost(uris, bucket, connection)


@pytest.fixture
def lost(lost_at_once: Lost, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Lost:
    """Those objects, and the connection by which they are restored."""
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONNECTION.upper()}", lost_at_once.connection)
    return lost_at_once


@pytest.mark.slow
def test_one_of_several_outputs_is_restored(lost):
    assert consumed(lost.uris["outputs"].with_key("täst/1"), fn=sum) == (2, "checkpoint")


@pytest.mark.slow
def test_several_lost_inputs_are_restored(lost):
    uris = [lost.uris["10 rows"], lost.uris["20 rows"]]
    of_consumer = new_uri(CONNECTION)
    with RayHook(CONNECTION).connect() as hook:
        hook.submit(lambda frames: sum(map(len, frames)), uris, uri=of_consumer)
        assert {each["source"] for each in hook.wait(of_consumer)["inputs"]} == {"checkpoint"}
        assert hook.get(of_consumer) == 30


@pytest.mark.slow
def test_get_restores_a_lost_object(lost):
    assert RayHook(CONNECTION).get(lost.uris["30 rows"]).shape == (30, 2)


@pytest.mark.slow
def test_restored_object_is_an_ordinary_object_of_the_new_owner(lost):
    uri = lost.uris["40 rows"]
    assert [consumed(uri) for _ in range(2)] == [(780, "checkpoint"), (780, "store")]
    assert RayHook(CONNECTION).describe(uri)["outputs"]["return_value"]["shape"] == [40, 2]


@pytest.mark.slow
def test_concurrent_consumers_of_a_lost_object_cause_one_restore(cluster, s3, proxy, monkeypatch):
    uri = produced(1000)
    kill_owner(cluster)
    monkeypatch.setenv("AIRFLOW_CONN_S3", s3.connection(endpoint_url=proxy.endpoint))
    consumers = [new_uri(CONNECTION) for _ in range(5)]
    start = threading.Barrier(len(consumers))

    def consume(of_consumer):
        with RayHook(CONNECTION).connect() as hook:
            start.wait()
            hook.submit(total, uri, uri=of_consumer)
            hook.wait(of_consumer)

    with ThreadPoolExecutor(len(consumers)) as threads:
        list(threads.map(consume, consumers))
    assert [RayHook(CONNECTION).get(each) for each in consumers] == [499_500] * 5
    assert len([line for line in proxy.requests if line.startswith("GET") and "manifest.json" in line]) == 1


@pytest.mark.slow
def test_restore_that_ends_late_leaves_what_the_producer_made_anew(cluster, s3, proxy, monkeypatch):
    uri = produced(1000)
    kill_owner(cluster)
    monkeypatch.setenv("AIRFLOW_CONN_S3", s3.connection(endpoint_url=proxy.endpoint))
    proxy.network.clear()
    with ThreadPoolExecutor(1) as thread, RayHook(CONNECTION).connect() as hook:
        restored = thread.submit(RayHook(CONNECTION).get, uri)
        assert proxy.reached.wait(300)
        hook.submit(make_frame, 5, uri=uri)
        hook.wait(uri)
        proxy.network.set()
        restored.result(300)
        assert hook.get(uri).shape == (5, 2)


@pytest.mark.slow
def test_checkpoint_is_written_once_the_storage_can_be_reached_again(cluster, s3, proxy, monkeypatch):
    uri = new_uri(CONNECTION)
    monkeypatch.setenv("AIRFLOW_CONN_S3", s3.connection(endpoint_url=proxy.endpoint))
    proxy.fault = "cut"
    with RayHook(CONNECTION).connect() as hook:
        hook.submit(make_frame, 10, uri=uri, checkpoint=True)
    for progress in RayClient(CONNECTION).follow(uri):
        if any("It is tried again for" in line for line in progress.lines):
            proxy.fault = None
    assert progress.state == "SUCCEEDED"
    kill_owner(cluster)
    assert consumed(uri) == (45, "checkpoint")


@pytest.mark.slow
def test_checkpoint_is_written_with_the_credentials_of_the_try_that_attached(cluster, s3, monkeypatch, tmp_path):
    uri = new_uri(CONNECTION)
    monkeypatch.setenv("AIRFLOW_CONN_S3", s3.connection(endpoint_url=f"http://127.0.0.1:{free_ports(1)[0]}"))
    with RayHook(CONNECTION).connect() as hook:
        hook.submit(opened_gate, str(tmp_path), uri=uri, checkpoint=True, generation="0")
        await_file(tmp_path / "begun")
        monkeypatch.setenv("AIRFLOW_CONN_S3", s3.connection())
        hook.submit(opened_gate, str(tmp_path), uri=uri, checkpoint=True, generation="0")
        (tmp_path / "gate").touch()
        assert hook.wait(uri)["state"] == "SUCCEEDED"
    assert (tmp_path / "begun").read_text() == "once"


def opened_gate(folder):
    """Tell that it has begun, and end when the test opens the gate."""
    import time
    from pathlib import Path

    with Path(folder, "begun").open("a") as begun:
        begun.write("once")
    while not Path(folder, "gate").exists():
        time.sleep(0.05)


def gadget_frame(rows):
    import numpy as np
    import pandas as pd

    return pd.DataFrame({"a": np.arange(rows)})


@pytest.mark.slow
def test_input_of_a_lost_node_is_made_again_by_ray(cluster):
    node = cluster.head.add_node(away=1)
    uri = produced(200_000, fn=gadget_frame, resources={"away": 1})
    other = cluster.head.add_node(away=1)
    node.kill()
    try:
        assert consumed(uri) == (19_999_900_000, "lineage")
    finally:
        other.kill()


@pytest.mark.slow
def test_input_of_a_lost_node_that_ray_may_not_make_again_is_found_lost(cluster):
    node = cluster.head.add_node(away=1)
    uri = produced(200_000, fn=gadget_frame, resources={"away": 1}, max_retries=0)
    node.kill()
    with pytest.raises(RayObjectLostError):
        consumed(uri)
    assert consumed(uri) == (19_999_900_000, "checkpoint")


def frame_in_a_ledger(rows, ledger):
    import numpy as np
    import pandas as pd

    with open(ledger, "a") as file:
        file.write("begun\n")
    return pd.DataFrame({"a": np.arange(rows)})


@pytest.mark.slow
def test_input_of_a_lost_node_that_no_other_can_make_again_is_restored(cluster, tmp_path):
    ledger = tmp_path / "ledger"
    node = cluster.head.add_node(away=1)
    uri = produced(200_000, str(ledger), fn=frame_in_a_ledger, resources={"away": 1})
    node.kill()
    with pytest.raises(RayObjectLostError, match=r"asks for \{'CPU': 1, 'away': 1\}"):
        consumed(uri, scheduling_timeout=20)
    other = cluster.head.add_node(away=1)
    try:
        # Ray gives the place to what has asked for it first.
        produced(1, fn=gadget_frame, resources={"away": 1})
        assert consumed(uri) == (19_999_900_000, "checkpoint")
        assert ledger.read_text() == "begun\n"
    finally:
        other.kill()


def total_on_the_second_try(frame, folder):
    """Wait in the first process, which the test ends."""
    import time
    from pathlib import Path

    begun = Path(folder, "begun")
    if begun.exists():
        return int(frame["a"].sum())
    begun.write_text("once")
    time.sleep(600)


@pytest.mark.slow
def test_work_that_was_lost_with_an_input_that_no_other_node_can_make_again_says_so(cluster, tmp_path):
    node = cluster.head.add_node(away=1)
    uri = produced(200_000, fn=gadget_frame, resources={"away": 1})
    other = new_uri(CONNECTION)
    with RayHook(CONNECTION).connect() as hook:
        # Ray has it run where its input lies.
        hook.submit(total_on_the_second_try, uri, str(tmp_path), uri=other, scheduling_timeout=20)
        await_file(tmp_path / "begun")
        node.kill()
        with pytest.raises(RayObjectLostError, match=r"asks for \{'CPU': 1, 'away': 1\}"):
            hook.wait(other)
        assert consumed(uri) == (19_999_900_000, "checkpoint")


def frame_made_once(rows, file):
    """Do as something does whose source has gone when Ray runs it again."""
    from pathlib import Path

    Path(file).rename(f"{file}.used")
    return gadget_frame(rows)


@pytest.mark.slow
@pytest.mark.parametrize("cluster", ["gateway", "driver"], indirect=True)
def test_object_that_fails_to_be_made_again_is_lost(cluster, tmp_path):
    sources = [str(tmp_path / name) for name in ("consumed", "got")]
    for source in sources:
        Path(source).touch()
    node = cluster.head.add_node(away=1)
    consumed_uri, got_uri = (produced(200_000, each, fn=frame_made_once, resources={"away": 1}) for each in sources)
    other = cluster.head.add_node(away=1)
    node.kill()
    try:
        with pytest.raises(
            RayObjectLostError, match=r"Ray ran the work again that had made it, and it failed: .*No such file"
        ):
            consumed(consumed_uri)
        assert consumed(consumed_uri) == (19_999_900_000, "checkpoint")
        assert total(RayHook(CONNECTION).get(got_uri)) == 19_999_900_000
    finally:
        other.kill()


@pytest.mark.slow
@pytest.mark.parametrize("cluster", ["gateway", "driver"], indirect=True)
def test_who_gets_an_object_of_a_lost_node_is_told_what_it_waits_for(cluster, caplog):
    caplog.set_level(logging.INFO)
    node = cluster.head.add_node(away=1)
    uri = produced(200_000, fn=gadget_frame, resources={"away": 1})
    node.kill()
    with RayHook(CONNECTION).connect() as hook, ThreadPoolExecutor() as pool:
        getting = pool.submit(hook.get, uri)
        while "it asks for {'CPU': 1, 'away': 1}, which no node has yet" not in caplog.text:
            assert not getting.done()
            time.sleep(0.5)
        other = cluster.head.add_node(away=1)
        try:
            assert total(getting.result(300)) == 19_999_900_000
        finally:
            other.kill()


@pytest.mark.slow
def test_modin_frame_is_restored_as_one(lost):
    assert consumed(lost.uris["modin"], fn=of_modin) == (("modin.pandas.dataframe", 49_995_000), "checkpoint")


@pytest.mark.slow
def test_modin_frame_is_one_in_another_process(cluster):
    uri = produced(10_000, fn=make_modin)
    other_process = {"runtime_env": {"env_vars": {"OF": "TEST"}}}
    assert consumed(uri, fn=of_modin, **other_process) == (("modin.pandas.dataframe", 49_995_000), "store")


@pytest.mark.slow
def test_modin_frame_whose_partitions_died_with_their_node_is_restored(cluster):
    # With processors for those who write the partitions there: they would leave copies on another node.
    node = cluster.head.add_node(num_cpus=5, away=1)
    uri = produced(200_000, fn=make_modin, resources={"away": 1}, max_retries=0)
    node.kill()
    with pytest.raises(RayObjectLostError):
        consumed(uri, fn=of_modin)
    assert consumed(uri, fn=of_modin) == (("modin.pandas.dataframe", 19_999_900_000), "checkpoint")


@pytest.mark.slow
def test_dataset_is_restored_as_one(lost):
    uri = lost.uris["dataset"]
    assert S3CheckpointHook("s3", RayHook(CONNECTION).client.settings.checkpoint_path).describe(uri)["objects"] == 4
    assert consumed(uri, fn=lambda dataset: (type(dataset).__name__, dataset.sum("id"))) == (
        ("MaterializedDataset", 49_995_000),
        "checkpoint",
    )


@pytest.mark.slow
def test_frames_inside_a_tuple_are_restored(lost):
    parts = consumed(lost.uris["tuple"], fn=of_tuple)
    assert parts == ((("modin.pandas.dataframe", 499_500), 499_500), "checkpoint")


@pytest.mark.slow
def test_object_of_a_class_that_only_the_dag_file_has_is_restored(lost):
    assert consumed(lost.uris["object"], fn=lambda each: each.value) == (42, "checkpoint")


@pytest.mark.slow
def test_lost_object_without_checkpoint_names_what_to_clear(lost):
    uri = lost.uris["without checkpoint"]
    with pytest.raises(RayObjectLostError) as raised:
        consumed(uri)
    for part in (str(uri), "'make'", repr(uri.run_id), "clear that task", "no checkpoint"):
        assert part in str(raised.value)


@pytest.mark.slow
def test_lost_object_with_a_broken_checkpoint_names_both(lost, s3):
    uri = lost.uris["broken checkpoint"]
    (data,) = (key for key in s3.keys(lost.bucket) if uri.run_id in key and ".data.0" in key)
    s3.client().put_object(Bucket=lost.bucket, Key=data, Body=b"broken")
    with pytest.raises(RayCheckpointCorruptError) as raised:
        consumed(uri)
    for part in (data, "clear that task", "6 bytes instead of"):
        assert part in str(raised.value)


def test_checkpoint_without_any_path_is_an_error_before_the_work_runs(cluster, monkeypatch, tmp_path):
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONNECTION.upper()}", connection_of(cluster.head, "driver"))
    uri = new_uri(CONNECTION)
    with pytest.raises(RayConfigurationError, match="no path for checkpoints"):
        RayHook(CONNECTION).submit(tmp_path.joinpath("ran").touch, uri=uri, checkpoint=True)
    assert RayHook(CONNECTION).status(uri) == "LOST"


def test_failed_checkpoint_fails_the_work_and_leaves_no_object(cluster):
    uri = new_uri(CONNECTION)
    with RayHook(CONNECTION).connect() as hook:
        hook.submit(make_frame, 10, uri=uri, checkpoint=True, checkpoint_path="s3://no-such-bucket/x")
        with pytest.raises(RayCheckpointAccessError, match=r"NO_SUCH_BUCKET.*Check bucket"):
            hook.wait(uri)
        with pytest.raises(RayObjectLostError, match="FAILED"):
            hook.get(uri)


def test_best_effort_keeps_the_object_without_checkpoint(cluster):
    uri = produced(10, checkpoint="best-effort", checkpoint_path="s3://no-such-bucket/x")
    record = RayHook(CONNECTION).describe(uri)
    assert record["state"] == "SUCCEEDED"
    assert record["outputs"]["return_value"]["checkpoint"]["error"]["kind"] == "checkpoint_access"


def big_frame():
    import numpy as np
    import pandas as pd

    return pd.DataFrame(np.arange(5_000_000.0).reshape(-1, 5))


@pytest.fixture
def hanging(s3, bucket, proxy, monkeypatch):
    """Let the storage take the first megabytes of each connection, and then nothing any more."""
    monkeypatch.setenv("AIRFLOW_CONN_S3", s3.connection(endpoint_url=proxy.endpoint))
    proxy.fault, proxy.after_bytes = "hang", 4_000_000
    return proxy


def kill_while_it_writes(hook, uri, hanging):
    """End the worker with SIGKILL while it writes its checkpoint, and let the storage take all again."""
    while not hanging.faults:
        time.sleep(0.05)
    os.kill(hook.describe(uri)["pid"], signal.SIGKILL)
    hanging.fault = None


@pytest.mark.slow
def test_worker_killed_while_it_writes_leaves_no_checkpoint(cluster, hanging):
    uri = new_uri(CONNECTION)
    with RayHook(CONNECTION).connect() as hook:
        hook.submit(big_frame, uri=uri, checkpoint=True, max_retries=0)
        kill_while_it_writes(hook, uri, hanging)
        with pytest.raises(RayWorkerCrashedError):
            hook.wait(uri)
        assert not S3CheckpointHook("s3", hook.client.settings.checkpoint_path).exists(uri)


def test_worker_killed_while_it_writes_leaves_the_earlier_checkpoint(cluster, bucket, hanging):
    uri = new_uri(CONNECTION)
    checkpoints = S3CheckpointHook("s3", f"s3://{bucket}/checkpoints")
    checkpoints.save(uri, "earlier")
    with RayHook(CONNECTION).connect() as hook:
        hook.submit(big_frame, uri=uri, checkpoint=True, max_retries=0)
        kill_while_it_writes(hook, uri, hanging)
        with pytest.raises(RayWorkerCrashedError):
            hook.wait(uri)
    assert checkpoints.load(uri) == "earlier"


@pytest.mark.slow
def test_worker_killed_while_it_writes_is_started_again_by_ray(cluster, bucket, hanging):
    uri = new_uri(CONNECTION)
    with RayHook(CONNECTION).connect() as hook:
        hook.submit(big_frame, uri=uri, checkpoint=True)
        kill_while_it_writes(hook, uri, hanging)
        hook.wait(uri)
    assert S3CheckpointHook("s3", f"s3://{bucket}/checkpoints").load(uri).shape == (1_000_000, 5)


def test_credentials_stay_nowhere_on_the_cluster(cluster):
    uri = produced(1000)
    hook = RayHook(CONNECTION)
    hook.release(uri)
    assert consumed(uri) == (499_500, "checkpoint")
    assert KEY not in str(hook.describe(uri)) + str(hook.logs(uri)) + repr(hook.client.settings)
    files = [path for path in Path(cluster.head.temp_dir).rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []


def test_credentials_of_a_role_are_renewed_while_the_work_runs(cluster, s3, bucket, monkeypatch, tmp_path):
    role = "arn:aws:iam::123456789012:role/writer"
    sts = {"sts": {"endpoint_url": s3.endpoint}}
    monkeypatch.setenv("AIRFLOW_CONN_S3", s3.connection(role_arn=role, service_config=sts))
    monkeypatch.setattr("airflow_ray.client.checkpoints.targets.REFRESH_SECONDS", 0.0)
    sent = []
    hook = RayHook(CONNECTION)
    link = hook.client.link
    call = link.call
    monkeypatch.setattr(link, "call", lambda *args, **kwargs: sent.append((args, kwargs)) or call(*args, **kwargs))
    uri = new_uri(CONNECTION)
    with hook.connect():
        hook.submit(make_frame, 10, uri=uri, checkpoint=True)
        hook.wait(uri)
    renewed = [kwargs["checkpoint"]["storage"] for args, kwargs in sent if args[0] == "refresh_credentials"]
    assert renewed
    assert all(storage["options"]["session_token"] for storage in renewed)
    assert S3CheckpointHook("s3", f"s3://{bucket}/checkpoints").exists(uri)


@pytest.mark.slow
def test_output_stays_on_the_node_that_made_it(cluster, monkeypatch):
    import ray

    monkeypatch.setenv("AIRFLOW_CONN_RAY_JOINED", connection_of(cluster.head, "driver"))

    node = cluster.head.add_node(away=1)
    try:
        uri = produced(200_000, fn=gadget_frame, resources={"away": 1}, checkpoint=False)
        with RayHook("ray_joined").connect() as hook:
            (ref,), *_ = hook.client.link.call("find", uri.record_id, uri.key)
            locations = hook.client.link.session.run(lambda: ray.experimental.get_object_locations([ref]))
            nodes = {
                each["NodeID"]: each["Resources"] for each in hook.client.link.session.run(ray.nodes) if each["Alive"]
            }
        assert ["away" in nodes[node_id] for node_id in locations[ref]["node_ids"]] == [True]
    finally:
        node.kill()
