"""Calls of the owner from the processes of the work."""

from __future__ import annotations

from typing import Any


def begin_call(owner: Any, method: str, *args: Any) -> Any:
    """Call a method of the owner and return the ref of its answer.

    When the connection between two nodes is reset, Ray fails the calls that are under way, unless it may make them
    again. Here it may: a line of the log that comes twice does less harm than work that fails in its last moment. That
    the owner has died is told at once, since nobody starts it again.

    :param owner: its handle.
    :param method: what does no harm when it is done twice.
    """
    return getattr(owner, method).options(max_task_retries=-1).remote(*args)
