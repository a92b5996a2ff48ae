"""A warning where a callable asks for what only a task of Airflow knows: on the cluster there is none to ask."""

from __future__ import annotations

import functools
import importlib.abc
import importlib.util
import logging
import os
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

# What is asked, by the module of Airflow's that has it: the class that it belongs to, if any, its name, and with which
# prefix a variable of the environment answers it.
_ASKED: dict[str, tuple[str | None, str, str]] = {
    "airflow.sdk.definitions.variable": ("Variable", "get", "AIRFLOW_VAR_"),
    "airflow.models.variable": ("Variable", "get", "AIRFLOW_VAR_"),
    "airflow.sdk.definitions.connection": ("Connection", "get", "AIRFLOW_CONN_"),
    "airflow.sdk.bases.hook": ("BaseHook", "get_connection", "AIRFLOW_CONN_"),
    "airflow.sdk.definitions.context": (None, "get_current_context", ""),
}
_REMEDIES = {
    "AIRFLOW_VAR_": "pass the value as an argument, with a template such as '{{ var.value.name }}'",
    "AIRFLOW_CONN_": "pass what it needs of the connection with a template, secrets in the env_vars of its runtime_env",
    "": "name the plain variables of the context, such as ds or run_id, as parameters",
}

log = logging.getLogger("airflow_ray")


@contextmanager
def warn_of_airflow_calls() -> Iterator[None]:
    """Warn once of each thing that is asked while this is entered, also by modules that are imported meanwhile."""
    told: set[str] = set()
    with ExitStack() as undo:
        finder = _Finder(lambda module: _let_warn(module, told, undo))
        sys.meta_path.insert(0, finder)
        undo.callback(sys.meta_path.remove, finder)
        for name in _ASKED:
            if getattr(sys.modules.get(name), "__name__", None) == name:
                _let_warn(sys.modules[name], told, undo)
        yield


def _let_warn(module: ModuleType, told: set[str], undo: ExitStack) -> None:
    """Have what is asked of a module warn, until ``undo`` ends."""
    owner_name, name, prefix = _ASKED[module.__name__]
    owner = getattr(module, owner_name, None) if owner_name else module
    original = getattr(owner, "__dict__", {}).get(name)
    # What an earlier task has put there in its place, or another release of Airflow, may lack it.
    if original is None:
        return
    function = getattr(original, "__func__", original)

    @functools.wraps(function)
    def warning(*args: Any, **kwargs: Any) -> Any:
        # A class method gets its class first.
        asked = [*args[1 if owner_name else 0 :], *(kwargs[each] for each in ("key", "conn_id") if each in kwargs)][:1]
        if not asked or f"{prefix}{asked[0]}".upper() not in os.environ:
            _warn(prefix, f"{owner_name}.{name}" if owner_name else name, asked, told)
        return function(*args, **kwargs)

    setattr(owner, name, warning if function is original else type(original)(warning))
    undo.callback(setattr, owner, name, original)


def _warn(prefix: str, name: str, asked: list[Any], told: set[str]) -> None:
    # One asks the other.
    key = f"{prefix}{asked}"
    if key not in told:
        told.add(key)
        log.warning(
            "The callable calls %s(%s). On the Ray cluster there is no Airflow to ask: what Airflow has of it is not "
            "found, and a default is taken in its place. Instead, %s.",
            *(name, ", ".join(map(repr, asked)), _REMEDIES[prefix]),
        )


class _Finder(importlib.abc.MetaPathFinder):
    """Calls a function with each of the modules in question when it has been imported."""

    def __init__(self, imported: Callable[[ModuleType], None]) -> None:
        self._imported = imported
        self._looking_for: set[str] = set()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _ASKED or fullname in self._looking_for:
            return None
        # The other finders are asked in turn, and this one again.
        self._looking_for.add(fullname)
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._looking_for.remove(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._imported)
        return spec


class _Loader(importlib.abc.Loader):
    def __init__(self, loader: Any, imported: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._imported = imported

    def __getattr__(self, name: str) -> Any:
        # Also the source of the module, for tracebacks.
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._imported(module)
