"""Secrets of a runtime environment, kept out of what leaves the cluster.

Airflow masks what it knows of, but its triggerer shows log lines too and knows none of a task's secrets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

# As Airflow, which masks nothing shorter.
MIN_LENGTH = 5
STARS = "***"
# What is read by this package, and chosen by it: a variable may have the same text by chance.
_NAMES = frozenset({"kind", "record_id", "key", "lost", "bases"})
# What stands before the @ of an address: of an index of pip's, a repository of git's, an archive.
_USER_INFO = re.compile(r"://([^/\s?#'\"]+)@")


def secrets_in(runtime_env: Any) -> list[str]:
    """Return the values of environment variables, and the credentials in addresses, line by line, the longest first.

    :param runtime_env: a Ray runtime environment; anything else has none.
    """
    found: set[str] = set()
    variables = runtime_env.get("env_vars") if isinstance(runtime_env, Mapping) else None
    if isinstance(variables, Mapping):
        found.update(line for value in variables.values() for line in str(value).splitlines())
    for text in _texts_in(runtime_env):
        for user_info in _USER_INFO.findall(text):
            password = user_info.partition(":")[2]
            # A name may be a word of any text; as a token it stands alone, or before a password that is a dummy.
            found.update((user_info, unquote(user_info), password, unquote(password)))
    return sorted((each for each in found if len(each) >= MIN_LENGTH), key=lambda each: (-len(each), each))


def secrets_of_work() -> list[str]:
    """Return the :func:`secrets_in` the runtime environment of the work that this process does."""
    import ray

    return secrets_in(dict(ray.get_runtime_context().runtime_env))


def redacted(value: Any, secrets: list[str]) -> Any:
    """Return plain data with stars in place of secrets, but not in what tells the kind of a failure, or an object."""
    if isinstance(value, dict):
        return {name: each if name in _NAMES else redacted(each, secrets) for name, each in value.items()}
    if isinstance(value, list):
        return [redacted(each, secrets) for each in value]
    for secret in secrets if isinstance(value, str) else ():
        value = value.replace(secret, STARS)
    return value


class LineCutter:
    """Cuts a line without end into pieces, none of which holds a part of a secret.

    :param secrets: as :func:`secrets_in` returns them.
    :param length: of a piece, in bytes.
    """

    def __init__(self, secrets: list[str], length: int) -> None:
        encoded = [secret.encode(errors="replace") for secret in secrets]
        self._length = length
        self._longest = max(map(len, encoded), default=0)
        self._pattern = re.compile(b"|".join(map(re.escape, encoded))) if encoded else None

    def cut(self, line: bytes) -> tuple[list[bytes], bytes]:
        """Return the pieces of what is there of a line, and the rest, with which the next ones begin.

        What is cut off ends before the last place where a secret may begin of which the end is yet to come.
        """
        pieces = []
        if self._pattern is not None and len(line) > self._length + self._longest:
            whole = len(line) - self._longest
            line = self._pattern.sub(lambda found: STARS.encode() if found.start() <= whole else found[0], line)
        while len(line) > self._length + self._longest:
            pieces.append(line[: self._length])
            line = line[self._length :]
        return pieces, line


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts_in(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _texts_in(each)
