"""The texts that the package gives its exceptions, read from its source, so that the catalogue has all of them."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import airflow_ray
from airflow_ray import exceptions

PACKAGE = Path(airflow_ray.__file__).parent


@cache
def all_texts() -> dict[str, list[str]]:
    """Return the texts by the name of the class; what a text is filled with is an ellipsis."""
    texts: dict[str, list[str]] = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(file.read_text())
        functions = {each.name: each for each in tree.body if isinstance(each, ast.FunctionDef)}
        for call in ast.walk(tree):
            if not isinstance(call, ast.Call):
                continue
            name, arguments = named(call.func), call.args
            if name.startswith("_") and arguments and is_exception(named(arguments[0])):
                # A row of the table of what the cluster tells; what makes several rows has a part of their text.
                parts = [each for each in ast.walk(functions.get(name, ast.Pass())) if isinstance(each, ast.Call)]
                name, arguments = named(arguments[0]), [*(a for each in parts for a in each.args), *arguments[1:]]
            text = " ".join(text_of(argument).strip() for argument in arguments if text_of(argument).strip(" …"))
            if is_exception(name) and text:
                texts.setdefault(name, []).append(" ".join(text.split()))
    return {name: list(dict.fromkeys(found)) for name, found in texts.items()}


def is_exception(name: str) -> bool:
    """Return whether a name is that of an exception of this package."""
    return isinstance(getattr(exceptions, name, None), type) and name.endswith("Error")


def named(node: ast.AST) -> str:
    """Return the last name of what is called or named, or nothing."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def text_of(node: ast.AST) -> str:
    """Return a text of the source, with an ellipsis for each part that is not written there."""
    if isinstance(node, ast.Constant):
        return in_braces(node.value) if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
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
