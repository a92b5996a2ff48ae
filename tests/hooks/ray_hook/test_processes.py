"""What survives the process that asked for it."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack

import pytest

from airflow_ray.exceptions import RayOwnerDiedError
from airflow_ray.hooks.ray import RayHook
from tests.conftest import new_uri
from tests.ray_head import RayHead

PRODUCER = """
import sys
import time
from airflow_ray.hooks.ray import RayHook

def frame(rows):
    import numpy as np
    import pandas as pd
    return pd.DataFrame(np.arange(rows * 10.0).reshape(rows, 10))

uri, rows = sys.argv[1], int(sys.argv[2])
with RayHook(sys.argv[3]).connect() as hook:
    hook.submit(frame, rows, uri=uri)
    hook.wait(uri)
"""

PUTTER = """
import sys
import time
from airflow_ray.hooks.ray import RayHook

RayHook(sys.argv[2]).put({"answer": 42}, uri=sys.argv[1])
"""


READER = """
import sys
from airflow_ray.hooks.ray import RayHook

frame = RayHook("ray_driver").get(sys.argv[1])
print(frame.sum().sum())
"""

CONNECTS_WHEN_TOLD = """
import sys
from airflow_ray.hooks.ray import RayHook

for conn_id in sys.argv[1:]:
    sys.stdin.readline()
    with RayHook(conn_id).connect() as hook:
        print("records:", len(hook.list_objects()), flush=True)
"""


def in_own_process(script: str, *args: str) -> None:
    subprocess.run([sys.executable, "-c", script, *args], check=True)


def owner_rss(head: RayHead) -> int:
    """Resident memory of the owner actor, in bytes."""
    return sum(each.memory_info().rss for each in head.processes("ray::Owner"))


@pytest.mark.slow
@pytest.mark.parametrize("conn_id", ["ray_client", "ray_driver"])
def test_object_outlives_the_process_that_made_it(head, conn_id):
    uri = new_uri(conn_id)
    in_own_process(PRODUCER, str(uri), "1000", conn_id)
    assert RayHook(conn_id).get(uri).shape == (1000, 10)


def test_object_is_readable_after_the_connection_is_closed(head):
    uri = new_uri("ray_driver")
    in_own_process(PRODUCER, str(uri), "100000", "ray_driver")
    finished = subprocess.run([sys.executable, "-c", READER, str(uri)], capture_output=True, text=True, check=True)
    assert finished.stdout.splitlines()[-1:] == [str(999_999 * 1_000_000 / 2)]


@pytest.mark.slow
@pytest.mark.parametrize("conn_id", ["ray_client", pytest.param("ray_driver", marks=pytest.mark.slow)])
def test_put_object_outlives_the_process_that_put_it(head, conn_id):
    uri = new_uri(conn_id)
    in_own_process(PUTTER, str(uri), conn_id)
    assert RayHook(conn_id).get(uri) == {"answer": 42}


@pytest.mark.slow
def test_frame_of_200_megabytes_does_not_pass_through_the_owner(head):
    producer, consumer = new_uri("ray_driver"), new_uri("ray_driver")
    in_own_process(PRODUCER, str(new_uri("ray_driver")), "10", "ray_driver")
    before = owner_rss(head)
    in_own_process(PRODUCER, str(producer), "2500000", "ray_driver")
    with RayHook("ray_driver").connect() as hook:
        hook.submit(lambda frame: float(frame[0].sum()), producer, uri=consumer)
        hook.wait(consumer)
        assert hook.get(consumer) == 10.0 * 2_499_999 * 2_500_000 / 2
        assert hook.describe(producer)["outputs"]["return_value"]["bytes"] > 200_000_000
        hook.release(producer)
    assert owner_rss(head) - before < 20_000_000


@pytest.mark.slow
@pytest.mark.parametrize("conn_id", [pytest.param("ray_client", marks=pytest.mark.slow), "ray_driver"])
def test_processes_that_connect_first_at_the_same_time_share_one_owner(head, conn_id, monkeypatch):
    conn_ids = [f"{conn_id}_{turn}" for turn in range(2)]
    address = {"ray_client": head.client_uri, "ray_driver": head.driver_uri}[conn_id]
    for each in conn_ids:
        monkeypatch.setenv(f"AIRFLOW_CONN_{each.upper()}", f"{address}{'&' if '?' in address else '?'}namespace={each}")
    owners = {process.pid for process in head.processes("ray::Owner")}
    command = [sys.executable, "-c", CONNECTS_WHEN_TOLD, *conn_ids]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            for _ in range(4)
        ]
        for _ in conn_ids:
            for process in processes:
                process.stdin.write("connect\n")
                process.stdin.flush()
            # Ray writes warnings there as well.
            answers = [next(line for line in each.stdout if "records:" in line) for each in processes]
            assert answers == 4 * ["records: 0\n"]
            # Now, since one that has had nothing for a while ends.
            new = {process.pid for process in head.processes("ray::Owner")} - owners
            assert len(new) == 1
            owners |= new


@pytest.mark.slow
def test_death_of_the_owner_is_told_and_the_next_connection_works(head, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_RAY_MORTAL", f"{head.client_uri}&namespace=mortal")
    before = {process.pid for process in head.processes("ray::Owner")}
    uri = new_uri("ray_mortal")
    with RayHook("ray_mortal").connect() as hook:
        hook.submit(time.sleep, 600, uri=uri)
        (owner,) = (process for process in head.processes("ray::Owner") if process.pid not in before)
        owner.kill()
        with pytest.raises(RayOwnerDiedError, match="'mortal'"):
            hook.wait(uri)
    with RayHook("ray_mortal").connect() as hook:
        hook.put("well", uri=uri)
        assert hook.get(uri) == "well"
