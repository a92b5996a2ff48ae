"""What the log files of this machine have of the lines that a trigger shows.

Airflow's triggerer is two processes: one runs the triggers and sends what they log to the other, which writes the
files. Where they are killed, what was on its way is lost. So each line of output says which one it is, in a field that
Airflow's UI shows beside the sources only, and it counts as shown when a file has it.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FIND_SECONDS = 5.0
# A process that writes no faster than this has a disk that is full.
WRITE_SECONDS = 60.0
LOOK_SECONDS = 0.05
TAIL_BYTES = 64 * 1024
# What the log of a trigger gets at once: few enough to hold up no other trigger.
LINES_AT_ONCE = 200


class TriggerLog:
    """The log files of one deferred task: of the trigger that runs, and of those before, of other triggerers too.

    :param path: what the names of the files begin with.
    :param work: any text without spaces and quotes that tells the work from other work of the same task.
    """

    def __init__(self, path: Path, work: str) -> None:
        self._path = path
        self._begin = f"trigger {uuid.uuid4().hex}"
        self._work = work
        self._own: Path | None = None

    async def begin(self, say: Callable[..., Any]) -> int | None:
        """Return how many lines the files of earlier triggers have of the work, or None if they have none.

        :param say: writes a line into the log of this trigger, by which its own file is found.
        """
        say("Waiting in the triggerer", chan=self._begin)
        deadline = time.monotonic() + FIND_SECONDS
        while self._own is None and time.monotonic() < deadline:
            self._own = await asyncio.to_thread(self._find_own)
            await asyncio.sleep(0 if self._own else LOOK_SECONDS)
        return await asyncio.to_thread(self._lines_of_earlier)

    def channel(self, number: int) -> dict[str, str]:
        """Return the field that makes a line the one of this number, counted from 1."""
        return {"chan": f"output {self._work} {number}"}

    async def until_written(self, number: int) -> None:
        """Return when the file has the line of this number; at once where this trigger has no file."""
        deadline = time.monotonic() + WRITE_SECONDS
        while self._own is not None and await asyncio.to_thread(self._lines_in, self._own) < number:
            # It may be deleted once it has been uploaded.
            if time.monotonic() > deadline or not self._own.exists():
                self._own = None
            await asyncio.sleep(LOOK_SECONDS)

    def _find_own(self) -> Path | None:
        # It was written just now, and the files of earlier triggers may be long.
        begin = re.escape(self._begin)
        return next((each for each in self._files() if _last(each, begin, TAIL_BYTES) is not None), None)

    def _lines_of_earlier(self) -> int | None:
        return max((self._lines_in(each) for each in self._files() if each != self._own), default=0) or None

    def _lines_in(self, path: Path) -> int:
        return int((_last(path, rf"output {re.escape(self._work)} (\d+)") or "").rpartition(" ")[2] or 0)

    def _files(self) -> Iterator[Path]:
        begin = f"{self._path.name}.trigger."
        with suppress(OSError):
            yield from (each for each in self._path.parent.iterdir() if each.name.startswith(begin))


async def show_lines(lines: list[tuple[str, Callable[..., Any]]], before: int, files: TriggerLog | None) -> None:
    """Write lines of output into the log of a trigger, and return when the log file has them.

    :param lines: each with what writes it.
    :param before: how many lines of the output come before these.
    :param files: the log files, where they are known.
    """
    for start in range(0, len(lines), LINES_AT_ONCE):
        for number, (line, say) in enumerate(lines[start : start + LINES_AT_ONCE], before + start + 1):
            say(line, **(files.channel(number) if files else {}))
        # There are other triggers.
        await asyncio.sleep(0)
    if files is not None and lines:
        await files.until_written(before + len(lines))


def _last(path: Path, channel: str, at_most: float = math.inf) -> str | None:
    """Return the last channel in a file that matches, of a line that is there as a whole; None without the file.

    :param at_most: in how many bytes at the end of it.
    """
    with suppress(OSError):
        return _last_in(path, channel, at_most)
    return None


def _last_in(path: Path, channel: str, at_most: float) -> str | None:
    # A quote within the text of a line has a backslash before it.
    pattern = re.compile(rf'(?<!\\)"chan": ?"({channel})"'.encode())
    with path.open("rb") as file:
        end = file.seek(0, 2)
        length = TAIL_BYTES
        while True:
            start = max(0, end - length)
            file.seek(start)
            text = file.read(end - start)
            found = [each.group(1) for each in pattern.finditer(text, 0, text.rfind(b"\n") + 1)]
            if found:
                return found[-1].decode()
            if start == 0 or length >= at_most:
                return None
            length *= 8
