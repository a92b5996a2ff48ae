"""What the two ways in have in common that go through Ray itself."""

from __future__ import annotations

import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_ray.client.by_value import pickle_by_value
from airflow_ray.client.connection.reasons import reason_of
from airflow_ray.client.connection.session import ObjectNotThere, Session, give_up, is_unknown_owner, owner_died
from airflow_ray.client.connection.threads import T, await_result, start_in_thread
from airflow_ray.client.transfer import values
from airflow_ray.cluster.build import own_build
from airflow_ray.exceptions import RayConnectionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from contextlib import AbstractContextManager

    from airflow_ray.client.connection.session import ConnectAgain
    from airflow_ray.object_uri import ObjectURI

# A Ray Client whose server has died may get a new one, which knows none of its objects.
NOT_FOUND = "not found for client"


class RaySession(Session):
    """An open connection through Ray.

    :param namespace: that of the owner.
    :param active: makes this connection the one that ``ray`` uses in the calling thread.
    :param deadline: until when the owner must be there, by the monotonic clock.
    :raises RayConnectionError: the owner was not there by then.

    ``owner`` is the owner's handle, good within :meth:`active` only.
    """

    #: Whether values are copied on their way, and nothing of Ray's can be used in this process.
    copies_values: ClassVar[bool]

    def __init__(self, namespace: str, active: Callable[[], AbstractContextManager[Any]], deadline: float) -> None:
        self.active = active
        self._namespace = namespace
        try:
            self.owner = self.run(self._find_owner, max(0.1, deadline - time.monotonic()))
        except TimeoutError:
            raise RayConnectionError(
                "Connected, but what keeps the objects did not start on the Ray head in time: its memory may be full"
            ) from None
        except RuntimeError as error:
            raise RayConnectionError(f"What keeps the objects could not be started on the Ray head: {error}") from error

    @property
    def ray_version(self) -> str:
        """The release of Ray in this process."""
        import ray

        return str(ray.__version__)

    @contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Raise what :meth:`call` does in place of what Ray raises when the owner dies or the connection breaks."""
        import grpc
        from ray.exceptions import ActorUnavailableError, OutOfMemoryError, RayActorError

        try:
            yield
        # The call was under way when a connection was reset; the owner lives.
        except ActorUnavailableError as error:
            raise RayConnectionError(f"The connection to the Ray cluster broke: {reason_of(error)}.") from error
        except (RayActorError, OutOfMemoryError) as error:
            raise owner_died(self._namespace, reason_of(error)) from error
        except (ConnectionError, ValueError, TypeError, grpc.RpcError) as error:
            is_lost = not isinstance(error, (ValueError, TypeError)) or NOT_FOUND in str(error)
            # Ray's own code stumbles over an answer that a head which has just gone does not give.
            if not is_lost and not _is_of_cut_answer(error):
                raise
            raise RayConnectionError(f"The connection to the Ray cluster broke: {reason_of(error)}.") from error

    def start(self, function: Callable[[], T]) -> Future[T]:
        """Run ``function``, which may use ``ray``, in a thread of its own, and return at once."""

        def target() -> T:
            with self.active():
                return function()

        return start_in_thread(target)

    def run(self, function: Callable[[], T], timeout: float | None = None) -> T:
        """Return what ``function`` returns, which may use ``ray``.

        It runs in a thread of its own: a signal handler that raises, as Airflow's for a timeout does,
        must not interrupt Ray's own code, which then loses the exception or a lock.

        :param timeout: seconds to wait; None waits without limit.
        :raises TimeoutError: it had not returned by then.
        """
        return await_result(self.start(function), timeout)

    def owners_of_other_versions(self) -> list[str]:
        """Return the names of owners in the same namespace that speak another protocol, which nobody here talks to."""
        import ray

        names = self.run(ray.util.list_named_actors)
        return sorted(filter(is_unknown_owner, names))

    def begin(self, method: str, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call a method of the owner and return at once."""

        def answer() -> Any:
            import ray

            with self.active(), self.translate_errors():
                return ray.get(getattr(self.owner, method).remote(*args, **kwargs))

        return start_in_thread(answer)

    def send(self, value: Any, connect_again: ConnectAgain) -> tuple[Any, list[Any]]:
        """Put a value into the object store."""
        apart, objects = values.take_apart(self, value)
        return values.put(self, apart), objects

    def fetch(self, uri: ObjectURI, connect_again: ConnectAgain) -> Any:
        """Return an object of the object store; where the connection breaks, it is asked for once more."""
        try:
            return self._fetch(uri)
        except RayConnectionError as error:
            return connect_again(error).fetch(uri, give_up)

    def _fetch(self, uri: ObjectURI) -> Any:
        ref, _ = self.find(uri)
        return values.fetch(self, uri, ref)

    def find(self, uri: ObjectURI) -> tuple[Any, int]:
        """Return the ref of an object, and its bytes.

        :raises ObjectNotThere: the owner has none of that name.
        """
        (refs, size, error) = self.call("find", uri.record_id, uri.key, collect=self.copies_values)
        if error is not None:
            raise ObjectNotThere(error)
        return refs[0], size

    def _find_owner(self) -> Any:
        import airflow_ray.cluster
        from airflow_ray.cluster.owner.keeper import owner_handle

        by_value = partial(pickle_by_value, [airflow_ray.cluster])
        return _knowing_methods(owner_handle(self._namespace, own_build(), by_value))


def _is_of_cut_answer(error: Exception) -> bool:
    return isinstance(error, TypeError) and "NoneType" in str(error)


def _knowing_methods(owner: Any) -> Any:
    """Return a handle whose methods are known: a Ray Client would start a worker process to ask for them."""
    from ray.util.client.common import ClientActorClass, ClientActorHandle

    from airflow_ray.cluster.owner.actor import Owner

    if isinstance(owner, ClientActorHandle):
        return ClientActorHandle(owner.actor_ref, ClientActorClass(Owner))
    return owner
