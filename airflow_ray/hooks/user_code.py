"""Pickling of the user's callable with its arguments and with the modules that the cluster lacks."""

from __future__ import annotations

import ast
import copy
import functools
import inspect
import io
import os
import sys
import sysconfig
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.tuning import search as search
from airflow_ray.exceptions import ObjectURIError, RayPicklingError
from airflow_ray.object_uri import ObjectURI, is_object_uri

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import ModuleType

_STDLIB = sysconfig.get_path("stdlib")
_PACKAGE = __name__.partition(".")[0]
# Names of loaded modules that are: nearly all of them, and there may be thousands.
_installed: set[str] = set()
_pickling_lock = threading.RLock()
# Python 3.11 and 3.12 may raise SystemError where two threads make syntax trees at once (CPython issue 106905).
_parsing_lock = threading.Lock()


@dataclass(frozen=True)
class Payload:
    """A call, ready to be sent.

    :param pickled: ``(callable, args, kwargs)``, with numbers in place of the inputs.
    :param inputs: the object URI for each number.
    :param sources: module name to file name and source text of the user's own modules.
    """

    pickled: bytes
    inputs: list[ObjectURI]
    sources: dict[str, tuple[str, str]]


@dataclass(frozen=True)
class _InputSlot:
    """Stands in the arguments for the object of that number."""

    number: int


def _pickler(file: io.BytesIO) -> Any:
    from ray import cloudpickle

    class PayloadPickler(cloudpickle.CloudPickler):  # type: ignore[misc]  # ray's cloudpickle has no types
        def persistent_id(self, value: Any) -> int | str | None:
            if isinstance(value, _InputSlot):
                return value.number
            # The runner has its own.
            return search.__name__ if value is search else None

    return PayloadPickler(file)


def pack(
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: dict[str, Any],
    code_folders: Iterable[str] = (),
) -> Payload:
    """Pickle a call so that it runs on a cluster that has neither the DAG file nor its helper modules.

    :param args: positional arguments; object URIs in them, however nested, become inputs.
    :param code_folders: folders whose modules the cluster does not have, besides the callable's own.
    :raises ObjectURIError: an argument holds a malformed object URI; the message names the argument.
    :raises RayPicklingError: the callable or an argument cannot be pickled.
    """
    inputs: list[ObjectURI] = []
    slotted_args = [_with_slots(arg, inputs, f"op_args[{i}]") for i, arg in enumerate(args)]
    slotted_kwargs = {name: _with_slots(arg, inputs, f"op_kwargs[{name!r}]") for name, arg in kwargs.items()}
    folders = [*own_folder(function), *code_folders]
    modules = _local_modules(folders)
    file = io.BytesIO()
    with pickled_by_value(modules):
        try:
            _pickler(file).dump((function, slotted_args, slotted_kwargs))
        # What a user's __reduce__ raises is anything.
        except Exception as error:
            raise RayPicklingError(_explain(function, args, kwargs, error)) from error
    return Payload(file.getvalue(), inputs, _sources(modules, folders))


@contextmanager
def pickled_by_value(modules: Iterable[ModuleType]) -> Iterator[None]:
    """Make Ray's pickler copy what belongs to ``modules`` instead of naming it."""
    from ray import cloudpickle

    with _pickling_lock, ExitStack() as stack:
        for module in modules:
            if module.__name__ not in cloudpickle.list_registry_pickle_by_value():
                cloudpickle.register_pickle_by_value(module)
                stack.callback(cloudpickle.unregister_pickle_by_value, module)
        yield


def modules_around(value: Any) -> list[ModuleType]:
    """Return the loaded modules of the folder that the class of ``value`` comes from, unless it is installed."""
    return _local_modules(own_folder(type(value)))


def _local_modules(folders: Iterable[str]) -> list[ModuleType]:
    prefixes = tuple(f"{folder}/" for folder in folders)
    loaded = [(name, module) for name, module in list(sys.modules.items()) if name not in _installed]
    return [module for name, module in loaded if _is_local(name, module, prefixes)]


def _with_slots(value: Any, inputs: list[ObjectURI], where: str) -> Any:
    """Return ``value`` with a slot for each object URI, which is appended to ``inputs``."""
    if is_object_uri(value) or isinstance(value, ObjectURI):
        try:
            uri = ObjectURI.parse(str(value))
        except ObjectURIError as error:
            raise ObjectURIError(f"Argument {where}: {error}") from error
        if uri not in inputs:
            inputs.append(uri)
        return _InputSlot(inputs.index(uri))
    if isinstance(value, dict):
        items = {key: _with_slots(item, inputs, f"{where}[{key!r}]") for key, item in value.items()}
        changed = any(items[key] is not value[key] for key in items)
        return _updated(value, items) if changed else value
    if isinstance(value, (list, tuple, set, frozenset)):
        parts = [_with_slots(item, inputs, f"{where}[{i}]") for i, item in enumerate(value)]
        changed = any(new is not old for new, old in zip(parts, value, strict=True))
        return _rebuilt(value, parts) if changed else value
    return value


def _updated(value: dict[Any, Any], items: dict[Any, Any]) -> dict[Any, Any]:
    """Return a copy of ``value``, of whatever kind of dict it is, with other items."""
    updated = copy.copy(value)
    updated.update(items)
    return updated


def _rebuilt(value: Any, parts: list[Any]) -> Any:
    return value._make(parts) if hasattr(value, "_make") else type(value)(parts)


def _unwrapped(function: Callable[..., Any]) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(function)
    if inspect.isroutine(function) or inspect.isclass(function):
        return function
    return type(function)


def own_folder(function: Callable[..., Any]) -> list[str]:
    """Return the folder of the module that ``function`` is of, in a list, unless it is installed."""
    module = sys.modules.get(getattr(_unwrapped(function), "__module__", None) or "")
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


def _sources(modules: Iterable[ModuleType], folders: Iterable[str]) -> dict[str, tuple[str, str]]:
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


def _explain(function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], error: Exception) -> str:
    """Return which part of a call cannot be pickled, and why."""
    arguments = [(f"op_args[{i}]", arg) for i, arg in enumerate(args)]
    arguments += [(f"op_kwargs[{name!r}]", arg) for name, arg in kwargs.items()]
    for name, argument in arguments:
        if reason := _reason_not_picklable(argument):
            return (
                f"Argument {name} of type {type(argument).__name__} cannot be pickled, so it cannot be sent to "
                f"the Ray cluster: {reason}. Pass plain data and create such objects inside the callable."
            )
    name = getattr(function, "__qualname__", repr(function))
    culprits = [
        f"{name!r} ({type(value).__name__})" for name, value in _referenced(function) if _reason_not_picklable(value)
    ]
    refers = f" It refers to {', '.join(culprits)}, which cannot be pickled." if culprits else ""
    return (
        f"The callable {name} cannot be pickled, so it cannot be sent to the Ray cluster: {error}.{refers} "
        "Create locks, sockets, connections and generators inside the callable."
    )


def _referenced(function: Callable[..., Any]) -> list[tuple[str, Any]]:
    plain = _unwrapped(function)
    if not inspect.isfunction(plain):
        return []
    variables = inspect.getclosurevars(plain)
    return [*variables.nonlocals.items(), *variables.globals.items()]


def _reason_not_picklable(value: Any) -> str | None:
    from ray import cloudpickle

    try:
        cloudpickle.dumps(value)
    except Exception as error:
        return str(error)
    return None
