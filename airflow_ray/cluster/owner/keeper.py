"""The keeper: a driver on the head that creates the owner and lives as long as it does.

A detached actor's tasks belong to the job of whoever created it. When that job's driver is gone, Ray
stops the job's idle workers at once and each further task starts a new process. So the creator is a
driver that stays. It counts as use of the cluster, by which others decide whether that may go: so it and
the owner end when the owner has had nothing to do and to keep for a while, and the next client has both
started again.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import asdict
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

from airflow_ray.cluster.gateway.child import CODE, Duty
from airflow_ray.cluster.gateway.files import GatewayError
from airflow_ray.cluster.gateway.keeping import GatewayKeeper
from airflow_ray.cluster.gateway.settings import GatewaySettings, default_folder
from airflow_ray.cluster.owner.actor import Owner
from airflow_ray.cluster.protocol import KEEPER_PREFIX, OWNER_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager


READY = b"the owner is ready\n"
MAX_CONCURRENT_CALLS = 10_000
# Of the keeper: whoever asks for the gateway waits for it in a thread of its own.
MAX_CONCURRENT_STARTS = 32
ON_HEAD: dict[str, Any] = {"num_cpus": 0, "resources": {"node:__internal_head__": 0.001}}


def _exit_with_parent() -> None:
    """End this process when the keeper actor's does, and so when the node goes down: stdin then ends."""
    sys.stdin.buffer.read()
    os._exit(0)


class Build(NamedTuple):
    """Who the owner is of.

    :param release: of the package.
    :param digest: of the sources that live in the owner's process: mended code has another owner than before.
    """

    release: str
    digest: str

    @property
    def owner_name(self) -> str:
        """The name of the owner."""
        return f"{OWNER_PREFIX}{self.digest}"

    @property
    def keeper_name(self) -> str:
        """The name of its keeper."""
        return f"{KEEPER_PREFIX}{self.digest}"


def keep_owner(address: str, namespace: str, release: str, digest: str) -> None:
    """Create the owner of ``namespace`` and return when it has ended; runs as a driver."""
    import ray
    from ray.exceptions import RayActorError

    threading.Thread(target=_exit_with_parent, daemon=True).start()
    build = Build(release, digest)
    ray.init(address, namespace=namespace, log_to_driver=False)
    owner = (
        ray.remote(Owner)
        .options(
            name=build.owner_name,
            get_if_exists=True,
            lifetime="detached",
            # A restarted owner would know nothing. And Ray's memory monitor ends first what can be restarted.
            max_restarts=0,
            max_concurrency=MAX_CONCURRENT_CALLS,
            **ON_HEAD,
        )
        .remote(*build)
    )
    ray.get(owner.begin.remote())
    sys.stdout.buffer.write(READY)
    sys.stdout.flush()
    # Nobody reads on: what Ray writes later must not fill the pipe.
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    with suppress(RayActorError):
        is_replaced = ray.get(owner.until_end.remote())
        ray.kill(owner)
        if is_replaced:
            # Nobody of its build is left who would need another one. Else this starts it again, and keeps the gateway.
            ray.kill(ray.get_actor(build.keeper_name))


class Keeper:
    """A detached actor on the head that starts the keeper process, and keeps the gateway, if somebody wants it.

    It has a name, so there is one a namespace.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._starting = threading.Lock()
        # By the folder of their files.
        self._gateways: dict[str, GatewayKeeper] = {}

    def ensure_owner(self, pickled_keep_owner: bytes, namespace: str, release: str, digest: str) -> str | None:
        """Start the keeper process unless it runs and return when the owner is ready.

        :param pickled_keep_owner: :func:`keep_owner`, pickled by value.
        :param release: as for :class:`Build`.
        :param digest: likewise.
        :returns: None, or what the process wrote before it ended without an owner.
        """
        import ray

        with self._starting:
            if self._process is not None and self._process.poll() is None:
                with suppress(ValueError):
                    ray.get_actor(Build(release, digest).owner_name, namespace=namespace)
                    return None
                # Its owner has just died, so it is about to end.
                self._process.wait()
            address = ray.get_runtime_context().gcs_address
            return self._start(pickled_keep_owner, (address, namespace, release, digest))

    def ensure_gateway(
        self, pickled_serve: bytes, release: str, folder: str | None, host: str | None, port: int, sums: list[str]
    ) -> dict[str, Any]:
        """Start the gateway of this head unless it runs, and keep it running for as long as this actor lives.

        So it outlives an owner that has died: through it the next one is started.

        :param pickled_serve: what becomes the gateway, pickled by value.
        :param release: of the package that it runs; one of an older release makes way.
        :param folder: of its files; None for the usual one.
        :param host: as for :class:`GatewaySettings`.
        :param port: likewise.
        :param sums: SHA-256 of the tokens that are let in, instead of those before; none leave those.
        :returns: what it notes of itself once it takes connections; or why it does not, as
            :attr:`GatewayError.answer`.
        """
        import ray

        address = ray.get_runtime_context().gcs_address
        settings = GatewaySettings(folder or default_folder(address), host, port)
        duty = Duty(settings, release, pickled_serve, (asdict(settings), address, release))
        try:
            return self._gateways.setdefault(settings.folder, GatewayKeeper(lambda: True)).ensure(duty, sums)
        except GatewayError as error:
            return error.answer

    def _start(self, pickled_keep_owner: bytes, arguments: tuple[str, ...]) -> str | None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", CODE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        stdin = cast("IO[bytes]", self._process.stdin)
        pickle.dump((pickled_keep_owner, arguments), stdin)
        stdin.flush()
        output = b""
        for line in cast("IO[bytes]", self._process.stdout):
            if line == READY:
                return None
            output += line
        return output.decode(errors="replace")


def owner_handle(namespace: str, build: Build, by_value: Callable[[], AbstractContextManager[None]]) -> Any:
    """Return the handle of the owner of ``namespace``, which is created if there is none.

    :param build: whose owner it is.
    :param by_value: as for :func:`keeper_handle`.
    :raises RuntimeError: likewise.
    """
    import ray

    with suppress(ValueError):
        return ray.get_actor(build.owner_name, namespace=namespace)
    keeper_handle(namespace, build, by_value)
    return ray.get_actor(build.owner_name, namespace=namespace)


def keeper_handle(namespace: str, build: Build, by_value: Callable[[], AbstractContextManager[None]]) -> Any:
    """Return the handle of the keeper of ``namespace``, whose owner runs.

    :param build: whose keeper it is.
    :param by_value: makes Ray's pickler copy this package while it is entered, so that the cluster needs
        none. Nothing is waited for within it, since others pickle too.
    :raises RuntimeError: the owner could not be started; the text is what its process said.
    """
    from ray import cloudpickle
    from ray.exceptions import RayActorError

    with by_value():
        pickled = cloudpickle.dumps(keep_owner)
    try:
        keeper, output = _ensure_owner(pickled, namespace, build, by_value)
    # The keeper of an owner that has just retired was about to end.
    except RayActorError:
        keeper, output = _ensure_owner(pickled, namespace, build, by_value)
    if output is not None:
        raise RuntimeError(output)
    return keeper


def _ensure_owner(
    pickled: bytes, namespace: str, build: Build, by_value: Callable[[], AbstractContextManager[None]]
) -> tuple[Any, str | None]:
    """Let the keeper of ``namespace``, which is created if there is none, start the owner; return both."""
    import ray
    from ray.exceptions import ActorAlreadyExistsError

    named = {"name": build.keeper_name, "namespace": namespace, "get_if_exists": True, "lifetime": "detached"}
    try:
        with by_value():
            keeper = ray.remote(Keeper).options(**named, max_concurrency=MAX_CONCURRENT_STARTS, **ON_HEAD).remote()
        output: str | None = ray.get(keeper.ensure_owner.remote(pickled, namespace, *build))
    # Ray looks for it first and creates it then: meanwhile another process may have done the same. A Ray Client
    # hears of that with the first call.
    except ActorAlreadyExistsError:
        keeper = ray.get_actor(build.keeper_name, namespace=namespace)
        output = ray.get(keeper.ensure_owner.remote(pickled, namespace, *build))
    return keeper, output
