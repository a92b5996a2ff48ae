"""What a record tells of its outputs, as others need it who tell of them."""

from __future__ import annotations

from typing import Any


def stored(outputs: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return those outputs of a record that are objects in the cluster.

    :param outputs: their descriptions by key.
    """
    # What comes back as a value has no size there.
    return {key: output for key, output in outputs.items() if "bytes" in output}


def shape_of(output: dict[str, Any]) -> list[int]:
    """Return the shape of what is described, its length where it has nothing more, or an empty list."""
    return output.get("shape") or ([output["length"]] if "length" in output else [])
