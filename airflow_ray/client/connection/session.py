"""What every way into a cluster offers once it is open."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_ray.cluster.protocol import OWNER_PREFIX
from airflow_ray.exceptions import RayOwnerDiedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from airflow_ray.exceptions import RayConnectionError
    from airflow_ray.object_uri import ObjectURI

    # Takes what a connection broke with, and returns the session to go on with.
    ConnectAgain = Callable[[RayConnectionError], Any]


# Owners of releases before builds were told apart: they do not answer the questions of newer ones.
_UNKNOWN_OWNER_PREFIX = f"{OWNER_PREFIX}v"


class ObjectNotThere(Exception):
    """An object that was asked for is not there; carries why, as the owner tells it.

    :param error: a failure as plain data.
    """

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["kind"])
        self.error = error


class Session(ABC):
    """An open connection to the owner of one namespace, whatever the way in."""

    @property
    def ray_version(self) -> str | None:
        """The release of Ray in this process, which has to be that of the cluster; None where it has not."""
        return None

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the owner and return its answer.

        :raises RayOwnerDiedError: the owner has died; the next connection makes a new one.
        :raises RayConnectionError: the connection broke.
        """
        return self.begin(method, *args, **kwargs).result()

    @abstractmethod
    def begin(self, method: str, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call a method of the owner and return at once; the future raises what :meth:`call` does.

        Any thread may do so at any time.
        """

    @abstractmethod
    def send(self, value: Any, connect_again: ConnectAgain) -> tuple[Any, list[Any]]:
        """Bring a value to the cluster.

        :param connect_again: for a connection that breaks on the way.
        :returns: what the owner knows it by, and what the owner is to hold for it: Ray's objects inside it.
        :raises RayPicklingError: it cannot be pickled, or not be unpickled on the cluster.
        :raises RayConnectionError: the connection broke, and could not be made again.
        """

    @abstractmethod
    def fetch(self, uri: ObjectURI, connect_again: ConnectAgain) -> Any:
        """Return an object of the cluster.

        :param connect_again: for a connection that breaks on the way.
        :raises ObjectNotThere: the owner has none of that name.
        :raises RayObjectLostError: it is gone.
        :raises RayPicklingError: it cannot be unpickled in this process.
        :raises RayConnectionError: the connection broke, and could not be made again.
        """

    def require_same_python(self) -> None:
        """Make sure that a callable of this process runs on the cluster, before it is sent.

        Where Ray itself is the way in, it has seen to that.

        :raises RayVersionMismatchError: it does not.
        """
        return

    @abstractmethod
    def owners_of_other_versions(self) -> list[str]:
        """Return the names of owners in the same namespace that speak another protocol, which nobody here talks to."""


def give_up(broken: RayConnectionError) -> NoReturn:
    """Make no connection in place of one that broke."""
    raise broken


def is_unknown_owner(name: str) -> bool:
    """Whether this is the name of an owner that speaks another protocol."""
    return name.startswith(_UNKNOWN_OWNER_PREFIX)


def owner_died(namespace: str, reason: str) -> RayOwnerDiedError:
    """Return the error for a dead owner, with what to do about it.

    :param reason: what Ray says.
    """
    return RayOwnerDiedError(
        f"The process on the Ray head that runs the work of namespace {namespace!r} has died, and with it that work "
        "and the objects. The next try of this task starts anew; where there is none left, clear it, and before it "
        f"the tasks whose objects it needs. Ray says: {reason}"
    )
