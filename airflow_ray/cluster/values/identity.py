"""Classes of the user's own modules: the same class in every process, whoever pickled it.

Ray's pickler gives a class that it copies a random id in each process, and by that id a process knows the class again.
Here the id is made from what the class is, so that two processes with the same code come to the same one.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
from enum import Enum
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType


# Kinds of attributes that are code. The rest is data, which may have been changed while the process ran.
_CODE = (
    type(lambda: None),
    classmethod,
    staticmethod,
    property,
    functools.cached_property,
    functools.partialmethod,
    functools.singledispatchmethod,
)


# The function of Ray's pickler that fills a class that it has copied.
FILLER = ("ray.cloudpickle.cloudpickle", "_class_setstate")


def place_of(name: str, filename: str) -> str:
    """Return where a module is within the folder that it was imported from, the same on each machine.

    Airflow loads a DAG file under a name that depends on its full path.
    """
    path = filename.removesuffix(".py").removesuffix("/__init__")
    named = name.replace(".", "/")
    if path.endswith(f"/{named}"):
        return named
    roots = [folder for folder in map(_with_slash, sys.path) if path.startswith(folder)]
    return path.removeprefix(max(roots, key=len)) if roots else os.path.basename(path)


def own_classes(module: ModuleType) -> Iterator[type]:
    """Yield the classes that are found in their module under their own name, each before those inside it."""
    for name, value in list(vars(module).items()):
        if is_own_class(module.__name__, name, value):
            yield value
            yield from inner_classes(value)


def is_own_class(module: str, name: str, value: Any) -> bool:
    """Return whether ``value`` is the class that a module has under that name, and not one from elsewhere."""
    # The classes of a metaclass with an ``__eq__`` of its own may have no hash, which all bookkeeping needs.
    if not issubclass(type(value), type) or type(value).__hash__ is None:
        return False
    return getattr(value, "__module__", None) == module and value.__qualname__ == name


def inner_classes(cls: type) -> Iterator[type]:
    """Yield the classes that are defined inside a class."""
    for name, value in list(vars(cls).items()):
        if is_own_class(cls.__module__, f"{cls.__qualname__}.{name}", value):
            yield value
            yield from inner_classes(value)


def id_of(cls: type, place: str, code: str) -> str:
    """Return the id of a class, which changes with the code that its module runs and with the ids of its bases.

    :param place: of its module, as :func:`place_of` returns it.
    :param code: a digest of the source of the module, and of the user's modules that it imports: a method runs theirs.
    """
    parts = [place, code, cls.__qualname__, *map(_base_id, (*cls.__bases__, type(cls)))]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{len(part)}:{part}".encode(errors="surrogatepass"))
    return digest.hexdigest()


def known_class(class_id: str) -> type | None:
    """Return the class that this process knows by an id."""
    from ray.cloudpickle import cloudpickle

    known: type | None = cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID.get(class_id)
    return known


def track(cls: type, class_id: str) -> None:
    """Let this process know a class by an id."""
    from ray.cloudpickle import cloudpickle

    with cloudpickle._DYNAMIC_CLASS_TRACKER_LOCK:
        cloudpickle._DYNAMIC_CLASS_TRACKER_BY_CLASS[cls] = class_id
        cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID[class_id] = cls
    whole_classes().add(cls)


def whole_classes() -> WeakSet[type]:
    """Return the classes that stay as they are when they are unpickled; from the first call on, a known one does.

    Ray's pickler would fill it again, with what its attributes were where it was pickled.
    """
    from ray.cloudpickle import cloudpickle

    fill = cloudpickle._class_setstate
    if hasattr(fill, "whole"):
        whole: WeakSet[type] = fill.whole
        return whole
    whole = WeakSet(list(cloudpickle._DYNAMIC_CLASS_TRACKER_BY_CLASS))
    # A class that this process pickled itself comes back under its id too, and was never empty.
    empty: WeakSet[type] = WeakSet()

    # The names of those that they replace are what a pickle has.
    @functools.wraps(fill)
    def fill_once(cls: type, state: Any) -> type:
        if cls in empty:
            fill(cls, state)
            empty.discard(cls)
            whole.add(cls)
        return cls

    fill_once.whole, fill_once.empty = whole, empty  # type: ignore[attr-defined]
    fill_once.find_module = None  # type: ignore[attr-defined]
    cloudpickle._class_setstate = fill_once
    for name, module_in in (("_make_skeleton_class", _module_of_class), ("_make_skeleton_enum", _module_of_enum)):
        setattr(cloudpickle, name, _unless_known(getattr(cloudpickle, name), module_in))
    return whole


def look_for_classes(find_module: Callable[[str], None]) -> None:
    """Look for a class that is not known when it is unpickled.

    :param find_module: takes the name of its module, and may import that and track what is in it.
    """
    from ray.cloudpickle import cloudpickle

    whole_classes()
    cloudpickle._class_setstate.find_module = find_module


def fill_anew(cls: type, state: Any) -> type:
    """Fill a class, also one that is whole; in place of :data:`FILLER` where a piece of work begins.

    It begins with its classes as they were, and with what their code refers to, in the process that sent it.
    """
    from ray.cloudpickle import cloudpickle

    fill = cloudpickle._class_setstate
    whole_classes().add(cls)
    cloudpickle._class_setstate.empty.discard(cls)
    if issubclass(cls, Enum):
        attributes, slots = state
        # A member is never assigned again.
        state = {name: value for name, value in attributes.items() if name not in cls.__members__}, slots
    getattr(fill, "__wrapped__", fill)(cls, state)
    return cls


def adopt_code(known: type, fresh: type) -> None:
    """Give a class the code of another one, which was made of the same source just now, and of those inside it."""
    for name, value in list(vars(fresh).items()):
        # What is around a function says so, as functools.lru_cache does.
        if isinstance(value, _CODE) or hasattr(value, "__wrapped__"):
            for function in _functions_in(value):
                _point_at(function, fresh, known)
            setattr(known, name, value)
    for inner in inner_classes(fresh):
        counterpart = vars(known).get(inner.__name__)
        if isinstance(counterpart, type):
            adopt_code(counterpart, inner)


def _with_slash(folder: str) -> str:
    return f"{os.path.abspath(folder).rstrip('/')}/"


def _base_id(base: type) -> str:
    from ray.cloudpickle import cloudpickle

    known: str | None = cloudpickle._DYNAMIC_CLASS_TRACKER_BY_CLASS.get(base)
    return known or f"{base.__module__}.{base.__qualname__}"


def _unless_known(make: Callable[..., type], module_in: Callable[..., str]) -> Callable[..., type]:
    """Return a function that makes a class of Ray's pickler, unless the class of that id is there already.

    The one that it would make and drop would be seen by the ``__init_subclass__`` of its bases.
    """
    from ray.cloudpickle import cloudpickle

    @functools.wraps(make)
    def known_or_new(*args: Any) -> type:
        class_id = args[-2]
        find_module = cloudpickle._class_setstate.find_module
        if find_module is not None and known_class(class_id) is None:
            find_module(module_in(*args))
        known = known_class(class_id)
        if known is None:
            known = make(*args)
            cloudpickle._class_setstate.empty.add(known)
        return known

    return known_or_new


def _module_of_class(_kind: type, _name: str, _bases: Any, attributes: dict[str, Any], *_: Any) -> str:
    return str(attributes.get("__module__"))


def _module_of_enum(_bases: Any, _name: str, _qualname: str, _members: Any, module: str, *_: Any) -> str:
    return module


def _functions_in(value: Any) -> Iterator[Any]:
    """Yield the functions that an attribute of a class consists of, and those that they are around."""
    for name in ("__func__", "fget", "fset", "fdel", "func", "__wrapped__"):
        inner = getattr(value, name, None)
        if inner is not None:
            yield from _functions_in(inner)
    if hasattr(value, "__closure__"):
        yield value


def _point_at(function: Any, fresh: type, known: type) -> None:
    """Let ``super()`` and what else a function knows its class by lead to the known one."""
    for cell in function.__closure__ or ():
        try:
            if cell.cell_contents is fresh:
                cell.cell_contents = known
        # The variable has no value yet.
        except ValueError:
            continue
