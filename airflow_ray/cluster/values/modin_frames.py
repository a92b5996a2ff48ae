"""Modin frames that stay Modin frames on their way through the object store."""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.values.cloudpickles import in_use

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def keep_modin_frames() -> Iterator[None]:
    """Pickle Modin's DataFrame and Series by their partitions, for whoever unpickles them.

    Modin itself does so only for the process that pickled them; any other gets all partitions, collected into
    one pandas frame.
    """
    modin = sys.modules.get("modin.pandas")
    if modin is None:
        yield
        return
    classes = modin.DataFrame, modin.Series
    with ExitStack() as stack:
        for cloudpickle in in_use():
            dispatch = cloudpickle.CloudPickler.dispatch
            for cls in classes:
                dispatch[cls] = _reduced
                stack.callback(dispatch.pop, cls, None)
        yield


def _reduced(frame: Any) -> tuple[Any, Any]:
    return _frame_of, (_parts_of(frame),)


def _parts_of(frame: Any) -> tuple[Any, Any, dict[str, Any]]:
    compiler = frame._query_compiler
    compiler.finalize()
    name = {"name": frame.name} if type(frame).__name__ == "Series" else {}
    return type(frame), compiler, name


def _frame_of(parts: tuple[Any, Any, dict[str, Any]]) -> Any:
    cls, compiler, name = parts
    # Modin sets itself up in a process when the first frame is made there; one that is unpickled does not count.
    cls([0])
    return cls(query_compiler=compiler, **name)
