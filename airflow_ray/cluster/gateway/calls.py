"""Calls of owners: what clients may call of them, and what comes back as plain data."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_ray.cluster.failures import Refusal, refusal
from airflow_ray.cluster.gateway.keeping import version_of
from airflow_ray.cluster.protocol import MESSAGES_VERSION, OLDEST_MESSAGES_VERSION, OWNER_PREFIX, RefusalKind

if TYPE_CHECKING:
    from collections.abc import Iterator

# What runners and other owners call is not for clients, and neither is what takes or returns a ref.
VERBS = frozenset(
    {
        "adopt",
        "attach",
        "cancel",
        "check_get",
        "describe",
        "forget_if_lost",
        "greet",
        "list_objects",
        "poll",
        "refresh_credentials",
        "release",
        "restore",
        "sample",
        "submit",
        "watch",
    }
)
# In between a client that waits learns that somebody is still there.
SIGN_SECONDS = 10.0
ANSWER_SECONDS = 2.0


class OwnerName(NamedTuple):
    """Which owner is meant, by its namespace in Ray and its name there."""

    namespace: str
    name: str


class Owners:
    """Knows the owners of this cluster by their handles."""

    def __init__(self) -> None:
        self._handles: dict[OwnerName, Any] = {}

    def begin(self, owner: OwnerName, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method, and return the ref of its answer.

        :raises Refusal: there is no such owner.
        """
        return getattr(self._handle(owner), method).remote(*args, **kwargs)

    def call(
        self, owner: OwnerName, method: str, args: list[Any], kwargs: dict[str, Any], is_look: bool = False
    ) -> Iterator[Any]:
        """Yield None now and then while an owner has not answered, and then its answer in a list.

        :param is_look: whoever asks has no use for the owner, which may end as if nobody had asked.
        :raises Refusal: there is no such owner, it has died, or this is nothing that a client may ask.
        """
        import ray

        if method not in VERBS:
            raise refusal(RefusalKind.REFUSED, f"A client may not call {method!r} of the cluster")
        ref = self.begin(owner, "look" if is_look else "answer", method, args, kwargs)
        while not ray.wait([ref], timeout=SIGN_SECONDS)[0]:
            yield None
        yield [self.answer(owner, ref)]

    def answer(self, owner: OwnerName, ref: Any, timeout: float | None = None) -> Any:
        """Return an answer.

        :param timeout: seconds until it must be there.
        :raises GetTimeoutError: it is not.
        :raises Refusal: the owner has died, cannot be reached, or cannot do what it was asked.
        """
        import ray
        from ray.exceptions import ActorUnavailableError, GetTimeoutError, OutOfMemoryError, RayActorError, RayError

        try:
            return ray.get(ref, timeout=timeout)
        except GetTimeoutError:
            raise
        # The call was under way when a connection was reset; the owner lives.
        except ActorUnavailableError as error:
            raise refusal(RefusalKind.BROKEN, str(error)) from error
        except (RayActorError, OutOfMemoryError) as error:
            # The next call looks for the one in its place.
            self._handles.pop(owner, None)
            raise refusal(RefusalKind.OWNER_DIED, str(error)) from error
        except RayError as error:
            cause = getattr(error, "cause", error)
            raise refusal(RefusalKind.REFUSED, f"{type(cause).__name__}: {cause}") from error

    def id_of(self, owner: OwnerName) -> str:
        """Return Ray's id of an owner that lives, or an empty text; one that does not answer in time is busy."""
        from ray.exceptions import GetTimeoutError

        # The one that is known here may have died, and another be in its place.
        for _ in range(2 if owner in self._handles else 1):
            with suppress(Refusal):
                handle = self._handle(owner)
                with suppress(GetTimeoutError):
                    # Ray may know the handle of one that has just died.
                    self.answer(owner, handle.greet.remote(), ANSWER_SECONDS)
                return str(handle._actor_id.hex())
        return ""

    def others(self, owner: OwnerName) -> list[str]:
        """Return the names of all other owners of a namespace."""
        import ray

        named = ray.util.list_named_actors(all_namespaces=True)
        names = [each["name"] for each in named if each["namespace"] == owner.namespace]
        return sorted(name for name in names if name.startswith(OWNER_PREFIX) and name != owner.name)

    def _handle(self, owner: OwnerName) -> Any:
        import ray

        # Another thread may take it out at any time.
        handle = self._handles.get(owner)
        if handle is None:
            try:
                handle = self._handles[owner] = ray.get_actor(owner.name, namespace=owner.namespace)
            except ValueError as error:
                raise refusal(RefusalKind.OWNER_DIED, "It is not there") from error
        return handle


def greeting(release: str) -> dict[str, Any]:
    """Return who this gateway is, and what runs on this head."""
    return {
        "release": release,
        "messages": MESSAGES_VERSION,
        "oldest_messages": OLDEST_MESSAGES_VERSION,
        "python": ".".join(map(str, sys.version_info[:3])),
        "ray": version_of("ray"),
        "pyarrow": version_of("pyarrow"),
        "cloudpickle": _version_of_pickler(),
    }


def _version_of_pickler() -> str:
    from ray import cloudpickle

    return str(cloudpickle.__version__)
