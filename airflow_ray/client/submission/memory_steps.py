"""How much memory a try reserves where a task names an amount for each try that follows one which ran out of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow_ray.client.submission.rendered import amount
from airflow_ray.cluster.protocol import FailureKind
from airflow_ray.exceptions import RayConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_ray.cluster.protocol import TaskTry

log = logging.getLogger(__name__)


def memory_for(amounts: Sequence[Any], record: dict[str, Any], task_try: TaskTry) -> int:
    """Return the amount after that of an earlier try which ran out of memory, or else that of the earlier try.

    :param amounts: in bytes, rendered; the last one stays where even that was too little.
    :param record: of the earlier try; without ``task_try`` where there is none.
    :param task_try: that it is for.
    :raises RayConfigurationError: these are no amounts.
    """
    numbers = [int(amount("each amount of memory", each)) for each in amounts]
    if not numbers:
        raise RayConfigurationError("memory is an empty list: name at least one amount, or None to reserve none")
    earlier, used = record.get("task_try"), record.get("memory")
    is_retry = earlier is not None and task_try["number"] > 1 and earlier["run"] == task_try["run"]
    if not is_retry or used not in numbers:
        return numbers[0]
    has_run_out = (record.get("error") or {}).get("kind") == FailureKind.OUT_OF_MEMORY
    chosen = numbers[min(numbers.index(used) + has_run_out, len(numbers) - 1)]
    if has_run_out:
        log.info("The earlier try ran out of memory with %s bytes reserved: reserving %s", f"{used:,}", f"{chosen:,}")
    return chosen
