"""Why a connection broke or could not be made, for a person, from what Ray and gRPC say of it."""

from __future__ import annotations

import re

# An error of gRPC prints all that it knows over several lines.
_DETAILS = re.compile(r'details = "(?P<details>[^"\n]*)"')
# What gRPC puts before the cause.
_PREFIX = re.compile(
    r"^(?:UNKNOWN: |UNAVAILABLE: )?(?:failed to connect to all addresses; last error: )?"
    r"(?:UNKNOWN: )?(?:ipv[46]:\S+: )?(?:Failed to connect to remote host: )?"
)
# What an operating system says of a socket, amid what Arrow Flight and gRPC say of their own parts.
_OF_SOCKET = re.compile(r"(?:recvmsg|sendmsg): ?(?P<cause>[A-Z][\w ]+\w)")
# What gRPC says where it has found that out itself, and where it no longer knows why.
_TIMED_OUT = "keepalive watchdog timeout"
_CLOSED = "Socket closed"
# Errors of Ray's own code where an answer was cut short.
_CUT_SHORT = (TypeError, AttributeError, KeyError, IndexError)


def reason_of(error: BaseException) -> str:
    """Return why, in one line without a dot at its end."""
    if isinstance(error, _CUT_SHORT):
        return "the head ended while it was asked"
    text = str(error)
    if found := _DETAILS.search(text):
        text = found["details"]
    # Ray puts its own sentence before each earlier one.
    text = text.rpartition("Exception that broke the connection:")[2].strip()
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
    # A traceback of the other end follows, whose last line has the cause.
    line = f"{lines[0]} {lines[-1]}" if lines[0].endswith(":") and len(lines) > 1 else lines[0]
    return plain_details(line).rstrip(".")


def sentence_of(error: BaseException) -> str:
    """Return the text of an error with a full stop at its end, for what is said after it."""
    return f"{str(error).rstrip('. ')}."


def plain_details(details: str) -> str:
    """Return what gRPC says without what it puts around the cause."""
    if found := _OF_SOCKET.search(details):
        return found["cause"]
    if _TIMED_OUT in details:
        return "Connection timed out"
    if _CLOSED in details:
        return _CLOSED
    return _PREFIX.sub("", details) or details
