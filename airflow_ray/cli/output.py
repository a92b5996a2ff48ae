"""How objects and records are shown."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_ray.client.doctor import quantity, readable_bytes, readable_seconds
from airflow_ray.client.used import used_text
from airflow_ray.object_uri import ObjectURI

if TYPE_CHECKING:
    from collections.abc import Iterator

# A table wider than the terminal wraps there, and its URIs can still be copied as a whole.
MAX_WIDTH = 10_000

# Control characters, and those that change the direction of text.
_CONTROLS = (*range(9), *range(11, 32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_SHOWN = {code: ascii(chr(code))[1:-1] for code in _CONTROLS}


def printable(text: str) -> str:
    """Return a text of the cluster's as it may be sent to a terminal, which it cannot make do anything."""
    return text.translate(_SHOWN)


def say(text: str = "") -> None:
    """Print a line at once, with its control characters shown."""
    print(printable(text), flush=True)


def show(data: Any, output: str, readable: list[dict[str, str]]) -> None:
    """Print ``data`` as ``json`` or ``yaml``, or what is readable of it as a ``table`` or ``plain``."""
    from airflow.cli.simple_table import AirflowConsole
    from rich.markup import escape

    console = AirflowConsole()
    console.width = MAX_WIDTH
    readable = [{name: printable(text) for name, text in row.items()} for row in readable]
    if output == "json":
        console.print_as_json(data)
    elif output == "yaml":
        console.print_as_yaml(data)
    elif output == "plain":
        console.print_as_plain_table(readable)
    else:
        console.print_as_table([{name: escape(text) for name, text in row.items()} for row in readable])


def object_row(entry: dict[str, Any]) -> dict[str, str]:
    """Return a row of the list of objects."""
    size = "" if entry["bytes"] is None else readable_bytes(entry["bytes"])
    return {
        "uri": entry["uri"],
        "state": entry["state"],
        "type": entry["type"] or "",
        "rows": _count(entry["rows"]),
        "columns": _count(entry["columns"]),
        "bytes": f"{size} (spilled)" if entry["spilled"] else size,
        "node": entry["node"] or "",
        "age": readable_seconds(entry["age"]),
        "checkpoint": entry["checkpoint"] or "",
    }


def record_rows(uri: ObjectURI, record: dict[str, Any]) -> list[dict[str, str]]:
    """Return the lines of the description of a record."""
    return [{"field": field, "value": value} for field, value in _description(uri, record)]


def summary(output: dict[str, Any]) -> str:
    """Return one line about an output of a record."""
    return ", ".join(_output_parts(output))


def _description(uri: ObjectURI, record: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "uri", str(uri)
    yield "state", record["state"]
    yield from _course(record)
    for each in record["inputs"]:
        input_uri = ObjectURI.of_record(uri.conn_id, each["record_id"], each["key"])
        yield "input", f"{input_uri}, from the {each['source']}"
    for key, output in record["outputs"].items():
        yield f"output {key}", summary(output) + (", lost" if key in record["lost"] else "")
    if error := record["error"]:
        yield "error", f"{error.get('type', error['kind'])}: {error.get('message', '')}"
    yield "log lines", _count(record["log_lines"])


def _course(record: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name in ("submitted_at", "started_at", "finished_at"):
        if record[name] is not None:
            yield name.removesuffix("_at"), _moment(record[name])
    if record["seconds"] is not None:
        yield "ran for", readable_seconds(record["seconds"])
    if text := used_text(record):
        yield "used", text
    for name in ("node", "pid", "detail"):
        if record[name] is not None:
            yield name, str(record[name])


def _output_parts(output: dict[str, Any]) -> Iterator[str]:
    yield output["type"]
    if shape := output.get("shape"):
        yield f"shape {' x '.join(map(_count, shape))}"
    if "length" in output:
        yield quantity(output["length"], "item")
    if output.get("bytes") is not None:
        yield readable_bytes(output["bytes"])
    if path := (output.get("checkpoint") or {}).get("path"):
        yield f"checkpoint {path}"


def _moment(timestamp: float) -> str:
    moment = datetime.fromtimestamp(timestamp).astimezone()
    return f"{moment:%Y-%m-%d %H:%M:%S %Z}, {readable_seconds(time.time() - timestamp)} ago"


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"
