"""Imports of the user's own modules on a worker that does not have their files."""

from __future__ import annotations

import importlib.util
import sys
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType


class _SourceFinder(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Imports modules from source text that came with the task.

    :param sources: module name to file name and source text.
    """

    def __init__(self, sources: dict[str, tuple[str, str]]) -> None:
        self._sources = sources

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._sources:
            inner = any(name.startswith(f"{fullname}.") for name in self._sources)
            return ModuleSpec(fullname, None, is_package=True) if inner else None
        filename = self._sources[fullname][0]
        return importlib.util.spec_from_loader(
            fullname, self, origin=filename, is_package=filename.endswith("__init__.py")
        )

    def get_source(self, fullname: str) -> str:
        return self._sources[fullname][1]

    def exec_module(self, module: ModuleType) -> None:
        filename, source = self._sources[module.__name__]
        module.__file__ = filename
        exec(compile(source, filename, "exec"), module.__dict__)


@contextmanager
def importable(sources: dict[str, tuple[str, str]]) -> Iterator[None]:
    """Make ``sources`` importable for as long as one callable runs.

    What was imported is forgotten afterwards: the next task on this worker may bring another
    version, and values of these classes then travel by value to readers that lack the module.
    """
    finder = _SourceFinder(sources)
    hidden = {name: sys.modules.pop(name) for name in sources if name in sys.modules}
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in sources:
            sys.modules.pop(name, None)
        sys.modules.update(hidden)
