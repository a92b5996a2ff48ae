"""Chunks of bytes as Arrow Flight moves them: batches of one column of bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.messages import unpacked

if TYPE_CHECKING:
    from collections.abc import Iterator

# What the gateway says to a client that waits to send a value: there is room for it.
MAY_SEND = b"send"


def schema() -> Any:
    """Return the schema of all streams."""
    import pyarrow as pa

    return pa.schema([("bytes", pa.uint8())])


def batch_of(chunk: Any) -> Any:
    """Return a batch with the bytes of a buffer, which is not copied."""
    import pyarrow as pa

    array = pa.Array.from_buffers(pa.uint8(), len(chunk), [None, pa.py_buffer(chunk)])
    return pa.record_batch([array], schema=schema())


def chunk_of(batch: Any) -> Any:
    """Return the bytes of a batch as a buffer.

    :raises ValueError: it is none of :func:`batch_of`.
    """
    if batch.schema != schema() or batch.column(0).null_count:
        raise ValueError("A value was sent in batches of another schema")
    column = batch.column(0)
    return memoryview(column.buffers()[1] or b"")[column.offset : column.offset + len(column)]


def chunks_of(reader: Any) -> Iterator[Any]:
    """Yield the chunks that a reader of Flight's reads, as they come."""
    for part in reader:
        # The last word of a sender may come without bytes.
        if part.data is not None:
            yield chunk_of(part.data)


def error_of(failure: Any) -> dict[str, Any] | None:
    """Return what the gateway tells of a failure, as plain data; None where it tells nothing.

    :param failure: an exception of Flight's.
    """
    try:
        told = unpacked(failure.extra_info)
    except ValueError:
        return None
    return told if isinstance(told, dict) and "kind" in told else None
