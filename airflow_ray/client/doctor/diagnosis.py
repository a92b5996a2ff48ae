"""What of a connection works, found out step by step."""

from __future__ import annotations

import platform
import socket
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from airflow_ray._compat import conf
from airflow_ray.client.checkpoints import CheckpointLocation, CheckpointStore, find_location
from airflow_ray.client.doctor.readable import first_lines, quantity, readable_bytes
from airflow_ray.client.doctor.remedies import remedy
from airflow_ray.client.errand import run_errand, temporary_uri
from airflow_ray.client.forks import cached_property
from airflow_ray.cluster.worker.inspection import inspection
from airflow_ray.exceptions import AirflowRayError, RayVersionMismatchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_ray.client.client import RayClient


Outcome = Literal["ok", "failed", "skipped"]
TASK_SECONDS = 60.0
# Of a connection with several clusters, of which the Test button cannot know one.
_NO_CLUSTER = (
    "the connection leads to a Ray cluster of its own for each DAG run, or for each DAG, and none was named: airflow "
    "ray doctor checks that which --dag-id and --run-id name"
)


# What is worth a line where there is only room for a few.
_IN_SUMMARY = ("versions", "resources", "task", "checkpoint path", "checkpoint read")
XCOM_BACKEND = "airflow_ray.xcom.RayXComBackend"


@dataclass(frozen=True)
class Finding:
    """What came of one step.

    :param name: the step.
    :param outcome: ``skipped`` where there is nothing to check, or an earlier step failed.
    :param text: what was found.
    :param remedy: what to do, of a step that failed.
    """

    name: str
    outcome: Outcome
    text: str
    remedy: str | None = None


class HasClient(Protocol):
    """What a :class:`~airflow_ray.hooks.ray.RayHook` is here."""

    @property
    def client(self) -> RayClient:
        """The client that it is a front of."""


def diagnose(
    connection: str | RayClient | HasClient, dag_id: str | None = None, run_id: str | None = None
) -> Iterator[Finding]:
    """Yield what comes of each step, as soon as it is known; a step whose precondition failed is skipped.

    It is connected until the last step.

    :param connection: id of an Airflow connection of type ``ray``, a hook, or its client.
    :param dag_id: DAG of the cluster, where the connection leads to one for each DAG, or for each run.
    :param run_id: run of the cluster, likewise.
    """
    client = _client_of(connection, dag_id, run_id)
    with ExitStack() as stack:
        examination = _Examination(client, stack)
        passes: set[str] = set()
        for name, needs, check in examination.steps():
            if missing := [each for each in needs if each not in passes]:
                yield Finding(name, "skipped", f"needs {missing[0]}")
                continue
            finding = _finding(name, check, client.conn_id)
            if finding.outcome == "ok":
                passes.add(name)
            yield finding


def summary(connection: str | RayClient | HasClient) -> tuple[bool, str]:
    """Return whether all steps are good, and what they found, or the first that is not and what to do about it.

    :param connection: as for :func:`diagnose`.
    """
    sentences = ["Connected."]
    for finding in diagnose(connection):
        if finding.text == _NO_CLUSTER:
            return True, f"Its fields make sense. {finding.text[0].upper()}{finding.text[1:]}."
        if finding.outcome == "failed":
            return False, f"{finding.text} {finding.remedy}"
        if finding.outcome == "ok" and finding.name in _IN_SUMMARY:
            sentences.append(f"{finding.text[0].upper()}{finding.text[1:]}.")
    return True, " ".join(sentences)


def _client_of(connection: str | RayClient | HasClient, dag_id: str | None, run_id: str | None) -> RayClient:
    if isinstance(connection, str):
        from airflow_ray.client.client import RayClient

        return RayClient(connection, dag_id, run_id)
    front: Any = connection
    client: RayClient = getattr(front, "client", front)
    return client if dag_id is None else client.at(dag_id, run_id)


class _NothingToCheckError(Exception):
    """A step does not apply to this connection; the text says why."""


class _Examination:
    """The steps, each of which returns what it found or raises, and what they hand on to later ones."""

    def __init__(self, client: RayClient, stack: ExitStack) -> None:
        self._client = client
        self._stack = stack
        self._seen: dict[str, Any] = {}

    def steps(self) -> list[tuple[str, tuple[str, ...], Callable[[], str]]]:
        """Return name, preconditions and function of each step, in order."""
        return [
            ("connection", (), self._connection),
            ("host", ("connection",), self._host),
            ("cluster", ("host",), self._cluster),
            ("objects", ("cluster",), self._objects),
            ("task", ("objects",), self._task),
            ("versions", ("task",), self._versions),
            ("resources", ("task",), self._resources),
            ("checkpoint path", ("connection",), self._checkpoint_path),
            ("checkpoint write", ("checkpoint path", "task"), self._checkpoint_write),
            ("checkpoint read", ("checkpoint write",), self._checkpoint_read),
            ("checkpoint here", ("checkpoint write",), self._checkpoint_here),
            ("xcom backend", (), self._xcom_backend),
        ]

    def _connection(self) -> str:
        link = self._client.link
        settings = link.settings if link.is_of_one_cluster else link.connection
        return f"{self._client.conn_id}: mode {settings.mode}, {settings.address}, namespace {settings.namespace}"

    def _host(self) -> str:
        if not self._client.link.is_of_one_cluster:
            raise _NothingToCheckError(_NO_CLUSTER)
        settings = self._client.settings
        if settings.kubernetes_conn_id is not None:
            return f"Kubernetes says that {settings.host} is {settings.located().host}"
        if settings.mode == "local" or settings.address == "auto":
            return "this machine"
        host, _, port = settings.address.rpartition(":")
        try:
            found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            raise socket.gaierror(error.errno, f"{host}: {error.strerror}") from error
        return f"{host} is {', '.join(dict.fromkeys(str(each[4][0]) for each in found))}"

    def _cluster(self) -> str:
        started = time.monotonic()
        self._stack.enter_context(self._client.connect())
        return f"connected in {time.monotonic() - started:.1f} s"

    def _objects(self) -> str:
        objects = self._client.list_objects()
        size = readable_bytes(sum(each["bytes"] or 0 for each in objects))
        return f"the cluster holds {quantity(len(objects), 'object')}, {size}"

    def _task(self) -> str:
        started = time.monotonic()
        self._seen = run_errand(self._client, inspection, timeout=TASK_SECONDS)
        return f"a task ran on node {self._seen['node']}, done after {time.monotonic() - started:.1f} s"

    def _versions(self) -> str:
        ray, python = self._client.link.session.ray_version, platform.python_version()
        here = f"Python {python}" if ray is None else f"Ray {ray} and Python {python}"
        text = f"{here} here, Ray {self._seen['ray']} and Python {self._seen['python']} on the cluster"
        is_same_ray = ray in (None, self._seen["ray"])
        if not is_same_ray or python.rpartition(".")[0] != self._seen["python"].rpartition(".")[0]:
            raise RayVersionMismatchError(text)
        return text

    def _resources(self) -> str:
        total, free = self._seen["total"], self._seen["free"]
        shown = [f"{total.get(name, 0):g} {name} ({free.get(name, 0):g} free)" for name in ("CPU", "GPU")]
        for name, label in (("memory", "memory"), ("object_store_memory", "object store")):
            shown.append(f"{readable_bytes(total.get(name, 0))} {label} ({readable_bytes(free.get(name, 0))} free)")
        return f"{quantity(self._seen['nodes'], 'node')}: {', '.join(shown)}"

    def _checkpoint_path(self) -> str:
        location = self._location
        credentials = f"AWS connection {location.aws_conn_id}" if location.aws_conn_id else "the machines' own"
        return f"checkpoints go to {location.path}, credentials: {credentials}"

    def _checkpoint_write(self) -> str:
        self._uri = self._stack.enter_context(temporary_uri(self._client))
        self._stack.callback(self._delete_checkpoint)
        self._client.submit(str, self._client.conn_id, uri=self._uri, checkpoint=True, num_cpus=0, max_retries=0)
        record = self._client.wait(self._uri, TASK_SECONDS)
        return f"a task wrote one in {record['outputs'][self._uri.key]['checkpoint']['seconds']:.1f} s"

    def _checkpoint_read(self) -> str:
        started = time.monotonic()
        self._client.release(self._uri)
        run_errand(self._client, len, self._uri, timeout=TASK_SECONDS)
        return f"the cluster restored it in {time.monotonic() - started:.1f} s"

    def _checkpoint_here(self) -> str:
        started = time.monotonic()
        self._checkpoints.load(self._uri)
        return f"this machine read it in {time.monotonic() - started:.1f} s"

    def _xcom_backend(self) -> str:
        backend: Any = conf.getimport("core", "xcom_backend")
        names = [f"{cls.__module__}.{cls.__name__}" for cls in backend.__mro__]
        if XCOM_BACKEND not in names:
            raise _NothingToCheckError(f"[core] xcom_backend is {names[0]}, not {XCOM_BACKEND}")
        return names[0]

    @cached_property
    def _location(self) -> CheckpointLocation:
        location = find_location(self._client.link.connection)
        if location is None:
            raise _NothingToCheckError("none is set for this connection")
        return location

    @property
    def _checkpoints(self) -> CheckpointStore:
        return CheckpointStore(self._location)

    def _delete_checkpoint(self) -> None:
        # Where it cannot be deleted, a step has told so already.
        with suppress(AirflowRayError):
            self._checkpoints.delete(self._uri)


def _finding(name: str, check: Callable[[], str], conn_id: str) -> Finding:
    try:
        return Finding(name, "ok", check())
    except _NothingToCheckError as reason:
        return Finding(name, "skipped", str(reason))
    # Whatever is wrong with one step, the others are worth a look.
    except Exception as error:
        return Finding(name, "failed", first_lines(error), remedy(error, conn_id))
