"""The pickled call of a callable, and how it is made."""

from __future__ import annotations

import asyncio
import functools
import io
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.airflow_exceptions import stand_in
from airflow_ray.cluster.failures import WorkFailure
from airflow_ray.cluster.protocol import FailureKind
from airflow_ray.cluster.tuning.search import search
from airflow_ray.cluster.values.cloudpickles import NAMES
from airflow_ray.cluster.values.exceptions import describe_exception
from airflow_ray.cluster.values.identity import FILLER, fill_anew
from airflow_ray.cluster.values.pickler import Unpickler

if TYPE_CHECKING:
    from airflow_ray.cluster.worker.context import RunContext


class _PayloadUnpickler(Unpickler):
    """Puts the inputs, which Ray has already fetched, where the pickled arguments name them by number.

    A name stands for a function of this package, which gets the work as its first argument.
    """

    def __init__(self, payload: bytes, inputs: tuple[Any, ...], work: RunContext) -> None:
        super().__init__(io.BytesIO(payload))
        self._inputs = inputs
        self._functions = {search.__name__: functools.partial(search, work)}

    def find_class(self, module: str, name: str) -> Any:
        if name == FILLER and module in NAMES:
            return fill_anew
        try:
            return super().find_class(module, name)
        except (ImportError, AttributeError):
            if (found := stand_in(module, name)) is None:
                raise
            return found

    def persistent_load(self, pid: int | str) -> Any:
        return self._functions[pid] if isinstance(pid, str) else self._inputs[pid]


def call(payload: bytes, inputs: tuple[Any, ...], work: RunContext) -> Any:
    """Call the callable, and return what it returns, or its coroutine does.

    :raises WorkFailure: it cannot be unpickled here.
    """
    try:
        function, args, kwargs = _PayloadUnpickler(payload, inputs, work).load()
    except Exception as error:
        raise WorkFailure(FailureKind.UNPICKLE, **describe_exception(error)) from error
    return awaited(function(*args, **kwargs))


def awaited(value: Any) -> Any:
    """Return what a coroutine returns, and any other value as it is: a ref of Ray's can be awaited too."""
    if not isinstance(value, Coroutine):
        return value
    # A function takes a coroutine of any kind only if it awaits it itself.
    return asyncio.run(_result_of(value))


async def _result_of(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return await coroutine
