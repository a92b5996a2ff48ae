"""Classes of the user's own modules: the same class in every process, whoever pickled it.

Cloudpickle gives a class that it copies a random id in each process, and by that id a process knows the class again.
Here the id is made from what the class is, so that two processes with the same code come to the same one. A process
that has both PyPI's cloudpickle and Ray's knows its classes in both of them.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
from enum import Enum
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from airflow_ray.cluster.values.cloudpickles import in_use, of_process

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


# The function of cloudpickle that fills a class that it has copied.
FILLER = "_class_setstate"
# Where it keeps which classes it knows by which ids.
_BY_CLASS, _BY_ID, _LOCK = (f"_DYNAMIC_CLASS_TRACKER_{name}" for name in ("BY_CLASS", "BY_ID", "LOCK"))
# What is kept with it.
_KNOWN = "_known_by_airflow_ray"


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
    known: type | None = _known().by_id.get(class_id)
    return known


def track(cls: type, class_id: str) -> None:
    """Let this process know a class by an id."""
    known = _known()
    with known.lock:
        known.by_class[cls] = class_id
        known.by_id[class_id] = cls
    known.whole.add(cls)


def whole_classes() -> WeakSet[type]:
    """Return the classes that stay as they are when they are unpickled; from the first call on, a known one does.

    Cloudpickle would fill it again, with what its attributes were where it was pickled.
    """
    return _known().whole


def look_for_classes(find_module: Callable[[str], None]) -> None:
    """Look for a class that is not known when it is unpickled.

    :param find_module: takes the name of its module, and may import that and track what is in it.
    """
    _known().find_module = find_module


def fill_anew(cls: type, state: Any) -> type:
    """Fill a class, also one that is whole; in place of :data:`FILLER` where a piece of work begins.

    It begins with its classes as they were, and with what their code refers to, in the process that sent it.
    """
    known = _known()
    known.whole.add(cls)
    known.empty.discard(cls)
    if issubclass(cls, Enum):
        attributes, slots = state
        # A member is never assigned again.
        state = {name: value for name, value in attributes.items() if name not in cls.__members__}, slots
    getattr(of_process(), FILLER).__wrapped__(cls, state)
    return cls


class _Known:
    """Which classes this process knows, whichever cloudpickle has read them.

    :param cloudpickle: whose tables are those of all.

    ``whole`` are those that stay as they are, ``empty`` those that were made and are yet to be filled. One that this
    process pickled itself comes back under its id too, and was never empty.
    """

    def __init__(self, cloudpickle: ModuleType) -> None:
        self.lock = getattr(cloudpickle, _LOCK)
        self.by_class = getattr(cloudpickle, _BY_CLASS)
        self.by_id = getattr(cloudpickle, _BY_ID)
        self.whole: WeakSet[type] = WeakSet(list(self.by_class))
        self.empty: WeakSet[type] = WeakSet()
        self.find_module: Callable[[str], None] | None = None

    def take(self, cloudpickle: ModuleType) -> None:
        """Take the classes that another cloudpickle knows, and let it know all by the same ids."""
        for cls, class_id in list(getattr(cloudpickle, _BY_CLASS).items()):
            # Pickles of that one have its id for the class.
            self.by_id.setdefault(class_id, cls)
            self.by_class.setdefault(cls, class_id)
            self.whole.add(cls)
        for name, shared in ((_BY_CLASS, self.by_class), (_BY_ID, self.by_id), (_LOCK, self.lock)):
            setattr(cloudpickle, name, shared)


def _known() -> _Known:
    """Return the classes that this process knows, in each cloudpickle that it uses."""
    used = in_use()
    # With the modules that they belong to: what is kept in a variable would travel to the cluster.
    found = [vars(each)[_KNOWN] for each in used if _KNOWN in vars(each)]
    known: _Known = found[0] if found else vars(used[0]).setdefault(_KNOWN, _Known(used[0]))
    for cloudpickle in used if len(found) < len(used) else ():
        _share(known, cloudpickle)
    return known


def _share(known: _Known, cloudpickle: ModuleType) -> None:
    """Let a cloudpickle know these classes, and leave them as they are."""
    with known.lock:
        if getattr(cloudpickle, _BY_ID) is not known.by_id:
            with getattr(cloudpickle, _LOCK):
                known.take(cloudpickle)
        if not hasattr(getattr(cloudpickle, FILLER), "known"):
            _change(cloudpickle, known)
        setattr(cloudpickle, _KNOWN, known)


def _change(cloudpickle: ModuleType, known: _Known) -> None:
    """Let a cloudpickle leave the classes that are known as they are."""
    fill = getattr(cloudpickle, FILLER)

    # The names of those that they replace are what a pickle has.
    @functools.wraps(fill)
    def fill_once(cls: type, state: Any) -> type:
        if cls in known.empty:
            fill(cls, state)
            known.empty.discard(cls)
            known.whole.add(cls)
        return cls

    fill_once.known = known  # type: ignore[attr-defined]
    setattr(cloudpickle, FILLER, fill_once)
    for name, module_in in (("_make_skeleton_class", _module_of_class), ("_make_skeleton_enum", _module_of_enum)):
        setattr(cloudpickle, name, _unless_known(getattr(cloudpickle, name), module_in, known))


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
    known: str | None = _known().by_class.get(base)
    return known or f"{base.__module__}.{base.__qualname__}"


def _unless_known(make: Callable[..., type], module_in: Callable[..., str], known: _Known) -> Callable[..., type]:
    """Return a function that makes a class of cloudpickle's, unless the class of that id is there already.

    The one that it would make and drop would be seen by the ``__init_subclass__`` of its bases.
    """

    @functools.wraps(make)
    def known_or_new(*args: Any) -> type:
        class_id = args[-2]
        if known.find_module is not None and class_id not in known.by_id:
            known.find_module(module_in(*args))
        cls: type | None = known.by_id.get(class_id)
        if cls is None:
            cls = make(*args)
            known.empty.add(cls)
        return cls

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
