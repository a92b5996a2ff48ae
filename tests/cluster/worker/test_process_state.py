"""What a callable has changed in its process is put back for the next one."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import socket
import sys
import time
import warnings
from contextlib import suppress

import pytest

from airflow_ray.cluster.worker.process_state import keep_process_state, keep_recursion_limit


def umask():
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def of_new_list(name):
    setattr(sys, name, [*getattr(sys, name), "left behind"])


CHANGES = {
    "new variable": lambda: os.environ.update(LEFT_BEHIND="yes"),
    "changed variable": lambda: os.environ.update(PATH="/nowhere"),
    "deleted variable": lambda: os.environ.pop("HOME"),
    "directory": lambda: os.chdir("/"),
    "path": lambda: sys.path.insert(0, "/left/behind"),
    "new path": lambda: of_new_list("path"),
    "arguments": lambda: sys.argv.clear(),
    "umask": lambda: os.umask(0o007),
    "timeout": lambda: socket.setdefaulttimeout(3),
    "handler": lambda: signal.signal(signal.SIGUSR1, print),
    "handler of a real-time signal": lambda: signal.signal(signal.SIGRTMIN + 3, print),
    "timer": lambda: signal.setitimer(signal.ITIMER_VIRTUAL, 3600),
    "filter of warnings": lambda: warnings.simplefilter("error"),
    "warnings to logging": lambda: logging.captureWarnings(True),
    "disabled logging": lambda: logging.disable(logging.CRITICAL),
    "time zone": lambda: (os.environ.update(TZ="America/New_York"), time.tzset()),
}


def state():
    return {
        "environment": dict(os.environ),
        "directory": os.getcwd(),
        "lists": [(id(values), values[:]) for values in (sys.path, sys.argv)],
        "umask": umask(),
        "timeout": socket.getdefaulttimeout(),
        "handlers": [signal.getsignal(each) for each in signal.valid_signals()],
        # That of real time is the one that ends tests.
        "timers": [signal.getitimer(each) for each in (signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)],
        "warnings": (warnings.filters[:], warnings.showwarning),
        "logging": logging.root.manager.disable,
        "time zone": time.strftime("%Z"),
    }


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_change_is_put_back(change):
    before = state()
    with keep_process_state():
        change()
        assert state() != before
    assert state() == before


def test_changes_are_put_back_after_an_error():
    before = state()
    with suppress(SystemExit), keep_process_state():
        for change in CHANGES.values():
            change()
        sys.exit()
    assert state() == before


def test_directory_that_a_callable_deletes_disturbs_nothing_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with keep_process_state():
        os.environ["LEFT_BEHIND"] = "yes"
        os.chdir("/")
        tmp_path.rmdir()
    assert "LEFT_BEHIND" not in os.environ


def test_callable_after_one_that_has_deleted_its_directory_has_another(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        with keep_process_state():
            shutil.rmtree(tmp_path, ignore_errors=True)
    assert os.getcwd() == "/"


def test_thread_has_an_event_loop_after_one_was_run_in_it():
    with keep_process_state():
        asyncio.run(asyncio.sleep(0))
    loop = asyncio.get_event_loop_policy().get_event_loop()
    assert not loop.is_closed()
    loop.close()


def test_limit_of_recursion_holds_until_the_value_is_pickled():
    limit = sys.getrecursionlimit()
    with keep_recursion_limit():
        with keep_process_state():
            sys.setrecursionlimit(limit + 1)
        assert sys.getrecursionlimit() == limit + 1
    assert sys.getrecursionlimit() == limit


def test_timer_that_ran_before_runs_on():
    signal.setitimer(signal.ITIMER_VIRTUAL, 3600)
    with keep_process_state():
        pass
    seconds, _ = signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    assert seconds > 0


def test_warnings_are_told_to_logging_again_by_the_next_callable(caplog):
    for _ in range(2):
        with keep_process_state():
            logging.captureWarnings(True)
            warnings.warn("told", stacklevel=1)
    assert sum("told" in each.message for each in caplog.records) == 2
