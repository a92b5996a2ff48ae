"""A dashboard that says what it is told to, for what a real one does not do when it is asked to."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import WSCloseCode, web


@dataclass
class Job:
    """A job, and what is streamed of it.

    ``breaks_after`` is the number of messages after which the first stream of the output breaks off; ``None`` never.
    """

    status: str = "RUNNING"
    message: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    #: What is read of the output in the end; the messages if None.
    stored: bytes | None = None
    breaks_after: int | None = None
    #: Ends the streams, and then is its status.
    end: str = "SUCCEEDED"

    def info(self) -> dict[str, Any]:
        has_begun = self.status != "PENDING"
        told = {"status": self.status, "message": self.message, "metadata": self.metadata}
        return {**told, "driver_node_id": "node" if has_begun else None}


class FakeDashboard:
    """Serves until it is closed; ``refusals`` are answered first, one for each request.

    :param tls: files of a certificate and its key, by which it speaks TLS.
    """

    def __init__(self, tls: tuple[Path, Path] | None = None) -> None:
        self.jobs: dict[str, Job] = {}
        self.packages: dict[str, bytes] = {}
        self.submitted: list[dict[str, Any]] = []
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.refusals: list[tuple[int, str]] = []
        #: Where all requests are sent on to.
        self.elsewhere: str | None = None
        self.token: str | None = None
        self.has_sockets = True
        self.has_file = True
        self.on_stop: Callable[[Job], None] = lambda job: setattr(job, "status", "STOPPED")
        self._loop = asyncio.new_event_loop()
        started = threading.Event()
        self._port = 0
        self._tls = None
        if tls is not None:
            self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self._tls.load_cert_chain(*tls)
        self._thread = threading.Thread(target=self._run, args=[started], daemon=True)
        self._thread.start()
        started.wait(60)

    @property
    def url(self) -> str:
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self._port}"

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        app = web.Application(middlewares=[self._guard], client_max_size=2**30)
        app.router.add_get("/api/packages/gcs/{name}", self._package)
        app.router.add_put("/api/packages/gcs/{name}", self._upload)
        app.router.add_post("/api/jobs/", self._submit)
        app.router.add_get("/api/jobs/{job}", self._info)
        app.router.add_post("/api/jobs/{job}/stop", self._stop)
        app.router.add_get("/api/jobs/{job}/logs/tail", self._tail)
        app.router.add_get("/api/v0/logs/file", self._file)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        self._loop.run_until_complete(self._runner.setup())
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, ssl_context=self._tls)
        self._loop.run_until_complete(site.start())
        self._port = self._runner.addresses[0][1]
        started.set()
        self._loop.run_forever()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.asked.append((request.method, request.path, dict(request.headers)))
        if self.refusals:
            status, text = self.refusals.pop(0)
            return web.Response(status=status, text=text)
        if self.elsewhere is not None:
            raise web.HTTPTemporaryRedirect(f"{self.elsewhere}{request.path}")
        given = request.headers.get("authorization")
        if self.token is not None and given != f"Bearer {self.token}":
            return web.Response(status=403 if given else 401, text="Unauthorized")
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _package(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if request.match_info["name"] in self.packages else 404)

    async def _upload(self, request: web.Request) -> web.Response:
        self.packages[request.match_info["name"]] = await request.read()
        return web.Response()

    async def _submit(self, request: web.Request) -> web.Response:
        body = await request.json()
        job = body["submission_id"]
        if job in self.jobs:
            return web.Response(status=500, text=f"ValueError: Job with submission_id {job} already exists.")
        self.submitted.append(body)
        self.jobs[job] = Job(metadata=body["metadata"])
        return web.json_response({"submission_id": job})

    def _job(self, request: web.Request) -> Job:
        in_file = request.query.get("filename", "").removeprefix("job-driver-").removesuffix(".log")
        job = request.match_info.get("job") or in_file
        if job not in self.jobs:
            raise web.HTTPNotFound(text=f"Job {job} does not exist")
        return self.jobs[job]

    async def _info(self, request: web.Request) -> web.Response:
        return web.json_response(self._job(request).info())

    async def _stop(self, request: web.Request) -> web.Response:
        self.on_stop(self._job(request))
        return web.json_response({"stopped": True})

    async def _tail(self, request: web.Request) -> web.StreamResponse:
        job = self._job(request)
        if not self.has_sockets:
            return web.Response(status=400, text="No web sockets here")
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in self._messages(job):
            if message is None:
                await socket.close(code=WSCloseCode.INTERNAL_ERROR)
                return socket
            await socket.send_str(message)
        job.status = job.end
        return socket

    async def _messages(self, job: Job) -> AsyncIterator[str | None]:
        breaks_after, job.breaks_after = job.breaks_after, None
        for number, message in enumerate(job.messages):
            if number == breaks_after:
                yield None
            yield message

    async def _file(self, request: web.Request) -> web.Response:
        job = self._job(request)
        if not self.has_file or request.query["node_id"] != "node":
            return web.Response(status=500, text="Too many requests")
        return web.Response(body="".join(job.messages).encode() if job.stored is None else job.stored)


def connection_uri(url: str, **extra: Any) -> str:
    """Return the Airflow connection that names a dashboard, and a gateway where nothing is."""
    fields = {"mode": "gateway", "dashboard_url": url, "connect_timeout": 5, **extra}
    connection = {"conn_type": "ray", "host": "127.0.0.1", "port": 1, "password": "0" * 32, "extra": fields}
    return json.dumps(connection)
