"""The texts that the package gives its exceptions, read from its source, so that the catalogue has all of them."""

from __future__ import annotations

import ast
from functools import cache

from airflow_ray import exceptions
from tools.source_texts import modules, named, text_of


@cache
def all_texts() -> dict[str, list[str]]:
    """Return the texts by the name of the class; what a text is filled with is an ellipsis."""
    texts: dict[str, list[str]] = {}
    for _, tree in modules():
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
