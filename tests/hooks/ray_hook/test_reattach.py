"""A new try of a task goes on with the work of an earlier one if it is the same, and begins anew if not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from airflow_ray.client.submission.fingerprint import fingerprint
from airflow_ray.client.submission.options import RemoteOptions

SCRIPT = """
import sys, time
from airflow_ray.hooks.ray import RayHook

def work(path, gate):
    import os, time
    with open(path, "a") as file:
        file.write("started\\n")
    print("first line", flush=True)
    while not os.path.exists(gate):
        time.sleep(0.05)
    print("last line", flush=True)
    return 42

with RayHook(sys.argv[1]).connect() as hook:
    hook.submit(work, sys.argv[3], sys.argv[4], uri=sys.argv[2], generation=sys.argv[5])
    for progress in hook.client.follow(sys.argv[2]):
        for line in progress.lines:
            print("line:", line, flush=True)
"""


@pytest.fixture
def files(tmp_path):
    return tmp_path / "starts", tmp_path / "gate"


def start(hook, uri, files, generation="0", script=SCRIPT):
    path = files[0].parent / "try.py"
    path.write_text(script)
    command = [sys.executable, str(path), hook.ray_conn_id, str(uri), *map(str, files), generation]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def lines_of(output):
    """What the work wrote, without the log lines of the hook."""
    return [line for line in output.splitlines() if line.startswith("line: ")]


def killed_after_its_first_line(process):
    while "line: first line" not in process.stdout.readline():
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_next_try_after_sigkill_goes_on_with_the_work(hook, uri, files):
    killed_after_its_first_line(start(hook, uri, files))
    second = start(hook, uri, files)
    files[1].touch()
    output = second.communicate()[0]
    assert (hook.get(uri), files[0].read_text()) == (42, "started\n")
    assert lines_of(output)[-1] == "line: last line"


@pytest.mark.slow
def test_next_try_finds_work_that_ended_meanwhile(hook, uri, files):
    killed_after_its_first_line(start(hook, uri, files))
    files[1].touch()
    hook.wait(uri)
    start(hook, uri, files).wait()
    assert (hook.get(uri), files[0].read_text()) == (42, "started\n")


def test_changed_code_cancels_and_begins_anew(hook, uri, files):
    killed_after_its_first_line(start(hook, uri, files))
    files[1].touch()
    start(hook, uri, files, script=SCRIPT.replace("return 42", "return 43")).wait()
    assert (hook.get(uri), files[0].read_text()) == (43, "started\nstarted\n")


@pytest.mark.slow
def test_cleared_task_begins_anew(hook, uri, files):
    killed_after_its_first_line(start(hook, uri, files))
    files[1].touch()
    start(hook, uri, files, generation="1").wait()
    assert files[0].read_text() == "started\nstarted\n"


def speak_twice(gate):
    import os
    import time

    print("first line")
    while not os.path.exists(gate):
        time.sleep(0.05)
    print("last line")


def test_output_that_was_read_is_not_shown_again(hook, uri, files):
    hook.submit(speak_twice, str(files[1]), uri=uri)
    news = hook.client.follow(uri)
    while "first line" not in next(news).lines:
        pass
    files[1].touch()
    # Whoever asks for more has read what came before.
    while "last line" not in next(news).lines:
        pass
    assert "first line" not in [line for progress in hook.client.follow(uri) for line in progress.lines]


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(({"b", "a", "c"},), id="set"),
        pytest.param(({"x": 1, "y": [2.5, None]},), id="dict"),
        pytest.param(("text" * 3, b"bytes"), id="texts"),
    ],
)
def test_fingerprint_is_the_same_in_each_process(arguments):
    script = (
        "from airflow_ray.client.submission.fingerprint import fingerprint\n"
        "from airflow_ray.client.submission.options import RemoteOptions\n"
        f"print(fingerprint(print, {arguments!r}, {{}}, {{}}, RemoteOptions(), '0'))\n"
    )
    command = [sys.executable, "-c", script]
    outputs = {
        subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True).stdout
        for seed in ("1", "2", "3")
    }
    assert len(outputs) == 1


def made_with(captured):
    return lambda: captured


def fingerprint_of(function, *args, **options):
    return fingerprint(function, args, {}, {}, RemoteOptions(**options), "0")


@pytest.mark.parametrize(
    "other",
    [
        fingerprint_of(made_with(1), 2),
        fingerprint_of(made_with(2), 1),
        fingerprint_of(made_with(1), "1"),
        fingerprint_of(made_with(1), 1, num_cpus=2),
        fingerprint_of(made_with(made_with), 1),
    ],
    ids=["argument", "captured", "type", "option", "captured function"],
)
def test_fingerprint_tells_other_work(other):
    assert other != fingerprint_of(made_with(1), 1)


def test_functions_that_close_over_each_other_have_a_fingerprint():
    def ping():
        return pong

    def pong():
        return ping

    assert fingerprint_of(ping) == fingerprint_of(ping)


def test_earlier_try_may_not_cancel_what_a_later_one_goes_on_with(hook, uri):
    # One that was cancelled once submits nothing any more.
    first, second = f"{uri} first", f"{uri} second"
    for holder in (first, second):
        hook.submit(until_cancelled, uri=uri, generation="0", holder=holder)
    assert (hook.cancel(uri, holder=first), hook.cancel(uri, holder=second)) == (False, True)


def until_cancelled():
    import time

    time.sleep(600)
