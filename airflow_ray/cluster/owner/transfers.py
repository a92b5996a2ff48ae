"""Values that come through the gateway, and go: the tasks at the cluster's end of it."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

from airflow_ray.cluster.failures import failure_of
from airflow_ray.cluster.own_tasks import own_task
from airflow_ray.cluster.worker.transfer import receive, send

# The node of the gateway, whose socket is reached there only.
ON_HEAD: dict[str, Any] = {"num_cpus": 0, "resources": {"node:__internal_head__": 0.001}, "max_retries": 0}
# A client may be away for a while; what it has left behind takes memory.
SILENT_SECONDS = 300.0


class _Upload(NamedTuple):
    """A value that is received.

    :param value: its ref.
    :param done: the ref by which the task tells that it is there, or why it is not.
    """

    value: Any
    done: Any


class Transfers:
    """The transfers that are under way; part of the owner, which never holds a value."""

    def __init__(self) -> None:
        self._uploads: dict[str, _Upload] = {}
        self._receive = own_task(receive, num_returns=2, **ON_HEAD)
        self._send = own_task(send, **ON_HEAD)
        self._downloads = 0

    async def receive(self, name: str, sizes: list[int], socket: str) -> dict[str, Any] | None:
        """Receive a value, and keep it under that name until somebody takes it.

        :param sizes: of its pickle and its buffers, in bytes.
        :param socket: of the gateway.
        :returns: as plain data why it cannot be put together.
        """
        upload = self._uploads[name] = _Upload(*self._receive.remote(socket, name, sizes))
        error = await _error_of(upload.done)
        if error is not None:
            self._uploads.pop(name, None)
            return error
        asyncio.get_running_loop().call_later(SILENT_SECONDS, self._uploads.pop, name, None)
        return None

    async def take_value(self, name: str) -> Any:
        """Return the ref of a value that has been received, which ends the transfer.

        :raises KeyError: the client has let too much time pass since.
        """
        return self._uploads.pop(name).value

    async def send(self, name: str, refs: list[Any], socket: str) -> dict[str, Any] | None:
        """Send the only object in ``refs``, and return when that is done.

        :param socket: of the gateway.
        :returns: as plain data why it cannot be sent.
        """
        self._downloads += 1
        try:
            return await _error_of(self._send.remote(socket, name, refs))
        finally:
            self._downloads -= 1

    async def count(self) -> int:
        """Return how many are under way."""
        return len(self._uploads) + self._downloads


async def _error_of(ref: Any) -> dict[str, Any] | None:
    from ray.exceptions import RayError

    try:
        error: dict[str, Any] | None = await ref
    except RayError as raised:
        return failure_of(raised)
    return error
