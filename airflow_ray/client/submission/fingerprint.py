"""Whether two tries of a task would do the same: the callable and its helpers, the arguments, the options."""

from __future__ import annotations

import functools
import hashlib
import inspect
import logging
from collections.abc import Iterable, Iterator, Mapping, Set
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


log = logging.getLogger(__name__)

_ATOMS = (str, bytes, int, float, complex, bool, type(None))


def fingerprint(
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: dict[str, Any],
    sources: Sources,
    options: RemoteOptions,
    generation: str,
) -> str | None:
    """Return a SHA-256 that is the same in each process for the same work, or None where there is none.

    A pickle of the whole would not be: it follows the order of sets and which equal texts are one object. What travels
    by its name alone, since the cluster has it too, may hold anything: then no try is told to do the same as another.

    :param sources: module name to file name and source text of the user's own modules; a changed comment counts.
    :param generation: tells work that is to be done again from a new try of the same.
    """
    try:
        return _digest([function, args, kwargs, _texts(sources), dict(options), generation])
    except Exception as error:
        log.info(
            "Each try of this task starts its work anew, since it cannot be compared with that of another: %s", error
        )
        return None


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
    for part in _Parts().of(value):
        digest.update(f"{len(part)}:".encode() + part)
    return digest.hexdigest()


class _Parts:
    """Makes bytes that tell a value from any other."""

    def __init__(self) -> None:
        # The ids of the values that contain the one that is being told.
        self._around: set[int] = set()

    def of(self, value: Any) -> Iterator[bytes]:
        """Yield the bytes of a value, which may contain itself: a function that is in what it closes over does."""
        yield type(value).__qualname__.encode()
        if isinstance(value, _ATOMS):
            yield repr(value).encode()
        elif id(value) in self._around:
            yield b"as around"
        else:
            self._around.add(id(value))
            yield from self._of_content(value)
            self._around.remove(id(value))

    def _of_content(self, value: Any) -> Iterator[bytes]:
        if isinstance(value, Mapping):
            yield from self._unordered(value.items())
        elif isinstance(value, Set):
            yield from self._unordered(value)
        elif isinstance(value, (list, tuple)):
            yield str(len(value)).encode()
            for item in value:
                yield from self.of(item)
        elif isinstance(value, functools.partial):
            yield from self.of([value.func, value.args, value.keywords])
        elif inspect.isfunction(value):
            yield from self._of_function(value)
        elif inspect.isclass(value):
            # A pickle of one that was made in a function is another one in each process.
            yield _source(value)
            yield from self.of([f"{base.__module__}.{base.__qualname__}" for base in value.__bases__])
        else:
            yield _pickled(value)

    def _unordered(self, items: Iterable[Any]) -> Iterator[bytes]:
        parts = sorted(b"".join(self.of(item)) for item in items)
        yield str(len(parts)).encode()
        yield from parts

    def _of_function(self, function: Any) -> Iterator[bytes]:
        """Yield the source of a function with what it closes over; its module's other code is in the sources."""
        yield _source(function)
        yield from self.of([function.__defaults__, function.__kwdefaults__])
        for cell in function.__closure__ or ():
            yield from self._of_cell(cell)

    def _of_cell(self, cell: Any) -> Iterator[bytes]:
        try:
            value = cell.cell_contents
        # The variable has no value yet.
        except ValueError:
            value = None
        # Functions may close over each other.
        yield from [_source(value)] if inspect.isfunction(value) else self.of(value)


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
