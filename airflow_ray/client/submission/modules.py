"""The user's own modules: those of the DAG's folder, which the cluster does not have."""

from __future__ import annotations

import ast
import functools
import inspect
import os
import sys
import sysconfig
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import ModuleType


_STDLIB = sysconfig.get_path("stdlib")


_PACKAGE = __name__.partition(".")[0]


# Names of loaded modules that are: nearly all of them, and there may be thousands.
_installed: set[str] = set()


# Python 3.11 and 3.12 may raise SystemError where two threads make syntax trees at once (CPython issue 106905).
_parsing_lock = threading.Lock()


def modules_around(value: Any) -> list[ModuleType]:
    """Return the loaded modules of the folder that the class of ``value`` comes from, unless it is installed."""
    return local_modules(own_folder(type(value)))


def local_modules(folders: Iterable[str]) -> list[ModuleType]:
    """Return the loaded modules of ``folders``."""
    prefixes = tuple(f"{folder}/" for folder in folders)
    loaded = [(name, module) for name, module in list(sys.modules.items()) if name not in _installed]
    return [module for name, module in loaded if _is_local(name, module, prefixes)]


def unwrap(function: Callable[..., Any]) -> Any:
    """Return the function or class that ``function`` is around, or the class of a callable object."""
    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(function)
    if inspect.isroutine(function) or inspect.isclass(function):
        return function
    return type(function)


def own_folder(function: Callable[..., Any]) -> list[str]:
    """Return the folder of the module that ``function`` is of, in a list, unless it is installed."""
    module = sys.modules.get(getattr(unwrap(function), "__module__", None) or "")
    filename = getattr(module, "__file__", None)
    return [os.path.dirname(filename)] if filename and not _is_installed(filename) else []


def _is_installed(filename: str) -> bool:
    return "/site-packages/" in filename or "/dist-packages/" in filename or filename.startswith(_STDLIB)


def _is_local(loaded_as: str, module: ModuleType, prefixes: tuple[str, ...]) -> bool:
    filename = getattr(module, "__file__", None) or ""
    if _is_installed(filename):
        _installed.add(loaded_as)
        return False
    if not filename.startswith(prefixes):
        return False
    name = module.__name__
    return name != "__main__" and name.partition(".")[0] != _PACKAGE


def sources_of(modules: Iterable[ModuleType], folders: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return the source of ``modules`` and of the modules of ``folders`` that they import while they run."""
    sources: dict[str, tuple[str, str]] = {}
    waiting = [(module.__name__, str(module.__file__)) for module in modules]
    while waiting:
        name, filename = waiting.pop()
        if name in sources or not filename.endswith(".py"):
            continue
        source = Path(filename).read_text(encoding="utf-8", errors="replace")
        sources[name] = filename, source
        for imported in _imported_names(source, name):
            waiting += _located(imported, folders)
    return sources


@functools.lru_cache(maxsize=256)
def _imported_names(source: str, module: str) -> tuple[str, ...]:
    """Return what a module imports; kept, as a process that submits often sends the same modules each time."""
    return tuple(dict.fromkeys(_names_in_imports(source, module)))


def _names_in_imports(source: str, module: str) -> Iterator[str]:
    try:
        with _parsing_lock:
            tree = ast.parse(source)
    except SyntaxError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*parent, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _located(name: str, folders: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield name and file of a module of ``folders`` and of the packages around it."""
    parts = name.split(".")
    if not parts[0]:
        return
    for folder in folders:
        for end in range(1, len(parts) + 1):
            base = os.path.join(folder, *parts[:end])
            if os.path.isfile(f"{base}.py"):
                yield ".".join(parts[:end]), f"{base}.py"
            # Most of what a module imports is not in its folder, and neither is what that holds.
            if not os.path.isdir(base):
                break
            if os.path.isfile(f"{base}/__init__.py"):
                yield ".".join(parts[:end]), f"{base}/__init__.py"
