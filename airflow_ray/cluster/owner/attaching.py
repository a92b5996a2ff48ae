"""Whether a try of a task may go on with what an earlier one has begun or made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_ray.cluster.protocol import State

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_ray.cluster.owner.record import Record
    from airflow_ray.cluster.protocol import TaskTry


def why_not(
    record: Record,
    fingerprint: str | None,
    task_try: TaskTry | None,
    holder: str | None,
    editions: Mapping[str, str],
) -> str | None:
    """Return why this try does not go on with the work that is there, or None where it does.

    Work that is done is the result of this try too only if it would be made of the same: nothing of its run was cleared
    in between, and no input is another one by now. One that is gone is none. A try that asks once more, since its
    connection broke before the answer came, goes on with what it has.

    :param fingerprint: of the work of this try.
    :param task_try: of which task; None for work that is of none, which only the fingerprint tells.
    :param holder: who asks; each try of a task has a name of its own.
    :param editions: those of the inputs by now, by record id, as far as they are there.
    """
    is_again = holder is not None and holder == record.holder and task_try == record.task_try
    if not (is_again or _follows(task_try, record.task_try)):
        return "the task was cleared, or its run made again"
    if fingerprint is None or fingerprint != record.fingerprint:
        return "the function, its modules, an argument or an option has changed"
    if not record.finished:
        return None
    if record.state != State.SUCCEEDED:
        return "it did not succeed"
    if record.lost:
        return "its result is lost"
    if any(editions.get(name, then) != then for name, then in record.input_editions.items()):
        return "an input is another object by now"
    return None if is_again or _is_uncleared(task_try, record.task_try) else "something of its run was cleared"


def _follows(task_try: TaskTry | None, earlier: TaskTry | None) -> bool:
    """Whether ``task_try`` is a later try of the same task in the same run."""
    if task_try is None or earlier is None:
        return task_try is earlier
    # A first one has none before it, whatever is there under its name: of a run that was deleted, or of a trial.
    is_retry = task_try["number"] > 1 and task_try["number"] > earlier["number"]
    return is_retry and task_try["run"] == earlier["run"]


def _is_uncleared(task_try: TaskTry | None, earlier: TaskTry | None) -> bool:
    if task_try is None or earlier is None:
        return True
    return task_try["clearings"] is not None and task_try["clearings"] == earlier["clearings"]
