"""Keeping the gateway of a head running: one for all namespaces and builds, whoever of their keepers does it."""

from __future__ import annotations

import sys
import threading
import time
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, cast

from airflow_ray.cluster.gateway.files import (
    GatewayError,
    is_stopped,
    last_lines,
    locked,
    make_folder,
    note_of,
    noted_process,
    replace_tokens,
    want_again,
)
from airflow_ray.cluster.gateway.settings import START_SECONDS
from airflow_ray.cluster.releases import order_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_ray.cluster.gateway.child import Duty
    from airflow_ray.cluster.gateway.settings import GatewaySettings

POLL_SECONDS = 0.1
# Between two looks of those who wait for the lock.
LOCK_SECONDS = 0.5
# In which a newer one gets the lock of an older one that was asked to end.
WAY_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 60.0
# Of what a gateway needs, the oldest releases.
OLDEST = {"ray": "2.56", "pyarrow": "19"}


def check_requirements() -> None:
    """Look whether this Python has what a gateway needs.

    :raises GatewayError: it has not.
    """
    for package, oldest in OLDEST.items():
        found = version_of(package)
        if found is None or order_of(found) < order_of(oldest):
            has = f"{package} {found}" if found else f"no {package}"
            raise GatewayError(
                f"The gateway needs {package} {oldest} or newer on the Ray head, and the Python "
                f"there ({sys.executable}) has {has}. Install it in the image or environment of the head",
                is_of_versions=True,
            )


def version_of(package: str) -> str | None:
    """Return the release of a package, or None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def pause_after(deaths: int) -> float:
    """Return how many seconds pass before the next start of a process that has died at once so many times."""
    return min(LONGEST_PAUSE_SECONDS, 0.25 * 2.0 ** min(deaths, 10))


def may_take_place(settings: GatewaySettings, release: str, note: dict[str, Any], running: str) -> bool:
    """Return whether a gateway ends another one that runs, instead of letting it be the one.

    :param release: of that which would be started, with these settings.
    :param note: what the one that runs has written.
    :param running: the release of that.
    :raises GatewayError: neither will do.
    """
    if order_of(release) > order_of(running):
        return True
    if settings.host is None or (note.get("host"), note.get("port")) == (settings.host, settings.port):
        return False
    if note.get("host") is None and order_of(release) == order_of(running):
        return True
    where = f"{note['host']}:{note['port']}" if note.get("host") else "its Unix socket alone"
    is_on_another_port = note.get("host") is not None and note["port"] != settings.port
    raise GatewayError(
        f"The gateway of this head runs already and listens on {where}, not on {settings.host}:{settings.port}. Use "
        "that port, or end it first with the command stop",
        port=note["port"] if is_on_another_port else None,
    )


class GatewayKeeper:
    """Keeps the gateway running while it is wanted, once somebody has asked for it.

    There may be several for one head: the one that has the lock does it, the others wait to take its place.

    :param is_wanted: whether there is still an owner for which it runs.
    :param ready_seconds: until a process must take connections.
    """

    def __init__(self, is_wanted: Callable[[], bool], ready_seconds: float = START_SECONDS) -> None:
        self._is_wanted = is_wanted
        self._ready_seconds = ready_seconds
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._duty: Duty | None = None
        self._hurry = threading.Event()
        self._failures = 0
        self._failure = GatewayError("")
        self._has_served = False

    def ensure(self, duty: Duty, token_sums: list[str]) -> dict[str, Any]:
        """Return the note of the gateway once it takes connections.

        :param token_sums: as for :func:`replace_tokens`.
        :raises GatewayError: it does not.
        """
        settings = duty.settings
        check_requirements()
        make_folder(settings)
        # Who is refused changes nothing.
        process = noted_process(settings)
        if process is not None and (note := note_of(settings, process)) is not None:
            may_take_place(settings, duty.release, note, process.release)
        replace_tokens(settings, token_sums)
        want_again(settings)
        failures, asked = self._failures, set()
        deadline = time.monotonic() + self._ready_seconds
        while time.monotonic() < deadline:
            process = noted_process(settings)
            note = note_of(settings, process)
            # One that nobody keeps any more is about to end.
            if process is not None and note is not None and process.kept:
                if not may_take_place(settings, duty.release, note, process.release):
                    self._has_served = True
                    self._begin(duty)
                    return {**note, "release": process.release}
                if process not in asked:
                    asked.add(process)
                    process.signal()
            elif self._failures > failures:
                raise self._failure
            self._begin(duty)
            time.sleep(POLL_SECONDS)
        raise GatewayError(
            f"The gateway did not take connections within {self._ready_seconds:g} seconds. {last_lines(settings)}"
        )

    def _begin(self, duty: Duty) -> None:
        """Go to work, or go on with what was asked for last."""
        with self._lock:
            self._duty = duty
            self._hurry.set()
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="gateway", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while True:
            duty = cast("Duty", self._duty)
            with locked(duty.settings) as mine:
                if mine:
                    self._keep(duty)
            with self._lock:
                has_failed_at_once = mine and self._failures and not self._has_served
                if has_failed_at_once or not self._goes_on(duty):
                    self._thread = None
                    return
            # Whoever waits for the lock gets it now.
            time.sleep(WAY_SECONDS if mine else LOCK_SECONDS)

    def _goes_on(self, duty: Duty) -> bool:
        return self._is_wanted() and not is_stopped(duty.settings)

    def _keep(self, duty: Duty) -> None:
        """Run one process after the other, until one was asked to end or none is wanted any more."""
        deaths = 0
        while self._goes_on(duty):
            begun = time.monotonic()
            try:
                if duty.run(lambda: self._goes_on(duty), self._ready_seconds):
                    return
                self._failure = GatewayError(f"The gateway has died. {last_lines(duty.settings)}")
            except GatewayError as error:
                self._failure = error
            except OSError as error:
                self._failure = GatewayError(f"The gateway could not be started on the Ray head: {error}")
            self._failures += 1
            if not self._has_served:
                return
            deaths = 1 if time.monotonic() - begun > LONGEST_PAUSE_SECONDS else deaths + 1
            self._rest(duty, pause_after(deaths))

    def _rest(self, duty: Duty, seconds: float) -> None:
        """Wait before the next start, until somebody asks for it."""
        self._hurry.clear()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._goes_on(duty):
            if self._hurry.wait(POLL_SECONDS):
                return
