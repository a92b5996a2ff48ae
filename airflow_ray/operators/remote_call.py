"""What an operator lets run on the cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class RemoteCall(NamedTuple):
    """What runs on the cluster.

    :param function: the callable.
    :param args: its arguments.
    :param kwargs: its keyword arguments.
    :param options: of the hook's ``submit``, besides those that all operators have.
    :param code: what else the cluster needs the modules of.
    """

    function: Callable[..., Any]
    args: Sequence[Any]
    kwargs: dict[str, Any]
    options: dict[str, Any]
    code: Callable[..., Any] | None = None
