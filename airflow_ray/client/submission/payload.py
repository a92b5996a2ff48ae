"""Pickling of the user's callable with its arguments and with the modules that the cluster lacks."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_ray.client.by_value import pickle_by_value
from airflow_ray.client.submission.explanation import explanation
from airflow_ray.client.submission.modules import local_modules, own_folder, sources_of
from airflow_ray.client.submission.plain import with_items, with_parts
from airflow_ray.cluster.tuning.search import search as search
from airflow_ray.cluster.values.cloudpickles import of_airflow
from airflow_ray.cluster.values.pickler import PROTOCOL, pickler_class
from airflow_ray.exceptions import ObjectURIError, RayPicklingError
from airflow_ray.object_uri import ObjectURI, is_object_uri

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from airflow_ray.cluster.protocol import Sources


@dataclass(frozen=True)
class Payload:
    """A call, ready to be sent.

    :param pickled: ``(callable, args, kwargs)``, with numbers in place of the inputs.
    :param inputs: the object URI for each number.
    :param sources: module name to file name and source text of the user's own modules.
    """

    pickled: bytes
    inputs: list[ObjectURI]
    sources: Sources


@dataclass(frozen=True)
class _InputSlot:
    """Stands in the arguments for the object of that number."""

    number: int


def _pickler(file: io.BytesIO) -> Any:
    class PayloadPickler(pickler_class(of_airflow())):  # type: ignore[misc]  # a class that is made here
        def persistent_id(self, value: Any) -> int | str | None:
            if isinstance(value, _InputSlot):
                return value.number
            # The runner has its own.
            return search.__name__ if value is search else None

    return PayloadPickler(file, PROTOCOL)


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
    modules = local_modules(folders)
    file = io.BytesIO()
    with pickle_by_value(modules):
        try:
            _pickler(file).dump((function, slotted_args, slotted_kwargs))
        # What a user's __reduce__ raises is anything.
        except Exception as error:
            raise RayPicklingError(explanation(function, args, kwargs, error)) from error
    return Payload(file.getvalue(), inputs, sources_of(modules, folders))


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
        return with_items(value, {key: _with_slots(item, inputs, f"{where}[{key!r}]") for key, item in value.items()})
    if isinstance(value, (list, tuple, set, frozenset)):
        return with_parts(value, [_with_slots(item, inputs, f"{where}[{i}]") for i, item in enumerate(value)])
    return value
