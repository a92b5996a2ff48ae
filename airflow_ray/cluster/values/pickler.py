"""Pickling for a process that may have another cloudpickle than this one, or no Ray at all, and unpickling there."""

from __future__ import annotations

import io
import pickle
import re
import sys
from collections import ChainMap
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.values.cloudpickles import NAMES, of_process
from airflow_ray.cluster.values.slices import reducers_of_slices

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

PROTOCOL = 5
# Release 2 of numpy has given it the name with the line. There the other one gives warnings, and before that only a few
# modules have this one.
_CORE_OF_NUMPY = re.compile(r"numpy\._?core((?:\..+)?)")


class Unpickler(pickle.Unpickler):
    """Reads what either cloudpickle has written, with the one that this process has, and arrays of any numpy."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what a pickle names."""
        return super().find_class(_name_here(module), name)


def unpickler(file: Any, buffers: Iterable[Any] | None = None) -> Unpickler:
    """Return what reads a pickle that either cloudpickle has written.

    :param file: what to read.
    :param buffers: those that the pickle leaves outside.
    """
    return Unpickler(file, buffers=buffers)


def loads(pickled: bytes) -> Any:
    """Return the value of a pickle that either cloudpickle has written."""
    return unpickler(io.BytesIO(pickled)).load()


def pickler(file: Any, buffer_callback: Any = None, cloudpickle: ModuleType | None = None) -> Any:
    """Return what writes a pickle for a process that may have no Ray; see :func:`pickler_class`.

    :param file: what it writes to.
    :param buffer_callback: as for :class:`pickle.Pickler`.
    :param cloudpickle: what pickles; None for that of this process.
    """
    return pickler_class(cloudpickle or of_process())(file, protocol=PROTOCOL, buffer_callback=buffer_callback)


def dumps(value: Any, cloudpickle: ModuleType | None = None) -> bytes:
    """Return a pickle for a process that may have no Ray; see :func:`pickler`."""
    file = io.BytesIO()
    pickler(file, cloudpickle=cloudpickle).dump(value)
    return file.getvalue()


def pickler_class(cloudpickle: ModuleType) -> Any:
    """Return a pickler whose pickles name no function of Ray's but those of its cloudpickle.

    Ray takes Arrow tables, tensors and more to pieces in its own way, which Ray alone can put together. Of a slice it
    takes the part that is shown.
    """
    registered, *others = cloudpickle.CloudPickler.dispatch_table.maps
    kept = {kind: reduce for kind, reduce in registered.items() if not _is_of_ray(reduce)}
    # Not in the body of the class: of the names there, cloudpickle takes none along to the cluster.
    table = ChainMap({**kept, **reducers_of_slices(None), **_refused()}, *others)

    class Pickler(cloudpickle.CloudPickler):  # type: ignore[misc, name-defined]  # a module that is found by its name
        dispatch_table = table

    return Pickler


def _name_here(module: str) -> str:
    """Return by which name this process has a module that a pickle names."""
    if module in NAMES:
        return of_process().__name__
    found = _CORE_OF_NUMPY.fullmatch(module)
    if found is None:
        return module
    import numpy as np

    return f"numpy.{'core' if np.__version__.startswith('1.') else '_core'}{found[1]}"


def _refused() -> dict[Any, Any]:
    """Return what refuses handles of Ray's, which are of use on the cluster alone."""
    ray = sys.modules.get("ray")
    return {} if ray is None else dict.fromkeys((ray.ObjectRef, ray.actor.ActorHandle), _refuse)


def _refuse(handle: Any) -> Any:
    raise TypeError(
        f"it holds a handle of Ray's, {handle!r}, which is of use in processes of the cluster alone: hand over the "
        "value itself"
    )


def _is_of_ray(reduce: Any) -> bool:
    module = str(getattr(reduce, "__module__", ""))
    return module.startswith("ray.") and module not in NAMES
