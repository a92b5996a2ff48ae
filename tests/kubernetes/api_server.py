"""A double of Kubernetes' API server: real HTTP on a port of this machine, which the official clients talk to."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

from tests.certificates import Authority
from tests.kubernetes.errors import ApiError
from tests.kubernetes.requests import Asked, body_of, matches, parsed
from tests.kubernetes.store import (
    EVENTS,
    NAMESPACES,
    PODS,
    RAY_CLUSTERS,
    RAY_JOBS,
    SECRETS,
    SERVICES,
    Event,
    Object,
    Resource,
    Store,
    Write,
)

CORE = [NAMESPACES, PODS, SERVICES, EVENTS, SECRETS]
TOKEN = "token-of-the-service-account"
USER = "system:serviceaccount:airflow:airflow"
WATCH_SECONDS = 1800.0
START_SECONDS = 150.0
CONTENT_TYPES = {
    "application/apply-patch+yaml": Store.apply,
    "application/merge-patch+json": Store.merge,
    # As much of it as tests need: it differs in how lists are merged.
    "application/strategic-merge-patch+json": Store.merge,
}


class ApiServer:
    """Serves until it is closed, with KubeRay's resources.

    What the store holds, anybody may change who is in this process, as another client does.

    :param folder: for certificates and kubeconfig files.
    """

    def __init__(self, folder: Path) -> None:
        self.store = Store()
        self.resources = [*CORE, RAY_CLUSTERS, RAY_JOBS]
        self.users = {TOKEN: USER}
        #: Say why a request is refused, or None.
        self.rules: list[Callable[[Asked], ApiError | None]] = []
        #: Answers that the next requests get, whatever they ask for.
        self.refusals: list[ApiError] = []
        #: What was asked so far.
        self.asked: list[Asked] = []
        #: What a container has written, and what its process before has, by namespace, pod and container.
        self.logs: dict[tuple[str, str, str], str] = {}
        self.previous_logs: dict[tuple[str, str, str], str] = {}
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._authority = Authority(folder, "kubernetes-ca")
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.load_cert_chain(*self._authority.sign("kubernetes"))
        self._port = 0
        self.is_away = False
        self._watchers: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="kubernetes", daemon=True)
        self._thread.start()
        self._do(self._listen())

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._port}"

    def kubeconfig(self, namespace: str = "default", token: str = TOKEN) -> Path:
        """Return a file by which the official clients, and kubectl, find this server."""
        cluster = {"server": self.url, "certificate-authority": str(self._authority.certificate)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "double",
            "clusters": [{"name": "double", "cluster": cluster}],
            "users": [{"name": "user", "user": {"token": token}}],
            "contexts": [{"name": "double", "context": {"cluster": "double", "user": "user", "namespace": namespace}}],
        }
        file = self._folder / f"kubeconfig-{namespace}-{token[-8:]}"
        file.write_text(yaml.safe_dump(config))
        return file

    def connection(self, namespace: str = "default", **extra: Any) -> str:
        """Return the Airflow connection to this server."""
        fields = {"kube_config_path": str(self.kubeconfig(namespace)), "namespace": namespace, **extra}
        return json.dumps({"conn_type": "kubernetes", "extra": fields})

    def in_cluster(self, folder: Path, namespace: str = "default") -> dict[str, str]:
        """Write the files of a service account, and return the environment variables of a pod."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "token").write_text(TOKEN)
        (folder / "namespace").write_text(namespace)
        (folder / "ca.crt").write_bytes(self._authority.certificate.read_bytes())
        return {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(self._port)}

    def uninstall(self, resource: Resource) -> None:
        """Serve a resource no more, as if its definition was not installed."""
        self.resources.remove(resource)

    @contextmanager
    def forbidden(self, *verbs: str, plural: str = "*") -> Iterator[None]:
        """Refuse these verbs meanwhile, as authorization does; all of them if none is named."""

        def rule(asked: Asked) -> ApiError | None:
            concerns = (not verbs or asked.verb in verbs) and plural in ("*", asked.resource.plural)
            return asked.forbidden() if concerns else None

        self.rules.append(rule)
        try:
            yield
        finally:
            self.rules.remove(rule)

    @contextmanager
    def away(self) -> Iterator[None]:
        """Refuse connections meanwhile, and break off those there are."""
        self._do(self._leave())
        try:
            yield
        finally:
            self._do(self._listen())

    def asked_for(self, verb: str, plural: str) -> list[Asked]:
        return [each for each in self.asked if (each.verb, each.resource.plural) == (verb, plural)]

    def close(self) -> None:
        self._do(self._leave())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_SECONDS)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    def _do(self, action: Any) -> None:
        asyncio.run_coroutine_threadsafe(action, self._loop).result(START_SECONDS)

    async def _listen(self) -> None:
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, ssl_context=self._tls, reuse_address=True)
        await site.start()
        self._port = self._runner.addresses[0][1]
        self.is_away = False

    async def _leave(self) -> None:
        self.is_away = True
        for watcher in self._watchers:
            watcher.cancel()
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._answered(request)
        except ApiError as error:
            headers = {"Retry-After": "1"} if error.code in (429, 503) else {}
            return web.json_response(error.status, status=error.code, headers=headers)

    async def _answered(self, request: web.Request) -> web.StreamResponse:
        if self.refusals:
            raise self.refusals.pop(0)
        user = self.users.get(request.headers.get("Authorization", "").partition(" ")[2])
        if user is None:
            raise ApiError(401, "Unauthorized")
        asked = parsed(request.method, request.path, request.query, self.resources)
        if asked is None:
            return self._of_server(request.path)
        asked.user = user
        self.asked.append(asked)
        for refusal in [rule(asked) for rule in self.rules]:
            if refusal is not None:
                raise refusal
        handlers: dict[str, Callable[[web.Request, Asked], Awaitable[web.StreamResponse]]] = {
            "list": self._list,
            "watch": self._watch,
            "get": self._get,
            "delete": self._delete,
            "create": self._write,
            "update": self._write,
            "patch": self._write,
        }
        if asked.verb not in handlers:
            raise ApiError(400, f"the double does not know {asked.verb}")
        return await handlers[asked.verb](request, asked)

    def _of_server(self, path: str) -> web.Response:
        """Answer what concerns no object: which resources there are."""
        groups = sorted({each.api_version for each in self.resources if each.group})
        described = {
            "/version": {"major": "1", "minor": "33", "gitVersion": "v1.33.0"},
            "/api": {"kind": "APIVersions", "versions": ["v1"]},
            "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(each) for each in groups]},
        }
        for version in {each.api_version for each in self.resources}:
            of_version = [each for each in self.resources if each.api_version == version]
            described[f"/apis/{version}" if "/" in version else f"/api/{version}"] = {
                "kind": "APIResourceList",
                "apiVersion": "v1",
                "groupVersion": version,
                "resources": [_described(each) for each in of_version],
            }
        if path.rstrip("/") in described:
            return web.json_response(described[path.rstrip("/")])
        if path in ("/healthz", "/livez", "/readyz"):
            return web.Response(text="ok")
        # So answers the real one where a definition is not installed.
        return web.Response(status=404, text="404 page not found\n")

    async def _get(self, request: web.Request, asked: Asked) -> web.Response:
        value = self.store.get(asked.resource, asked.namespace, asked.name)
        if asked.subresource == "log":
            return web.Response(text=self._log_of(value, request.query))
        return web.json_response(value)

    def _log_of(self, pod: Object, query: Any) -> str:
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        containers = [each["name"] for each in pod["spec"]["containers"]]
        container = query.get("container") or containers[0]
        if container not in containers:
            raise ApiError(400, f"container {container} is not valid for pod {name}")
        is_previous = query.get("previous") in ("true", "True")
        text = (self.previous_logs if is_previous else self.logs).get((namespace, name, container))
        if text is None and is_previous:
            raise ApiError(400, f'previous terminated container "{container}" in pod "{name}" not found')
        if text is None:
            states = {each["name"]: each["state"] for each in pod.get("status", {}).get("containerStatuses", [])}
            reason = states.get(container, {}).get("waiting", {}).get("reason", "ContainerCreating")
            raise ApiError(400, f'container "{container}" in pod "{name}" is waiting to start: {reason}')
        lines = text.splitlines(keepends=True)
        return "".join(lines[-int(query["tailLines"]) :] if "tailLines" in query else lines)

    async def _list(self, request: web.Request, asked: Asked) -> web.Response:
        with self.store.lock:
            items = self.store.list(asked.resource, asked.namespace or None)
            version = str(self.store.version)
        found = [each for each in items if matches(each, request.query)]
        meta: dict[str, Any] = {"resourceVersion": version}
        first = int(request.query.get("continue") or 0)
        limit = int(request.query.get("limit") or 0)
        if limit and first + limit < len(found):
            meta |= {"continue": str(first + limit), "remainingItemCount": len(found) - first - limit}
        kind = {"kind": f"{asked.resource.kind}List", "apiVersion": asked.resource.api_version}
        return web.json_response({**kind, "metadata": meta, "items": found[first : first + limit if limit else None]})

    async def _delete(self, request: web.Request, asked: Asked) -> web.Response:
        data = await request.read()
        options = {**request.query, **(yaml.safe_load(data) or {})}
        grace = options.get("gracePeriodSeconds")
        deleted = self.store.delete(
            asked.resource,
            asked.namespace,
            asked.name,
            options.get("propagationPolicy") or "Background",
            None if grace is None else int(grace),
            {key: each for key, each in (options.get("preconditions") or {}).items() if each},
        )
        return web.json_response(deleted)

    async def _write(self, request: web.Request, asked: Asked) -> web.Response:
        content_type = request.headers.get("Content-Type", "").partition(";")[0].strip()
        value = body_of(await request.read(), asked.resource)
        manager = request.query.get("fieldManager")
        write = Write(
            manager or request.headers.get("User-Agent", "unknown").partition("/")[0],
            subresource=asked.subresource,
            force=request.query.get("force") in ("true", "True"),
            is_strict=request.query.get("fieldValidation") == "Strict",
        )
        status = 200
        if asked.verb == "create":
            written = self.store.create(asked.resource, asked.namespace, value, write)
            status = 201
        elif asked.verb == "update":
            written = self.store.replace(asked.resource, asked.namespace, asked.name, value, write)
        else:
            if content_type not in CONTENT_TYPES:
                listed = ", ".join(CONTENT_TYPES)
                told = f"the body of the request was in an unknown format - accepted media types include: {listed}"
                raise ApiError(415, told)
            if "apply" in content_type and not manager:
                told = "fieldManager: Required value: is required for apply patch"
                raise ApiError(400, f'PatchOptions.meta.k8s.io "" is invalid: {told}')
            patch = CONTENT_TYPES[content_type]
            written = patch(self.store, asked.resource, asked.namespace, asked.name, value, write)
        warnings = [f'299 - "unknown field \\"{path}\\""' for path in write.unknown]
        response = web.json_response(written, status=status)
        for warning in warnings:
            response.headers.add("Warning", warning)
        return response

    async def _watch(self, request: web.Request, asked: Asked) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        task = asyncio.create_task(self._stream(request, asked, response))
        self._watchers.add(task)
        task.add_done_callback(self._watchers.discard)
        with suppress(asyncio.CancelledError, asyncio.TimeoutError, ConnectionError):
            await asyncio.wait_for(task, float(request.query.get("timeoutSeconds") or WATCH_SECONDS))
        return response

    async def _stream(self, request: web.Request, asked: Asked, response: web.StreamResponse) -> None:
        async for kind, value in self._events(request, asked):
            await response.write(json.dumps({"type": kind, "object": value}).encode() + b"\n")

    async def _events(self, request: web.Request, asked: Asked) -> AsyncIterator[tuple[str, Object]]:
        queue: asyncio.Queue[Event] = asyncio.Queue()

        def listener(event: Event) -> None:
            self._loop.call_soon_threadsafe(queue.put_nowait, event)

        store, given = self.store, request.query.get("resourceVersion") or "0"
        with store.lock:
            store.listeners.append(listener)
            there = store.list(asked.resource, asked.namespace or None) if given == "0" else []
            past = [] if given == "0" else [event for event in store.history if event.version > int(given)]
            is_too_old = given != "0" and int(given) < store.forgotten
        try:
            if is_too_old:
                yield "ERROR", ApiError(410, f"too old resource version: {given} ({store.forgotten})").status
                return
            for value in there:
                if matches(value, request.query):
                    yield "ADDED", value
            for event in past:
                queue.put_nowait(event)
            while True:
                if told := _told(await queue.get(), asked, request.query):
                    yield told
        finally:
            store.listeners.remove(listener)


def _told(event: Event, asked: Asked, query: Any) -> tuple[str, Object] | None:
    """Return what a watch tells of an event: an object that begins to be selected is new to it."""
    if event.resource != asked.resource or asked.namespace not in ("", event.object["metadata"].get("namespace", "")):
        return None
    was = event.before is not None and matches(event.before, query)
    now = event.kind != "DELETED" and matches(event.object, query)
    if not was and not now:
        return None
    return ("MODIFIED" if was else "ADDED") if now else "DELETED", event.object


def _group(api_version: str) -> Object:
    group, version_name = api_version.split("/")
    version = {"groupVersion": api_version, "version": version_name}
    return {"name": group, "versions": [version], "preferredVersion": version}


def _described(resource: Resource) -> Object:
    return {
        "name": resource.plural,
        "singularName": resource.kind.lower(),
        "namespaced": resource.is_namespaced,
        "kind": resource.kind,
        "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"],
    }
