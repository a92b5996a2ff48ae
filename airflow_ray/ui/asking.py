"""Questions to clusters, none of which may hold up Airflow's API server."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from airflow_ray._compat import AirflowException, AirflowNotFoundException
from airflow_ray.client.client import RayClient
from airflow_ray.client.connection.looking import LookingLink
from airflow_ray.client.doctor import first_lines

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

T = TypeVar("T")
# The ids of a DAG and of a run of it.
Run = tuple["str | None", "str | None"]

SECONDS = 3.0
# A name that does not resolve, for example, is waited for longer than one asks.
MAX_THREADS = 24
MAX_OF_ONE = 4

log = logging.getLogger(__name__)

_lock = threading.Lock()
_under_way: Counter[tuple[str, Run]] = Counter()


class LookingClient(RayClient):
    """A client that looks at what runs already, and starts nothing."""

    link: LookingLink

    def survey(self) -> dict[str, Any]:
        """Return the versions of the cluster, its nodes, and its resources in all and those that are free."""
        return self.link.survey()


@dataclass(frozen=True)
class Answer(Generic[T]):
    """What a cluster answered, or why it did not.

    :param conn_id: the Airflow connection of the cluster.
    :param value: the answer.
    :param problem: why there is none, for people.
    """

    conn_id: str
    value: T | None = None
    problem: str | None = None


async def ask(
    conn_id: str,
    question: Callable[[LookingClient], T],
    of: Run = (None, None),
    seconds: float | None = None,
    who: str = "It",
) -> Answer[T]:
    """Ask one cluster, and return after so many seconds whatever comes.

    :param seconds: None for those that a page may take.
    :param question: is called in a thread, with a connected client.
    :param of: DAG and run of the cluster, where the connection leads to one for each.
    :param who: is said not to have answered, if nothing comes.
    """
    seconds = SECONDS if seconds is None else seconds
    if not _begin(conn_id, of):
        return Answer(conn_id, problem="It is being asked already, and has not answered yet. Try again in a while.")
    try:
        asked: Future[T | None] = _threads().submit(_asked, conn_id, question, of, seconds)
        # Also when it is given up before a thread was free for it.
        asked.add_done_callback(lambda _: _end(conn_id, of))
        return Answer(conn_id, value=await asyncio.wait_for(asyncio.wrap_future(asked), seconds))
    except (TimeoutError, asyncio.TimeoutError):
        return Answer(conn_id, problem=f"{who} did not answer within {seconds:g} seconds.")
    except AirflowNotFoundException:
        return Answer(conn_id, problem=f"Airflow has no connection {conn_id!r}.")
    except AirflowException as error:
        return Answer(conn_id, problem=first_lines(error))
    # Whatever it is, the rest of the page stays.
    except Exception as error:
        log.exception("The cluster of connection %s could not be asked", conn_id)
        return Answer(conn_id, problem=f"{type(error).__name__}: {first_lines(error)}")


async def ask_all(
    conn_ids: list[str], question: Callable[[LookingClient], T], of: Run = (None, None)
) -> list[Answer[T]]:
    """Ask several clusters the same at the same time."""
    return await asyncio.gather(*(ask(conn_id, question, of) for conn_id in conn_ids))


async def within(function: Callable[[], T]) -> T | None:
    """Return what a function returns that may wait for others, or None where that takes too long or fails."""
    try:
        return await asyncio.wait_for(asyncio.wrap_future(_threads().submit(function)), SECONDS)
    except (TimeoutError, asyncio.TimeoutError):
        return None
    # What is asked for is not worth the page.
    except Exception:
        log.exception("A part of the Ray page could not be made")
        return None


def _asked(conn_id: str, question: Callable[[LookingClient], T], of: Run, seconds: float) -> T:
    with LookingClient(conn_id, link=LookingLink(conn_id, seconds)).at(*of).connect() as client:
        return question(client)


def _begin(conn_id: str, of: Run) -> bool:
    """Take note that a cluster is asked, unless too many wait for it already."""
    with _lock:
        if _under_way[conn_id, of] >= MAX_OF_ONE:
            return False
        _under_way[conn_id, of] += 1
        return True


def _end(conn_id: str, of: Run) -> None:
    with _lock:
        _under_way[conn_id, of] -= 1
        if not _under_way[conn_id, of]:
            # There may be a cluster for each run.
            del _under_way[conn_id, of]


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="airflow-ray-page")
