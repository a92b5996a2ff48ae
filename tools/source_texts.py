"""The texts that stand in the source of the package, such as those of errors and log lines."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(__file__).parent.parent / "airflow_ray"


def modules() -> Iterator[tuple[Path, ast.Module]]:
    """Yield the files of the package, and what they say."""
    for file in sorted(PACKAGE.rglob("*.py")):
        yield file, ast.parse(file.read_text())


def named(node: ast.AST) -> str:
    """Return the last name of what is called or named, or nothing."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def text_of(node: ast.AST) -> str:
    """Return a text of the source, with an ellipsis for each part that is not written there."""
    if isinstance(node, ast.Constant):
        return in_braces(node.value) if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return text_of(node.left) + text_of(node.right)
    return ""


def in_braces(text: str) -> str:
    """Return a text of the table without its fields, and with single braces where they were doubled."""
    parts, depth = [], 0
    for part in text.replace("{{", "\0").replace("}}", "\1"):
        depth += (part == "{") - (part == "}")
        if part == "{":
            parts.append("…")
        elif not depth and part != "}":
            parts.append(part)
    return "".join(parts).replace("\0", "{").replace("\1", "}")
