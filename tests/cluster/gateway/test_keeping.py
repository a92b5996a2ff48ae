"""Who keeps the gateway of a head, with processes that do as a gateway does and no cluster."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from airflow_ray.client.connection.head_process import free_ports
from airflow_ray.cluster.gateway import keeping
from airflow_ray.cluster.gateway.child import Duty
from airflow_ray.cluster.gateway.files import GatewayError, ask_to_stop, note_of, noted_process, start_time
from airflow_ray.cluster.gateway.keeping import GatewayKeeper, may_take_place, pause_after
from airflow_ray.cluster.gateway.settings import GatewaySettings, sum_of

TOKENS = [sum_of("0123456789abcdef")]

# What a gateway does, as far as its keeper sees it.
SERVE = """
import json, os, signal, socket, sys, threading

folder, host, port = {place!r}

def end(*_):
    os._exit(0)

signal.signal(signal.SIGTERM, end)
threading.Thread(target=lambda: (sys.stdin.buffer.read(), end())).start()
if host is not None:
    listening = socket.create_server((host, port))
with open(folder + "/new", "w") as note:
    json.dump({{"pid": os.getpid(), "host": host, "port": port}}, note)
os.rename(folder + "/new", folder + "/gateway.json")
while True:
    signal.pause()
"""


class Owner:
    """Whether it lives is for a test to say, and so is the gateway that its keeper keeps."""

    def __init__(self, settings: GatewaySettings, release: str = "0.1.0", code: str = SERVE) -> None:
        self.lives = True
        self.settings = settings
        self.duty = duty(settings, release, code)
        self.keeper = GatewayKeeper(lambda: self.lives, ready_seconds=20)

    def start(self) -> int:
        """Return the process id of the gateway that runs then."""
        return self.keeper.ensure(self.duty, TOKENS)["pid"]


def duty(settings: GatewaySettings, release: str = "0.1.0", code: str = SERVE) -> Duty:
    place = settings.folder, settings.host, settings.port
    return Duty(settings, release, pickle.dumps(exec), (code.format(place=place),))


@pytest.fixture
def settings(tmp_path: Path) -> GatewaySettings:
    return GatewaySettings(str(tmp_path), "127.0.0.1", free_ports(1)[0])


@pytest.fixture
def owners(settings: GatewaySettings) -> Iterator[Callable[..., Owner]]:
    """Make owners with keepers of one head, which all end with the test."""
    made = []

    def owner(release: str = "0.1.0", code: str = SERVE, place: GatewaySettings = settings) -> Owner:
        made.append(Owner(place, release, code))
        return made[-1]

    yield owner
    for each in made:
        each.lives = False
    await_that(lambda: noted_process(settings) is None)
    await_that(lambda: not any(thread.name == "gateway" for thread in threading.enumerate()))


def await_that(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.02)


def running(settings: GatewaySettings) -> int | None:
    note = note_of(settings, noted_process(settings))
    return note and note["pid"]


def await_another(settings: GatewaySettings, pid: int) -> int:
    """Return the process id of the gateway once it is another one."""
    await_that(lambda: running(settings) not in (None, pid))
    found = running(settings)
    assert found is not None
    return found


def test_it_is_started_and_says_where_it_is(owners, settings):
    note = owners().keeper.ensure(duty(settings), TOKENS)
    assert (note["host"], note["port"], note["folder"]) == (settings.host, settings.port, settings.folder)
    assert note["release"] == "0.1.0"


def test_many_who_want_it_at_once_get_one(owners, settings):
    keepers = [owners() for _ in range(5)]
    with ThreadPoolExecutor(20) as pool:
        assert len(set(pool.map(Owner.start, keepers * 4))) == 1


def test_one_that_dies_is_started_again(owners, settings):
    pid = owners().start()
    os.kill(pid, signal.SIGKILL)
    await_another(settings, pid)


def test_it_ends_with_the_owner_of_its_keeper(owners, settings):
    owner = owners()
    pid = owner.start()
    owner.lives = False
    await_that(lambda: not start_time(pid) and not settings.note.exists())


def test_another_keeper_takes_over_when_the_owner_of_the_first_ends(owners, settings):
    first, second = owners(), owners()
    pid = first.start()
    assert second.start() == pid
    first.lives = False
    await_another(settings, pid)


def test_one_that_has_lost_its_keeper_ends_before_the_next_begins(owners, settings):
    keeper = """
import os, pickle, sys
from airflow_ray.cluster.gateway.keeping import GatewayKeeper
duty, sums = pickle.load(sys.stdin.buffer)
print(GatewayKeeper(lambda: True).ensure(duty, sums)["pid"], flush=True)
os.kill(os.getpid(), 9)
"""
    message = pickle.dumps((duty(settings), TOKENS))
    dead = subprocess.run([sys.executable, "-c", keeper], input=message, capture_output=True)
    pid = int(dead.stdout)
    assert owners().start() != pid
    assert not start_time(pid)


def test_a_newer_release_takes_the_place_of_an_older_one(owners, settings):
    old, new = owners("0.1.0"), owners("0.2.0")
    pid = old.start()
    assert new.start() != pid
    assert noted_process(settings).release == "0.2.0"


def test_an_older_release_gets_the_newer_one(owners, settings):
    pid = owners("0.2.0").start()
    assert owners("0.1.0").start() == pid


def test_an_older_release_takes_over_when_the_newer_one_has_ended(owners, settings):
    old, new = owners("0.1.0"), owners("0.2.0")
    old.start()
    pid = new.start()
    new.lives = False
    await_another(settings, pid)
    assert noted_process(settings).release == "0.1.0"


def test_a_port_that_somebody_else_has_is_told_and_tried_again_when_asked(owners, settings):
    owner = owners()
    words = f"cannot listen on 127.0.0.1:{settings.port} .* Another program"
    with socket.create_server((settings.host, settings.port)), pytest.raises(GatewayError, match=words):
        owner.start()
    owner.start()


def test_an_address_that_is_not_of_the_head_is_told(owners, settings):
    owner = owners(place=GatewaySettings(settings.folder, "192.0.2.1", settings.port))
    with pytest.raises(GatewayError, match="Name an address of the head"):
        owner.start()


def test_one_that_does_not_start_is_told_with_its_own_words(owners):
    with pytest.raises(GatewayError, match=r"(?s)did not start.*ZeroDivisionError"):
        owners(code="1 / 0").start()


def test_one_that_never_takes_connections_is_ended_and_told(owners, settings, tmp_path):
    owner = owners(code="import time; print('so slow', flush=True); time.sleep(1000)")
    owner.keeper = GatewayKeeper(lambda: owner.lives, ready_seconds=1)
    with pytest.raises(GatewayError, match="so slow"):
        owner.start()
    await_that(lambda: noted_process(settings) is None)


def test_another_port_than_that_of_the_one_that_runs_is_refused(owners, settings):
    owners().start()
    other = owners(place=GatewaySettings(settings.folder, settings.host, settings.port + 1))
    with pytest.raises(GatewayError, match=f"listens on 127.0.0.1:{settings.port}, not on") as told:
        other.start()
    assert told.value.port == settings.port


def test_another_address_than_that_of_the_one_that_runs_is_refused(owners, settings):
    owners().start()
    other = owners(place=GatewaySettings(settings.folder, "127.0.0.2", settings.port))
    with pytest.raises(GatewayError, match=f"not on 127.0.0.2:{settings.port}") as told:
        other.start()
    assert told.value.port is None


def test_one_on_its_socket_alone_makes_way_for_one_with_a_port(owners, settings):
    owner = owners(place=GatewaySettings(settings.folder))
    pid = owner.start()
    owner.duty = duty(settings)
    assert owner.start() != pid
    assert note_of(settings, noted_process(settings))["port"] == settings.port


def test_one_that_somebody_stops_stays_so_until_it_is_wanted_again(owners, settings):
    keepers = [owners(), owners()]
    pids = {each.start() for each in keepers}
    assert ask_to_stop(settings)
    await_that(lambda: not any(thread.name == "gateway" for thread in threading.enumerate()))
    assert noted_process(settings) is None
    assert keepers[0].start() not in pids


def test_to_stop_where_none_runs_says_so(settings):
    assert not ask_to_stop(settings)


def test_one_that_dies_again_and_again_is_started_after_pauses_that_grow():
    assert [pause_after(deaths) for deaths in (1, 2, 3)] == [0.5, 1.0, 2.0]
    assert pause_after(10_000) == 60.0


@pytest.mark.parametrize(
    ("release", "running", "host", "takes"),
    [
        ("0.10.0", "0.9.0", "0.0.0.0", True),
        ("0.9.0", "0.10.0", "0.0.0.0", False),
        ("0.1.0", "0.1.0", "0.0.0.0", False),
        ("0.1.0", "0.1.0", None, True),
        ("1.0.0", "1.0.0rc1", "0.0.0.0", True),
        ("1.0.0rc1", "1.0.0", "0.0.0.0", False),
    ],
    ids=["newer", "older", "same", "same with a port", "release after its candidate", "candidate"],
)
def test_which_of_two_is_the_one(release, running, host, takes):
    wanted = GatewaySettings("/folder", "0.0.0.0", 8815)
    assert may_take_place(wanted, release, {"host": host, "port": 8815}, running) is takes


def test_an_older_release_does_not_end_a_newer_one_for_its_port():
    with pytest.raises(GatewayError, match="its Unix socket alone"):
        may_take_place(GatewaySettings("/folder", "0.0.0.0"), "0.1.0", {"host": None, "port": 8815}, "0.2.0")


@pytest.mark.parametrize(
    ("versions", "words"),
    [
        ({"ray": "2.60.0", "pyarrow": None}, "needs pyarrow 19 or newer .* has no pyarrow"),
        ({"ray": "2.60.0", "pyarrow": "18.1.0"}, "has pyarrow 18.1.0"),
        ({"ray": "2.9.3", "pyarrow": "19.0.1"}, "needs ray 2.56 or newer .* has ray 2.9.3"),
    ],
)
def test_what_the_head_lacks_is_told_first(mocker, versions, words):
    def version(package: str) -> str:
        if versions[package] is None:
            raise keeping.PackageNotFoundError(package)
        return versions[package]

    mocker.patch.object(keeping, "version", version)
    with pytest.raises(GatewayError, match=words) as told:
        keeping.check_requirements()
    assert told.value.is_of_versions
