"""Lines that several children of one work write alike: told once and counted, as Ray does in the log of a driver."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.log_levels import levels_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Ray's own variable, here in the runtime environment of the work that is to have it.
VARIABLE = "RAY_DEDUP_LOGS"


def wants_fewer(options: Mapping[str, Any]) -> bool:
    """Whether work with these options asks for its repeated lines to be told once."""
    runtime_env = options.get("runtime_env") or {}
    return str((runtime_env.get("env_vars") or {}).get(VARIABLE, "0")).lower() in ("1", "true")


class Repeats:
    """Ray's deduplication over the children of one work."""

    def __init__(self) -> None:
        from ray._private import ray_constants
        from ray._private.ray_logging import LogDeduplicator

        self._deduplicator: Any = LogDeduplicator(
            ray_constants.RAY_DEDUP_LOGS_AGG_WINDOW_S,
            ray_constants.RAY_DEDUP_LOGS_ALLOW_REGEX,
            ray_constants.RAY_DEDUP_LOGS_SKIP_REGEX,
        )

    def fewer(self, child: str, who: str, lines: list[str], levels: str) -> tuple[list[str], str]:
        """Return lines of a child that are new, with who has written them, and others of which there were more."""
        batches = []
        # One by one: each has its level.
        for line, level in zip(lines, levels_of(lines, levels), strict=False):
            source = {"pid": child, "ip": None, "who": who, "level": level}
            batches += self._deduplicator.deduplicate({**source, "lines": [line]})
        return _lines_of(batches)

    def rest(self) -> tuple[list[str], str]:
        """Return what was counted since."""
        return _lines_of(self._deduplicator.flush())


def _lines_of(batches: Iterable[dict[str, Any]]) -> tuple[list[str], str]:
    told = [(f"{batch['who']} {line}", batch["level"]) for batch in batches for line in batch["lines"]]
    return [line for line, _ in told], "".join(level for _, level in told)
