"""The output of a job, as the dashboard streams it: always from its beginning, so lines that are known are skipped."""

from __future__ import annotations

import asyncio
import codecs
import io
from typing import TYPE_CHECKING, Any

import httpx

from airflow_ray.client.connection.dashboard import leads_elsewhere

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from aiohttp import ClientSession, ClientWebSocketResponse

    from airflow_ray.client.connection.dashboard import Dashboard

HEARTBEAT_SECONDS = 30.0
# Ray itself breaks off at a line that is longer than 4 MB.
MAX_MESSAGE_BYTES = 16 * 1024**2
# Of what comes in many small messages, so much goes on at once, or what has come in this time.
BATCH_CHARACTERS = 500_000
BATCH_SECONDS = 0.05
CHUNK_BYTES = 256 * 1024
MAX_LINE_CHARACTERS = 20_000
# However slowly it is taken: seconds in which Ray brings a file.
ALL_OF_IT = {"lines": "-1", "timeout": str(24 * 3600)}


class OutputBrokenError(Exception):
    """The stream of the output ended before the output did."""


class LineReader:
    """Makes lines of texts, and leaves out those that are known.

    :param shown: how many are known.
    """

    def __init__(self, shown: int = 0) -> None:
        self.shown = shown
        self._number = 0
        self._partial = ""

    def begin(self) -> None:
        """Expect the output from its beginning again."""
        self._number, self._partial = 0, ""

    def feed(self, text: str) -> list[str]:
        """Return the lines that are new and end in ``text``; one without end comes in pieces."""
        *lines, self._partial = (self._partial + text).split("\n")
        return self._new([piece for line in lines for piece in _pieces(line)])

    def end(self) -> list[str]:
        """Return a last line that nothing ends."""
        partial, self._partial = self._partial, ""
        return self._new(_pieces(partial)) if partial else []

    def _new(self, lines: list[str]) -> list[str]:
        new = lines[max(0, self.shown - self._number) :]
        self._number += len(lines)
        self.shown = max(self.shown, self._number)
        return new


def _pieces(line: str) -> list[str]:
    return [line[start : start + MAX_LINE_CHARACTERS] for start in range(0, len(line) or 1, MAX_LINE_CHARACTERS)]


async def tailed(
    dashboard: Dashboard, job: str, interval: float, is_over: Callable[[], Awaitable[bool]]
) -> AsyncGenerator[str, None]:
    """Yield the output of a job as it comes, until the job has ended.

    :param interval: seconds of silence after which ``is_over`` is asked.
    :param is_over: returns whether the job has ended.
    :raises OutputBrokenError: there may be more.
    """
    import aiohttp

    try:
        async with (
            _session(dashboard) as http,
            http.ws_connect(
                f"{dashboard.url}/api/jobs/{job}/logs/tail",
                ssl=dashboard.trusted,
                heartbeat=HEARTBEAT_SECONDS,
                max_msg_size=MAX_MESSAGE_BYTES,
            ) as socket,
        ):
            async for text in _batches(socket, interval, is_over):
                yield text
            if socket.close_code != aiohttp.WSCloseCode.OK:
                raise OutputBrokenError(f"the stream was closed with code {socket.close_code}")
    except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
        raise OutputBrokenError(str(error) or type(error).__name__) from error


async def _batches(
    socket: ClientWebSocketResponse, interval: float, is_over: Callable[[], Awaitable[bool]]
) -> AsyncGenerator[str, None]:
    import aiohttp

    batch: list[str] = []
    message = asyncio.ensure_future(socket.receive())
    try:
        while True:
            done, _ = await asyncio.wait({message}, timeout=BATCH_SECONDS if batch else interval)
            if done and message.result().type == aiohttp.WSMsgType.TEXT:
                batch.append(message.result().data)
                message = asyncio.ensure_future(socket.receive())
                if sum(map(len, batch)) < BATCH_CHARACTERS:
                    continue
            elif not done and not batch and await is_over():
                raise OutputBrokenError("the stream is silent, though the job has ended")
            if batch:
                yield "".join(batch)
                batch = []
            elif done:
                return
    finally:
        message.cancel()


async def stored(dashboard: Dashboard, job: str, node_id: str) -> AsyncGenerator[str, None]:
    """Yield the output of a job that has ended, all that there is of it.

    So comes what :func:`tailed` breaks off at: text that is no UTF-8, a line of several megabytes, and a proxy that
    knows no web sockets.

    :param node_id: of the node that its entrypoint ran on.
    :raises OutputBrokenError: there may be more.
    """
    import aiohttp

    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")("replace"), translate=True)
    try:
        async with (
            _session(dashboard) as http,
            http.get(
                f"{dashboard.url}/api/v0/logs/file",
                # By its id alone Ray 2.60 does not find it.
                params={"node_id": node_id, "filename": f"job-driver-{job}.log", **ALL_OF_IT},
                ssl=dashboard.trusted,
                timeout=aiohttp.ClientTimeout(sock_connect=HEARTBEAT_SECONDS, sock_read=HEARTBEAT_SECONDS),
            ) as response,
        ):
            if response.status != 200:
                raise OutputBrokenError(f"{response.status} {response.reason}")
            async for chunk in response.content.iter_chunked(CHUNK_BYTES):
                yield decoder.decode(chunk)
        yield decoder.decode(b"", final=True)
    except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
        raise OutputBrokenError(str(error) or type(error).__name__) from error


def _session(dashboard: Dashboard) -> ClientSession:
    import aiohttp

    async def keep_to_origin(_session: Any, _context: Any, params: aiohttp.TraceRequestRedirectParams) -> None:
        # Nobody else may have what goes with each request.
        origin = httpx.URL(str(params.url))
        target = origin.join(params.response.headers.get("Location", ""))
        if leads_elsewhere(origin, target):
            raise aiohttp.ClientError(f"{dashboard.url} leads to {target.copy_with(path='/', query=None)}")

    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(keep_to_origin)
    return aiohttp.ClientSession(headers=dashboard.headers, trust_env=True, trace_configs=[trace])
