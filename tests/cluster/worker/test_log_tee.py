"""What a callable writes reaches its log, whatever becomes of the worker's own log file."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from airflow_ray.cluster.worker import line_assembler
from airflow_ray.cluster.worker.level_marks import LevelMarks
from airflow_ray.cluster.worker.log_tee import _Pump

# More than a pipe holds.
LINES = 20_000
TEE = """
import os, sys
from airflow_ray.cluster.worker.log_tee import tee_output

def send(lines, levels):
    with open(sys.argv[1], "a") as file:
        file.writelines(line + "\\n" for line in lines)

"""


def tee(script: str, log: Path, stdout: Any = subprocess.DEVNULL) -> str:
    """Run a script in a process whose own log is ``stdout``, and return what its tee has sent to ``log``."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", TEE + script, str(log)]
    # A callable that hangs is what these tests are about: whoever waits longer has found it.
    subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, check=True, env=environment)
    return log.read_text()


def test_full_disk_of_the_log_file_neither_holds_up_the_callable_nor_costs_a_line(tmp_path):
    script = f"with tee_output(send, []):\n    for number in range({LINES}):\n        print(number)\n"
    with open("/dev/full", "w") as full:
        sent = tee(script, tmp_path / "log", full)
    assert sent.splitlines() == [str(number) for number in range(LINES)]


def test_full_disk_does_not_fail_work_whose_worker_had_still_something_to_write(tmp_path):
    script = "sys.stdout = open(1, 'w', buffering=4096, closefd=False)\nprint('before')\n"
    script += "with tee_output(send, []):\n    print('within')\nos._exit(0)\n"
    with open("/dev/full", "w") as full:
        assert tee(script, tmp_path / "log", full) == "within\n"


def test_lines_go_through_to_the_log_file_of_the_worker(tmp_path):
    script = f"with tee_output(send, []):\n    for number in range({LINES}):\n        print(number)\n"
    with (tmp_path / "own").open("w") as own:
        sent = tee(script, tmp_path / "log", own)
    assert (tmp_path / "own").read_text() == sent
    assert len(sent.splitlines()) == LINES


def test_callable_that_closes_stdout_does_not_fail_for_it(tmp_path):
    script = "with tee_output(send, []):\n    print('before')\n    sys.stdout.close()\n    os.write(1, b'after\\n')\n"
    assert tee(script, tmp_path / "log") == "before\nafter\n"


def test_forked_child_that_lives_on_does_not_hold_up_the_end(tmp_path):
    script = (
        "with tee_output(send, []):\n"
        "    print('of the callable', flush=True)\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        sys.stdin.read()\n"
        "        os._exit(0)\n"
        "import signal\n"
        "os.kill(child, signal.SIGKILL)\n"
    )
    reader, writer = os.pipe()
    try:
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
        command = [sys.executable, "-c", TEE + script, str(tmp_path / "log")]
        # The child waits for the end of its input, which comes when this test closes it.
        subprocess.run(command, stdin=reader, stdout=subprocess.DEVNULL, check=True, env=environment)
    finally:
        os.close(writer)
        os.close(reader)
    assert (tmp_path / "log").read_text() == "of the callable\n"


def test_worker_with_more_than_a_thousand_open_files_is_followed(tmp_path):
    script = "import resource\n_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
    script += (
        "resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))\nfiles = [open(os.devnull) for _ in range(1100)]\n"
    )
    script += f"with tee_output(send, []):\n    for number in range({LINES}):\n        print(number)\n"
    assert len(tee(script, tmp_path / "log").splitlines()) == LINES


class Followed:
    """A pump over a pipe, what is written into that pipe, and what the pump has sent."""

    def __init__(self, through: int, fail: Exception | None = None) -> None:
        self.sent: list[str] = []
        self._fail = fail
        source, self._sink = os.pipe()
        wake, self._stop = os.pipe()
        self._pump = _Pump(source, wake, through, self._send, [], LevelMarks())
        self._pump.start()
        self._descriptors = source, wake, self._stop

    def _send(self, lines: list[str], levels: str) -> None:
        fail, self._fail = self._fail, None
        if fail is not None:
            raise fail
        self.sent += lines

    def write(self, data: bytes) -> None:
        """Write all, in a thread of its own: a pump that has ended lets it wait for ever."""
        writer = threading.Thread(target=self._write, args=(data,), daemon=True)
        writer.start()
        writer.join(300)
        assert not writer.is_alive(), "nobody reads what the callable writes"

    def until_sent(self, line: str) -> None:
        deadline = time.monotonic() + 30
        while line not in self.sent:
            assert time.monotonic() < deadline, self.sent
            time.sleep(0.01)

    def end(self) -> None:
        os.close(self._sink)
        os.write(self._stop, b"x")
        self._pump.join(300)
        assert not self._pump.is_alive()
        for descriptor in self._descriptors:
            os.close(descriptor)

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._sink, data) :]


def test_whatever_send_raises_later_lines_are_sent(tmp_path):
    with (tmp_path / "own").open("w") as own:
        followed = Followed(own.fileno(), RuntimeError("nobody listens"))
        followed.write(b"first line\n" * 100_000)
        followed.write(b"last line\n")
        followed.end()
    assert followed.sent[-1] == "last line"
    assert "RuntimeError: nobody listens" in (tmp_path / "own").read_text()


def test_what_is_written_through_piece_by_piece_is_whole(tmp_path, monkeypatch):
    write = os.write
    path = tmp_path / "own"
    with path.open("w") as own:
        followed = Followed(own.fileno())
        monkeypatch.setattr(
            os, "write", lambda descriptor, data: write(descriptor, data[:7] if descriptor == own.fileno() else data)
        )
        followed.write(b"a line of the callable\n" * 1000)
        followed.end()
    assert path.read_bytes() == b"a line of the callable\n" * 1000
    assert followed.sent == ["a line of the callable"] * 1000


def test_log_file_of_the_worker_that_was_closed_costs_no_line():
    followed = Followed(-1)
    followed.write(b"line\n" * LINES)
    followed.end()
    assert followed.sent == ["line"] * LINES


@pytest.fixture
def followed(tmp_path):
    with (tmp_path / "own").open("wb") as own:
        yield Followed(own.fileno())


def test_progress_bar_shows_its_newest_state_while_it_runs_and_the_last_one_at_its_end(followed):
    followed.write(b"\r  0%|    | 0/9")
    followed.until_sent("  0%|    | 0/9")
    # The rate is bounded: these come within one interval.
    followed.write(b"".join(b"\r %d%%|    |" % number for number in range(1, 100)))
    followed.write(b"\r100%|####| 9/9\nafter\n")
    followed.end()
    assert followed.sent == ["  0%|    | 0/9", "100%|####| 9/9", "after"]


def test_states_of_a_progress_bar_go_on_to_be_shown(followed, monkeypatch):
    monkeypatch.setattr(line_assembler, "PROGRESS_SECONDS", 0.01)
    for number in range(5):
        followed.write(b"\r%d of 5" % number)
        followed.until_sent(f"{number} of 5")
    followed.end()
    assert followed.sent == [f"{number} of 5" for number in range(5)]


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (b"1%\r2%\r3%\r", "3%"),
        (b"\r1%\r2%", "2%"),
        (b"\r1%\r2%\r   \r", "2%"),
        (b"\x1b[?25l\r\x1b[2K1%\r\x1b[2K2%\x1b[K\x1b[?25h", "2%"),
        (b"\r\x1b[32m1%\x1b[0m\r\x1b[32m2%\x1b[0m", "\x1b[32m2%\x1b[0m"),
        (b"1/9" + 3 * b"\x08" + b"\r2/9" + 3 * b"\x08", "2/9"),
    ],
)
@pytest.mark.parametrize("end", [b"\n", b""])
def test_last_state_of_a_progress_bar_is_shown_however_it_is_drawn(followed, written, shown, end):
    followed.write(written + end)
    followed.end()
    assert followed.sent[-1:] == [shown]
    assert len(followed.sent) <= 2


def test_carriage_return_that_ends_a_line_is_no_progress_bar(followed):
    followed.write(b"one\r\n\r\ntwo\r\n")
    followed.end()
    assert followed.sent == ["one", "", "two"]


def test_line_that_is_cut_between_carriage_return_and_line_feed_is_shown_once(followed):
    followed.write(b"one\r")
    followed.until_sent("one")
    followed.write(b"\ntwo\n")
    followed.end()
    assert followed.sent == ["one", "two"]


def test_state_that_comes_in_pieces_is_whole(followed):
    followed.write(b"\r1%")
    followed.until_sent("1%")
    for piece in (b"\r  ", b"2", b"% of 9", b"\n"):
        followed.write(piece)
    followed.end()
    assert [each.strip() for each in followed.sent] == ["1%", "2% of 9"]


def test_progress_bar_of_megabytes_makes_no_long_line(followed):
    followed.write(b"".join(b"\r%05d of 99999" % number for number in range(100_000)))
    followed.end()
    assert followed.sent[-1] == "99999 of 99999"
    assert max(map(len, followed.sent)) < 100


LOGGERS = """
import logging, logging.config, sys

sent = []
logging.getLogger("lib")
for task in range(3):
    with tee_output(lambda lines, levels: sent.extend(lines) or True, []):
        logging.getLogger("lib").info("of lib %d", task)
        handler = logging.StreamHandler()
        logging.getLogger("lib").addHandler(handler)
        logging.getLogger("new").addHandler(handler)
        logging.getLogger("new").info("of new %d", task)
        logging.config.dictConfig({"version": 1})
print("SENT", *sent, sep="\\n")
"""


def test_what_a_callable_sets_of_loggers_is_put_back():
    finished = subprocess.run(
        [sys.executable, "-c", "from airflow_ray.cluster.worker.log_tee import tee_output\n" + LOGGERS],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = finished.stdout.partition("SENT")[2].splitlines()
    assert [line for line in lines if "of lib" in line] == [f"INFO lib: of lib {task}" for task in range(3)]
    # Once by the handler of the callable, and once by that of the work.
    assert len([line for line in lines if "of new" in line]) == 6


LEVELS = """
import logging, sys, threading
from airflow_ray.cluster.worker.log_tee import tee_output

sent = []

def send(lines, levels):
    sent.extend(zip(levels, lines, strict=True))

with tee_output(send, []):
"""


def levels_of(script: str) -> tuple[list[tuple[str, str]], str]:
    """Return the level and text of each line that a script writes, and what its own log file has of it."""
    body = "".join(f"    {line}\n" for line in script.splitlines())
    end = "print('SENT', repr(sent), sep='')"
    finished = subprocess.run(
        [sys.executable, "-c", LEVELS + body + end],
        capture_output=True,
        text=True,
        errors="replace",
        check=True,
    )
    own, _, sent = finished.stdout.partition("SENT")
    return ast.literal_eval(sent), own


@pytest.mark.parametrize(
    ("level", "letter"),
    [("debug", "I"), ("info", "I"), ("warning", "W"), ("error", "E"), ("critical", "C"), ("exception", "E")],
)
def test_line_that_is_logged_keeps_its_level(level, letter):
    sent, own = levels_of(f"logging.root.setLevel(1)\nlogging.getLogger('of').{level}('said')\n")
    name = "ERROR" if level == "exception" else level.upper()
    assert sent[0] == (letter, f"{name} of: said")
    # Nobody but the log of the task sees how the level is told.
    assert own.splitlines()[0] == f"{name} of: said"


def test_each_line_of_a_traceback_is_of_the_level_of_its_record():
    sent, _ = levels_of("try:\n    1 / 0\nexcept ZeroDivisionError:\n    logging.exception('failed')\nprint('after')")
    assert {letter for letter, _ in sent[:-1]} == {"E"}
    assert len(sent) > 3
    assert sent[-1] == ("I", "after")


def test_level_is_kept_whoever_has_made_the_handler_and_whatever_its_format():
    script = "logging.basicConfig(format='%(message)s!', force=True, stream=sys.stdout)\nlogging.error('said')\n"
    script += "logging.root.handlers.clear()\nlogging.root.error('of the last resort')"
    assert levels_of(script)[0] == [("E", "said!"), ("E", "of the last resort")]


def test_lines_of_several_levels_and_streams_stay_in_their_order():
    script = "for number in range(2000):\n    print(number)\n    logging.error(number)\n"
    script += "    print(number, file=sys.stderr)\n    logging.warning(number)"
    expected = [
        line
        for number in range(2000)
        for line in (
            ("I", f"{number}"),
            ("E", f"ERROR root: {number}"),
            ("I", f"{number}"),
            ("W", f"WARNING root: {number}"),
        )
    ]
    assert levels_of(script)[0] == expected


def test_lines_of_an_error_of_megabytes_are_all_errors():
    sent, own = levels_of("logging.error('x' * 5_000_000)\nprint('after')")
    assert {letter for letter, _ in sent[:-1]} == {"E"}
    assert "".join(line for _, line in sent[:-1]) == "ERROR root: " + "x" * 5_000_000
    assert sent[-1] == ("I", "after")
    assert "\x1f" not in own


def test_bytes_that_are_no_text_come_through_and_are_no_mark():
    script = "import os\nos.write(1, bytes(range(32)) + b'\\xff\\n')\nos.write(1, b'\\x1f')\nos.write(1, b'end\\x1f')"
    sent, _ = levels_of(script)
    # A line feed is among them, and a carriage return, which goes back to the beginning of the second line.
    text = bytes(range(14, 32)).decode() + "\ufffd"
    assert sent == [("I", "".join(map(chr, range(8))) + "\t"), ("I", text), ("I", "\x1fend\x1f")]
