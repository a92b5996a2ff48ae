"""Starting owner and gateway over a connection to the cluster that is open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.gateway.files import GatewayError
from airflow_ray.cluster.gateway.settings import PORT
from airflow_ray.cluster.owner.keeper import keeper_handle

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from airflow_ray.cluster.owner.keeper import Build


def start(
    namespace: str,
    build: Build,
    by_value: Callable[[], AbstractContextManager[None]],
    token_sums: list[str],
    folder: str | None = None,
    host: str | None = None,
    port: int = PORT,
) -> dict[str, Any]:
    """Make sure that the owner of ``namespace`` and the gateway of the head run, and return the note of that.

    Any number may do so at once.

    :param build: of the owner and the gateway.
    :param by_value: as for :func:`keeper_handle`.
    :param token_sums: SHA-256 of the tokens that the gateway lets in, instead of those before; none leave those.
    :param folder: of the gateway's files on the head; None for the usual one.
    :param host: the address that it listens on; None for its Unix socket alone.
    :param port: of that address.
    :raises GatewayError: the gateway does not run; the text says why.
    :raises RuntimeError: the owner does not.
    """
    import ray
    from ray import cloudpickle
    from ray.exceptions import RayActorError

    from airflow_ray.cluster.gateway.process import serve

    with by_value():
        pickled = cloudpickle.dumps(serve)

    def ensure() -> dict[str, Any]:
        keeper = keeper_handle(namespace, build, by_value)
        place = folder, host, port
        answer: dict[str, Any] = ray.get(keeper.ensure_gateway.remote(pickled, build.release, *place, token_sums))
        return answer

    try:
        answer = ensure()
    # The keeper of an owner that has just retired was about to end.
    except RayActorError:
        answer = ensure()
    if "error" in answer:
        raise GatewayError(answer["error"], answer["is_of_versions"], answer.get("port"))
    return answer
