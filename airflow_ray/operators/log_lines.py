"""What the log of a task shows of its work on the cluster."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol

from airflow_ray.client.remote_lines import with_methods
from airflow_ray.client.used import used_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_ray.client.progress import Progress


class Logger(Protocol):
    """As much of the logger of a task as is needed here; Airflow has one of its own."""

    def info(self, message: Any, /, *args: Any) -> Any:
        """Show a line."""

    def warning(self, message: Any, /, *args: Any) -> Any:
        """Show a line that stands out."""

    def error(self, message: Any, /, *args: Any) -> Any:
        """Show what has failed."""

    def critical(self, message: Any, /, *args: Any) -> Any:
        """Show what has failed for good."""


def show_progress(log: Logger, news: Iterable[Progress], fetch_logs: bool) -> Progress:
    """Show what the work writes and waits for until it has ended, and return the last news of it.

    :param log: of the task.
    :param news: of the work, one at least.
    :param fetch_logs: whether what the work writes is shown.
    """
    detail = None
    for progress in news:
        if fetch_logs:
            _show_lines(log, progress)
        if progress.detail and progress.detail != detail:
            log.info("Waiting for %s", progress.detail)
        detail = progress.detail
    return progress


def _show_lines(log: Logger, progress: Progress) -> None:
    if progress.skipped:
        log.warning("%d lines of output were dropped before they could be read", progress.skipped)
    for line, show in with_methods(log, progress.lines, progress.levels):
        show(line)


def show_spilling(log: Logger, spilled_bytes: int) -> None:
    """Warn of objects that went to disk while the task ran."""
    if spilled_bytes:
        log.warning(
            "The object store of the Ray cluster was full: %s bytes were spilled to disk while this task ran, from "
            "where they are read again more slowly. Release what is no longer needed, for example with "
            "RayReleaseOperator or object_ttl in the connection, or give the nodes a larger store.",
            f"{spilled_bytes:,}",
        )


def show_result(log: Logger, output: dict[str, Any], record: dict[str, Any], uri: str | None) -> None:
    """Show what came out of the work, in which time, and where it is.

    :param log: of the task.
    :param output: one of the outputs of the record.
    :param record: of the work.
    :param uri: of the output, unless that is returned as a value.
    """
    size = f"{output['bytes']:,} bytes" if "bytes" in output else "as JSON"
    log.info("Result: %s%s, %s, %.3f s", output["type"], _size(output), size, record["seconds"])
    # A line of its own: whoever copies it needs no more than a double click.
    if uri is not None:
        log.info(uri)


def _size(output: dict[str, Any]) -> str:
    if "shape" in output:
        return f" of shape {tuple(output['shape'])}"
    return f" of length {output['length']}" if "length" in output else ""


def show_used(log: Logger, record: dict[str, Any]) -> None:
    """Show what the work has used of what it had reserved, where that is known."""
    if text := used_text(record):
        log.info(text)


def show_sources(log: Logger, inputs: list[dict[str, str]]) -> None:
    """Show how many inputs came from the store, from Ray's lineage and from checkpoints."""
    counts = Counter(each["source"] for each in inputs)
    if counts:
        log.info("Inputs: %s", ", ".join(f"{count} from the {source}" for source, count in counts.items()))


def show_checkpoint(log: Logger, checkpoint: dict[str, Any] | None) -> None:
    """Show where the checkpoint of an output lies and how long it took, or why there is none."""
    if checkpoint is None:
        return
    if error := checkpoint.get("error"):
        log.warning("No checkpoint was written at %s: %s", error["where"], error["message"])
        return
    note = f", {checkpoint['note']}" if checkpoint["note"] else ""
    log.info(
        "Checkpoint: %s, %s bytes in %d files in %.1f s%s: %s",
        checkpoint["format"],
        f"{checkpoint['bytes']:,}",
        checkpoint["files"],
        checkpoint["seconds"],
        note,
        checkpoint["path"],
    )
