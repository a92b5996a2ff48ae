"""Lines that were written on the cluster, as the log of a task shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_ray.cluster import log_levels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_METHODS = {log_levels.WARNING: "warning", log_levels.ERROR: "error", log_levels.CRITICAL: "critical"}


def with_methods(log: Any, lines: Sequence[str], levels: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield each line with the method of ``log`` that shows it at its level.

    :param levels: the letters of their levels; an owner of an earlier release tells none.
    """
    for line, letter in zip(lines, log_levels.levels_of(lines, levels), strict=False):
        yield line, getattr(log, _METHODS.get(letter, "info"))
