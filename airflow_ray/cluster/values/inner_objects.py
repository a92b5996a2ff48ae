"""Values with Ray objects of their own inside, as a Modin frame has its partitions.

Such an object lives as long as the process that made it, and that process may be any worker: the next task there that
is killed would take the partitions of an earlier one with it. So a value with objects inside is taken apart where it
was made, the owner makes copies of the objects, which it owns, and puts the value together again around them.
"""

from __future__ import annotations

import io
import pickle
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.values.cloudpickles import of_process
from airflow_ray.cluster.values.kinds import DATASET, MODIN_FRAMES, is_table, kinds_of
from airflow_ray.cluster.values.pickler import Unpickler, pickler_class
from airflow_ray.cluster.values.slices import as_shown

if TYPE_CHECKING:
    from collections.abc import Iterator


# The pickle, with a number for each object, and what it leaves outside. A class would have to travel with it.
TakenApart = tuple[bytes, list[pickle.PickleBuffer]]


def take_apart(value: Any) -> tuple[TakenApart, list[Any]] | None:
    """Return ``value`` without the Ray objects inside it, and their refs; None where there are none.

    :raises Exception: whatever a class raises that cannot be pickled.
    """
    if _holds_only_tables(value):
        return None
    file = io.BytesIO()
    buffers: list[pickle.PickleBuffer] = []
    with as_shown():
        pickler = pickler_without_objects(file, buffer_callback=buffers.append)
        pickler.dump(value)
    refs = list(pickler.numbers)
    return ((file.getvalue(), buffers), refs) if refs else None


def pickler_without_objects(file: Any, for_file: bool = False, **options: Any) -> Any:
    """Return a pickler that puts a number in place of each Ray object; its ``numbers`` tell which ref has which.

    :param file: what it writes to.
    :param for_file: for what is kept, and may be read where there is no Ray; the handle of an actor inside raises
        TypeError.
    :param options: of :class:`pickle.Pickler`.
    """
    cloudpickle = of_process()
    # A process without Ray has nothing of Ray's.
    ray = sys.modules.get("ray")
    object_ref, actor_handle = (ray.ObjectRef, ray.actor.ActorHandle) if ray is not None else ((), ())
    base: Any = pickler_class(cloudpickle) if for_file else cloudpickle.CloudPickler

    class Pickler(base):  # type: ignore[misc]  # it is one of two
        def __init__(self) -> None:
            super().__init__(file, protocol=5, **options)
            self.numbers: dict[Any, int] = {}

        def persistent_id(self, part: Any) -> int | None:
            if for_file and isinstance(part, actor_handle):
                raise TypeError(f"it holds {part}, and an actor cannot be kept in a file")
            return self.numbers.setdefault(part, len(self.numbers)) if isinstance(part, object_ref) else None

    return Pickler()


def unpickle_around(file: Any, refs: list[Any], **options: Any) -> Any:
    """Return what a :func:`pickler_without_objects` wrote, with ``refs`` inside it.

    :param file: what to read.
    :param options: of :class:`pickle.Unpickler`.
    """

    class AroundRefs(Unpickler):
        def persistent_load(self, number: int) -> Any:
            return refs[number]

    return AroundRefs(file, **options).load()


def value_around(apart: TakenApart, refs: list[Any]) -> Iterator[Any]:
    """Yield the value that was taken apart, and then True; as a task of the owner's.

    The second output tells the owner that the task succeeded, without a look at the first.
    """
    pickled, buffers = apart
    value = unpickle_around(io.BytesIO(pickled), refs, buffers=buffers)
    with as_shown():
        yield value
        yield True


def collected(value: Any) -> Any:
    """Return ``value`` with frames of pandas in place of those that need a cluster to be looked at.

    A Ray Client cannot work with a Dataset, and not with a Modin frame once it has disconnected.
    """
    kinds = set(kinds_of(value))
    if MODIN_FRAMES & kinds:
        return value._to_pandas()
    if DATASET in kinds:
        return value.to_pandas()
    if type(value) is dict:
        return {key: collected(part) for key, part in value.items()}
    return type(value)(map(collected, value)) if type(value) in (list, tuple) else value


def _holds_only_tables(value: Any) -> bool:
    if type(value) is dict:
        return all(map(is_table, value.values()))
    return all(map(is_table, value)) if type(value) in (list, tuple) else is_table(value)


def without_objects(value: Any) -> tuple[Any, list[Any]]:
    """Return ``value`` taken apart and the refs of the Ray objects inside it, or as it is and no refs.

    What cannot be pickled is left for Ray to say so.
    """
    with suppress(Exception):
        return take_apart(value) or (value, [])
    return value, []
