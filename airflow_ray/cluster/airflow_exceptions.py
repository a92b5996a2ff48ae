"""Airflow's exceptions that end a task in a way of their own, for clusters that have no Airflow.

The client knows them, and Airflow's own, by the names of their classes and of the bases of those.
"""

from __future__ import annotations

import importlib.util
import sys
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

_PACKAGE = "airflow_ray"


class AirflowSkipException(Exception):
    """Ends a task as skipped."""


class AirflowFailException(Exception):
    """Ends a task as failed, without a further try."""


def skip(reason: str = "") -> NoReturn:
    """End the task as skipped, from inside a callable on a Ray cluster, which needs no package for that.

    :param reason: for the log of the task.
    """
    raise AirflowSkipException(reason)


def stand_in(module: str, name: str) -> type[Exception] | None:
    """Return the class in place of Airflow's of that name, if it is one of these."""
    classes = {cls.__name__: cls for cls in (AirflowSkipException, AirflowFailException)}
    return classes.get(name) if module.partition(".")[0] == "airflow" else None


@contextmanager
def skip_importable() -> Iterator[None]:
    """Let ``from airflow_ray import skip`` work where this package is not installed."""
    try:
        is_installed = importlib.util.find_spec(_PACKAGE) is not None
    # A cluster may forbid it in words of its own.
    except (ImportError, ValueError):
        is_installed = False
    if is_installed:
        yield
        return
    module = ModuleType(_PACKAGE)
    module.skip = skip  # type: ignore[attr-defined]
    sys.modules[_PACKAGE] = module
    try:
        yield
    finally:
        sys.modules.pop(_PACKAGE, None)
