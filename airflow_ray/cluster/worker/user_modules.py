"""Imports of the user's own modules on a worker that does not have their files."""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
from collections import UserDict
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.values.cloudpickles import of_process
from airflow_ray.cluster.values.identity import (
    adopt_code,
    id_of,
    inner_classes,
    is_own_class,
    known_class,
    place_of,
    track,
    whole_classes,
)
from airflow_ray.cluster.values.portable import make_portable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType

    from airflow_ray.cluster.protocol import Sources


class _SourceFinder(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Imports modules from source text that came with the task.

    :param sources: module name to file name and source text.
    """

    def __init__(self, sources: Sources) -> None:
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
        filename, source, digest = self._sources[module.__name__]
        module.__file__ = filename
        # Without dont_inherit its annotations would be texts, as they are in this file.
        code = compile(source, filename, "exec", dont_inherit=True)
        exec(code, module.__dict__, _Names(module, filename, digest))
        # What the callable itself puts into the store, or sends to other tasks, is read where there is no such module.
        of_process().register_pickle_by_value(module)


class _Names(UserDict[str, Any]):
    """The names of a module while its source is run, each class among them the one that is known here already.

    It may have come with an input, before the callable imported its module.

    :param module: whose names they are.
    :param filename: where its source came from.
    :param digest: of the code that it runs.
    """

    def __init__(self, module: ModuleType, filename: str, digest: str) -> None:
        super().__init__()
        self.data = vars(module)
        self._module = module.__name__
        self._place = place_of(self._module, filename)
        self._digest = digest
        self._new: set[str] = set()

    def __setitem__(self, name: str, value: Any) -> None:
        self.data[name] = self._class(value) if is_own_class(self._module, name, value) else value

    def _class(self, cls: type) -> type:
        class_id = id_of(cls, self._place, self._digest)
        known = known_class(class_id)
        # A module may replace a class that it has just made, by a decorated one for example.
        if known is None or class_id in self._new:
            self._new.add(class_id)
            track(cls, class_id)
            for inner in inner_classes(cls):
                track(inner, id_of(inner, self._place, self._digest))
            return cls
        adopt_code(known, cls)
        return known


@contextmanager
def importable(sources: Sources) -> Iterator[None]:
    """Make ``sources`` importable for as long as one callable runs.

    What was imported is forgotten afterwards: the next task on this worker may bring another
    version, and values of these classes then travel by value to readers that lack the module. The
    classes themselves stay known as long as something is of them.
    """
    whole_classes()
    make_portable()
    finder = _SourceFinder(sources)
    hidden = {name: sys.modules.pop(name) for name in sources if name in sys.modules}
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in sources:
            _forget(name)
        sys.modules.update(hidden)


def _forget(name: str) -> None:
    # A module may have put something else in its place, of which Ray's own function knows nothing.
    sys.modules.pop(name, None)
    of_process()._PICKLE_BY_VALUE_MODULES.discard(name)
