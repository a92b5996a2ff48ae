"""Numbers and errors for people to read."""

from __future__ import annotations

from rich import filesize


def readable_bytes(count: float) -> str:
    """Return a number of bytes in powers of 1000.

    >>> readable_bytes(640_000_000)
    '640.0 MB'
    """
    return filesize.decimal(round(count))


def readable_seconds(seconds: float) -> str:
    """Return a duration with three digits.

    >>> readable_seconds(7300)
    '2.03 h'
    """
    for unit, limit, size in (("s", 100, 60), ("min", 100, 60), ("h", 48, 24)):
        if seconds < limit:
            return f"{round(seconds, 2):.3g} {unit}"
        seconds /= size
    return f"{seconds:,.1f} days"


def quantity(number: int, noun: str) -> str:
    """Return a number with what it counts.

    >>> quantity(1200, "object")
    '1,200 objects'
    """
    return f"{number:,} {noun}{'s' * (number != 1)}"


def first_lines(error: Exception) -> str:
    """Return the text of an error in one line, without the traceback that follows after an empty one."""
    return " ".join(str(error).partition("\n\n")[0].split()) or type(error).__name__
