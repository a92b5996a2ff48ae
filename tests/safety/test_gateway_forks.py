"""Processes that fork while they have a connection to a gateway, and while they use it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from airflow_ray.hooks.ray import RayHook
from airflow_ray.object_uri import ObjectURI
from tests.conftest import new_uri
from tests.ray_head import RayHead

# A process of its own: what forks here may not have Ray in it. Children write to its output and end at once.
PARENT = """
import multiprocessing, os, sys, threading
from airflow_ray.hooks.ray import RayHook

uri = sys.argv[1]

def use():
    return RayHook("ray_gateway").get(uri)

def told(function=use):
    try:
        return repr(function())
    except BaseException as error:
        return f"{type(error).__name__}: {error}"

def in_child(function):
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, told(function).encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return text

"""


def output(code: str, uri: ObjectURI) -> list[str]:
    """Return what a process prints that runs some code after :data:`PARENT`."""
    script = PARENT + code
    ran = subprocess.run([sys.executable, "-c", script, str(uri)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


@pytest.fixture(scope="module")
def kept(head: RayHead) -> ObjectURI:
    uri = new_uri("ray_gateway")
    with RayHook("ray_gateway").connect() as hook:
        hook.put("kept", uri=uri)
    return uri


@pytest.mark.parametrize(
    "code",
    [
        "print(told()); print(in_child(use)); print(told())",
        "print(told()); print(eval(in_child(lambda: in_child(use)))); print(told())",
        "print(told()); print(*multiprocessing.get_context('fork').Pool(1).map(told, [use])); print(told())",
        "print(told()); print(in_child(lambda: (use(), in_child(use))[1]).strip('\\\"')); print(told())",
    ],
    ids=["child", "grandchild", "multiprocessing", "child that has used it"],
)
@pytest.mark.slow
def test_both_can_go_on_after_a_fork_while_nothing_is_under_way(kept: ObjectURI, code: str) -> None:
    assert output(code, kept) == ["'kept'"] * 3


WHILE_IT_WAITS = """
import logging, tempfile, time

def until_there(gate):
    while not os.path.exists(gate):
        time.sleep(0.05)

def wait():
    with RayHook("ray_gateway").connect() as hook:
        hook.submit(until_there, gate, uri=other)
        connected.append(hook)
        hook.wait(other)
        print("waited", flush=True)

logging.disable()
other, connected = uri.replace("/task/", "/" + str(os.getpid()) + "/"), []
gate = os.path.join(tempfile.mkdtemp(), "gate")
waits = threading.Thread(target=wait)
waits.start()
while not (connected and connected[0].client.link.session.peer.client.users):
    time.sleep(0.01)
print(in_child(use).partition(".")[0], flush=True)
open(gate, "w").close()
waits.join()
print(told())
"""


@pytest.mark.slow
def test_child_of_one_that_waits_is_told_so_and_the_parent_goes_on(kept: ObjectURI) -> None:
    child, *parent = output(WHILE_IT_WAITS, kept)
    assert child.startswith("RayForkedError: This process was forked while its parent was calling the Ray cluster")
    assert parent == ["waited", "'kept'"]


WHILE_IT_CALLS = """
def call():
    while not over:
        use()

use()  # What is imported while a process forks stays locked in its child, whoever imports it.
over, calls = [], threading.Thread(target=call)
calls.start()
children = [in_child(use) for _ in range(15)]
over.append(True)
calls.join()
for each in children:
    print(each.partition(":")[0])
print(told())
"""
PUT = """
def use():
    RayHook("ray_gateway").put("kept", uri=uri.replace("/task/", f"/{os.getpid()}-{threading.get_ident()}/"))
    return "kept"
"""


@pytest.mark.parametrize("use", ["", PUT], ids=["get", "put"])
@pytest.mark.slow
def test_no_child_hangs_whose_parent_calls_all_the_time(kept: ObjectURI, use: str) -> None:
    *children, parent = output(use + WHILE_IT_CALLS, kept)
    assert set(children) <= {"'kept'", "RayForkedError"}
    assert parent == "'kept'"


GRPC_ENDS_LATE = """
from airflow_ray.client.connection import flight_client

flight_client.SHUTDOWN_SECONDS = 0.0
for _ in range(15):
    use()
    print(in_child(use).partition(":")[0])
print(told())
"""


@pytest.mark.slow
def test_no_child_hangs_where_grpc_ends_later_than_a_fork_waits(kept: ObjectURI) -> None:
    *children, parent = output(GRPC_ENDS_LATE, kept)
    assert set(children) <= {"'kept'", "RayForkedError"}
    assert parent == "'kept'"
