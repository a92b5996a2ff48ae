"""Does on the host of Airflow what the command line names, and tells as JSON in its last line what came of it.

The second argument is a folder that both hosts see. A file there whose name ends in .ready says how far this process
is; it goes on when it finds one that ends in .go.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from airflow_ray.cluster.gateway.flight import batch_of, schema
from airflow_ray.cluster.messages import packed
from airflow_ray.hooks.ray import RayHook
from airflow_ray.object_uri import ObjectURI

CONN_ID = "ray_far"
LINES = 40
UPLOADED_BYTES = 150_000_000
# More than goes with the call itself.
ARGUMENT_BYTES = 3_000_000
# In which a call ends that is cut off.
END_SECONDS = 120

WHAT, FOLDER = sys.argv[1], Path(sys.argv[2])


def tell(name: str) -> None:
    Path(FOLDER, f"{name}.ready").touch()


def await_go(name: str) -> None:
    while not Path(FOLDER, f"{name}.go").exists():
        time.sleep(0.05)


def uri_of(name: str) -> ObjectURI:
    return ObjectURI(CONN_ID, "two_hosts", FOLDER.name, name)


def hash_of(value: bytes) -> str:
    return hashlib.sha256(value).hexdigest()


def noted(ledger: str, value: bytes) -> bytes:
    """Note on the cluster that this was run, and return what was given."""
    with open(ledger, "a") as file:
        file.write("run\n")
    return value


def work(ledger: str, gate: str, lines: int) -> str:
    """Write some lines before somebody opens the gate, and some after that."""
    with open(ledger, "a") as file:
        file.write("run\n")
    for number in range(lines):
        while number == lines // 2 and not Path(gate).exists():
            time.sleep(0.05)
        print(f"line {number}", flush=True)
    return "done"


def reaches(host: str | None, port: int) -> bool:
    try:
        socket.create_connection((host, port), 1).close()
    except TimeoutError:
        return False
    return True


def everything(hook: RayHook) -> Any:
    """Submit, wait, get, upload and download, with the ports that can be reached meanwhile."""
    ledger, value = str(FOLDER / "everything.ledger"), os.urandom(20_000_000)
    with hook.connect():
        submitted = hook.submit(noted, ledger, b"small", uri=uri_of("submitted"))
        state = hook.wait(submitted)["state"]
        hook.put(value, uri=uri_of("value"))
        hashed = hook.submit(hash_of, str(uri_of("value")), uri=uri_of("hashed"))
        hook.wait(hashed)
        same = [hook.get(submitted) == b"small", hook.get(uri_of("value")) == value, hook.get(hashed) == hash_of(value)]
    ports = [port for port in map(int, sys.argv[3:]) if reaches(hook.client.settings.host, port)]
    return {"state": state, "same": same, "ports": ports}


def upload(hook: RayHook) -> Any:
    value = os.urandom(UPLOADED_BYTES)
    with hook.connect():
        tell("upload")
        await_go("upload")
        hook.put(value, uri=uri_of("uploaded"))
        hashed = hook.submit(hash_of, str(uri_of("uploaded")), uri=uri_of("hashed"))
        hook.wait(hashed)
        return {"state": hook.status(uri_of("uploaded")), "same": [hook.get(hashed) == hash_of(value)]}


def wait(hook: RayHook) -> Any:
    ledger, gate = str(FOLDER / "wait.ledger"), str(FOLDER / "wait.gate")
    with hook.connect():
        uri = hook.submit(work, ledger, gate, LINES, uri=uri_of("waited_for"))
        tell("wait")
        state = hook.wait(uri)["state"]
        same = [hook.logs(uri) == [f"line {number}" for number in range(LINES)], hook.get(uri) == "done"]
    return {"state": state, "same": same}


def submit(hook: RayHook) -> Any:
    value = os.urandom(ARGUMENT_BYTES if WHAT == "submit_large" else 10)
    ledger = str(FOLDER / f"{WHAT}.ledger")
    with hook.connect():
        tell(WHAT)
        await_go(WHAT)
        uri = hook.submit(noted, ledger, value, uri=uri_of(WHAT))
        state = hook.wait(uri)["state"]
        return {"state": state, "same": [hook.get(uri) == value]}


def forsake(hook: RayHook) -> Any:
    """Wait with a call that gets no answer, until nothing is left of it, and then use the cluster in a child."""
    with hook.connect():
        uri = hook.submit(work, str(FOLDER / "forsake.ledger"), str(FOLDER / "forsake.gate"), 2, uri=uri_of("forsaken"))
        session = hook.client.link.session
        tell("forsake")
        offset, error = 0, None
        while error is None:
            call = session.begin("poll", uri.record_id, offset, 1000.0)
            error = call.exception()
            offset = offset if error else call.result()["offset"]
        deadline = time.monotonic() + END_SECONDS
        while session.peer.client.users and time.monotonic() < deadline:
            time.sleep(0.1)
        users = session.peer.client.users
    tell("forsaken")
    await_go("forsake")
    reading, writing = os.pipe()
    if not os.fork():
        try:
            os.write(writing, hook.status(uri).encode())
        except Exception as told:
            os.write(writing, repr(told).encode())
        os._exit(0)
    os.wait()
    return {"error": str(error), "users": users, "child": os.read(reading, 1000).decode()}


def pause(hook: RayHook) -> Any:
    """Begin an upload, and send no more of it."""
    from pyarrow import flight

    with hook.connect():
        peer = hook.client.link.session.peer
        command = packed({**peer.owner, "name": FOLDER.name, "sizes": [1, 1]})
        with peer.client.used() as client:
            writer, _ = client.do_put(flight.FlightDescriptor.for_command(command), schema(), peer.client.options())
            writer.write_batch(batch_of(b"x"))
            tell("pause")
            await_go("pause")
    os._exit(0)


VERBS: dict[str, Callable[[RayHook], Any]] = {
    "everything": everything,
    "upload": upload,
    "wait": wait,
    "submit": submit,
    "submit_large": submit,
    "forsake": forsake,
    "pause": pause,
}

if __name__ == "__main__":
    told = VERBS[WHAT](RayHook(CONN_ID))
    print(json.dumps(told))
