"""What every way into a cluster offers once it is open."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_ray.client.connection.threads import start_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from airflow_ray.exceptions import RayConnectionError
    from airflow_ray.object_uri import ObjectURI

    # Takes what a connection broke with, and returns the session to go on with.
    ConnectAgain = Callable[[RayConnectionError], Any]


class Session(ABC):
    """An open connection to the owner of one namespace, whatever the way in."""

    #: Whether values are copied on their way, and nothing of Ray's can be used in this process.
    copies_values: ClassVar[bool]

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the owner and return its answer.

        :raises RayOwnerDiedError: the owner has died; the next connection makes a new one.
        :raises RayConnectionError: the connection broke.
        """
        return self.begin(method, *args, **kwargs).result()

    def begin(self, method: str, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call a method of the owner and return at once; the future raises what :meth:`call` does.

        Any thread may do so at any time.
        """
        return start_in_thread(lambda: self._answer(method, *args, **kwargs))

    @abstractmethod
    def _answer(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the owner in this thread, and return its answer."""

    @abstractmethod
    def send(self, value: Any, connect_again: ConnectAgain) -> tuple[Any, list[Any]]:
        """Bring a value to the cluster.

        :param connect_again: for a connection that breaks on the way.
        :returns: what the owner knows it by, and what the owner is to hold for it: Ray's objects inside it.
        :raises RayPicklingError: it cannot be pickled, or not be unpickled on the cluster.
        :raises RayConnectionError: the connection broke, and could not be made again.
        """

    @abstractmethod
    def fetch(self, uri: ObjectURI, ref: Any, size: int, connect_again: ConnectAgain) -> Any:
        """Return an object of the cluster.

        :param uri: its name, for errors.
        :param ref: its ref, as the owner tells it to this session.
        :param size: in bytes, as far as it is known.
        :param connect_again: for a connection that breaks on the way.
        :raises RayObjectLostError: it is gone.
        :raises RayPicklingError: it cannot be unpickled in this process.
        :raises RayConnectionError: the connection broke, and could not be made again.
        """

    @abstractmethod
    def owners_of_other_versions(self) -> list[str]:
        """Return the names of owners in the same namespace that speak another protocol, which nobody here talks to."""
