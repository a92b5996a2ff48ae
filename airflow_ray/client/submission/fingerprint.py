"""Whether two tries of a task would do the same: the callable and its helpers, the arguments, the options."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Iterator, Mapping, Set
from typing import TYPE_CHECKING, Any

from airflow_ray.client.by_value import pickle_by_value
from airflow_ray.client.submission.explanation import explanation
from airflow_ray.client.submission.modules import local_modules, own_folder, sources_of
from airflow_ray.cluster.values.cloudpickles import of_airflow
from airflow_ray.cluster.values.pickler import dumps
from airflow_ray.exceptions import RayPicklingError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import CodeType

    from airflow_ray.client.submission.options import RemoteOptions
    from airflow_ray.cluster.protocol import Sources


_ATOMS = (str, bytes, int, float, complex, bool, type(None))


def fingerprint(
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: dict[str, Any],
    sources: Sources,
    options: RemoteOptions,
    generation: str,
) -> str:
    """Return a SHA-256 that is the same in each process for the same work.

    A pickle of the whole would not be: it follows the order of sets and which equal texts are one object.

    :param sources: module name to file name and source text of the user's own modules; a changed comment counts.
    :param generation: tells work that is to be done again from a new try of the same.
    """
    return _digest([function, args, kwargs, _texts(sources), dict(options), generation])


def experiment_name(code: Callable[..., Any], arguments: Sequence[Any], folders: Sequence[str], generation: str) -> str:
    """Return a name for the state of a search: the same for each try that may go on with it.

    :param code: what is searched with.
    :param arguments: what else must be the same.
    :param folders: those with modules that the cluster lacks, besides the code's own.
    :param generation: as for :func:`fingerprint`.
    :raises RayPicklingError: the code or an argument cannot be pickled.
    """
    all_folders = [*own_folder(code), *folders]
    sources = sources_of(local_modules(all_folders), all_folders)
    # Not packed for it: that is done once, when the search is submitted.
    try:
        return f"tune-{_digest([code, arguments, _texts(sources), generation])[:16]}"
    # What a user's __reduce__ raises is anything.
    except Exception as error:
        raise RayPicklingError(explanation(code, arguments, {}, error)) from error


def _texts(sources: Sources) -> dict[str, str]:
    return {name: source for name, (_, source, _) in sources.items()}


def _digest(value: Any) -> str:
    digest = hashlib.sha256()
    for part in _parts(value):
        digest.update(f"{len(part)}:".encode() + part)
    return digest.hexdigest()


def _parts(value: Any) -> Iterator[bytes]:
    """Yield bytes that tell ``value`` from any other."""
    yield type(value).__qualname__.encode()
    if isinstance(value, _ATOMS):
        yield repr(value).encode()
    elif isinstance(value, Mapping):
        yield from _unordered(item for item in value.items())
    elif isinstance(value, Set):
        yield from _unordered(value)
    elif isinstance(value, (list, tuple)):
        yield str(len(value)).encode()
        for item in value:
            yield from _parts(item)
    else:
        yield from _callable_parts(value)


def _callable_parts(value: Any) -> Iterator[bytes]:
    if isinstance(value, functools.partial):
        yield from _parts([value.func, value.args, value.keywords])
    elif inspect.isfunction(value):
        yield from _function_parts(value)
    elif inspect.isclass(value):
        # A pickle of one that was made in a function is another one in each process.
        yield _source(value)
        yield from _parts([f"{base.__module__}.{base.__qualname__}" for base in value.__bases__])
    else:
        yield _pickled(value)


def _unordered(items: Any) -> Iterator[bytes]:
    parts = sorted(b"".join(_parts(item)) for item in items)
    yield str(len(parts)).encode()
    yield from parts


def _function_parts(function: Any) -> Iterator[bytes]:
    """Yield the source of a function with what it closes over; its module's other code is in the sources."""
    yield _source(function)
    yield from _parts([function.__defaults__, function.__kwdefaults__])
    for cell in function.__closure__ or ():
        yield from _cell_parts(cell)


def _cell_parts(cell: Any) -> Iterator[bytes]:
    try:
        value = cell.cell_contents
    # The variable has no value yet.
    except ValueError:
        value = None
    # Functions may close over each other.
    yield from [_source(value)] if inspect.isfunction(value) else _parts(value)


def _source(function: Any) -> bytes:
    name: str = function.__qualname__
    try:
        source = inspect.getsource(function).encode()
    # Made by exec, or by hand in an interpreter.
    except (OSError, TypeError):
        source = _code(function.__code__) if inspect.isfunction(function) else _pickled(function)
    return name.encode() + b" " + source


def _code(code: CodeType) -> bytes:
    constants = [_code(each) if inspect.iscode(each) else repr(each).encode() for each in code.co_consts]
    return b" ".join([code.co_code, repr(code.co_names).encode(), *constants])


def _pickled(value: Any) -> bytes:
    with pickle_by_value(()):
        return dumps(value, of_airflow())
