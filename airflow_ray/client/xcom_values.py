"""What becomes of the values that tasks hand over as XComs, between Airflow's database and Ray."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_ray._compat import AirflowNotFoundException, BaseXCom, conf, current_task, functions_of_maps
from airflow_ray.client import kept
from airflow_ray.client.checkpoints import XCOM_KEY as CHECKPOINT_KEY
from airflow_ray.client.checkpoints import from_gone_cluster
from airflow_ray.client.connection.link import Link
from airflow_ray.client.object_xcom import XCOM_KEY as OBJECT_KEY
from airflow_ray.client.submission.uri_policy import require_allowed
from airflow_ray.cluster.values import is_table
from airflow_ray.exceptions import AirflowRayError, RayConnectionError
from airflow_ray.object_uri import ObjectURI, is_object_uri

if TYPE_CHECKING:
    from airflow_ray.client.client import RayClient


CONN_ID = "ray_default"
THRESHOLD_BYTES = 1_000_000
# Larger containers are one object: each object costs a call to the cluster.
MAX_PARTS = 64
OF_OPERATORS = frozenset({CHECKPOINT_KEY, OBJECT_KEY})
# Of the keys under which Airflow finds where the buttons of a task lead.
LINK_PREFIX = "_link_"
log = logging.getLogger(__name__)


def handed_over(value: Any, xcom: ObjectURI) -> Any:
    """Return what a task pushes as an XCom, with object URIs in place of what goes to Ray instead of the database.

    :param xcom: the name of the XCom, whose connection does not count.
    :raises RayPicklingError: a value that is for Ray cannot be pickled.
    :raises RayConnectionError: there is a value for Ray, and the cluster does not answer.
    """
    if isinstance(value, ObjectURI):
        return str(value)
    # What operators tell Airflow, and tasks of Ray one another, is read as it stands in the database.
    if xcom.key in OF_OPERATORS or xcom.key.startswith(LINK_PREFIX):
        return value
    conn_id = conf.get("airflow_ray", "xcom_conn_id", fallback=None) or CONN_ID
    return _with_uris(value, replace(xcom, conn_id=conn_id))


def received(value: Any, is_whole: bool) -> Any:
    """Return what the running task gets for an XCom: the objects in place of their URIs, unless it runs on Ray.

    :param is_whole: whether this is the XCom of one task, not one of the XComs of a mapped task.
    :raises RayObjectLostError: an object is gone; the text names the task to clear.
    """
    task = current_task()
    operator_class = getattr(task, "operator_class", type(task))
    # A mapped task that is not expanded yet is about to take one item of what another task has returned.
    picks_item = is_whole and task is not None and type(task) is not operator_class
    if getattr(operator_class, "takes_object_uris", False):
        _let_maps_get_objects(task)
        return _fetched(value) if picks_item and is_object_uri(value) else value
    return _FetchedItems(value) if picks_item and isinstance(value, list) else _with_objects(value)


def _let_maps_get_objects(task: Any) -> None:
    """Let the functions of each ``.map(…)``, which run here, get objects: the arguments themselves stay URIs."""
    for functions in functions_of_maps(task):
        # Each function gets what the one before returns. The list is that of the DAG, and another task may share it.
        if not isinstance(functions[0], _OfObjects):
            functions[0] = _OfObjects(functions[0])


class _OfObjects:
    """A function of one argument that gets objects in place of their URIs."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function
        functools.update_wrapper(self, function)

    def __call__(self, item: Any) -> Any:
        return self._function(_with_objects(item))


def release(value: Any, record_id: str | None) -> None:
    """Free the objects in Ray that the task of an XCom has put there itself.

    :param value: what the database has.
    :param record_id: of the task. None frees nothing: whoever may write XComs can name any object.
    """
    for text in _uris_in(value):
        # Whatever it is, the task can run again: what is left is in the way of nothing, and goes when that puts
        # something there.
        try:
            uri = require_allowed(ObjectURI.parse(text))
            # Others it has passed on.
            if uri.record_id == record_id:
                _release(uri)
            elif record_id is None:
                log.warning("%s stays: it is not known whether the task of this XCom has made it", uri)
        except (AirflowRayError, AirflowNotFoundException) as error:
            log.warning("%r could not be released: %s", text, error)


class _FetchedItems(Sequence[Any]):
    """A list of which each item is fetched when it is asked for."""

    def __init__(self, items: list[Any]) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: Any) -> Any:
        return _with_objects(self._items[index])


class _Pushed:
    """The objects of the task that has ended: Airflow pushes each of several outputs by itself, and then all in one."""

    def __init__(self) -> None:
        self._record_id = ""
        self._uris: dict[int, tuple[Any, str]] = {}

    def uri_of(self, value: Any, record_id: str) -> str | None:
        """Return under which URI this very value is in Ray, if it is."""
        return self._uris[id(value)][1] if record_id == self._record_id and id(value) in self._uris else None

    def note(self, value: Any, uri: ObjectURI) -> None:
        """Take note of where ``value`` is. While a task runs, it may still change it."""
        if uri.record_id != self._record_id:
            self._record_id, self._uris = uri.record_id, {}
        if current_task() is None:
            self._uris[id(value)] = value, str(uri)


_pushed = _Pushed()


def _with_uris(value: Any, uri: ObjectURI) -> Any:
    """Return ``value`` with object URIs in place of what does not belong in the database."""
    if _is_for_database(value) or _is_of_uris(value):
        return value
    if _goes_in_parts(value):
        if type(value) is dict:
            return {name: _with_uris(part, _part_of(uri, name)) for name, part in value.items()}
        return type(value)(_with_uris(part, _part_of(uri, number)) for number, part in enumerate(value))
    return _pushed.uri_of(value, uri.record_id) or _put(value, uri)


def _goes_in_parts(value: Any) -> bool:
    """Whether some parts of ``value`` belong in Ray, and the rest of it in the database."""
    if type(value) not in (dict, list, tuple) or len(value) > MAX_PARTS:
        return False
    if type(value) is dict:
        # Some keys would not come back.
        return _is_for_database(dict.fromkeys(value)) and not all(map(_is_for_database, value.values()))
    return not all(map(_is_for_database, value))


def _is_of_uris(value: Any) -> bool:
    """Whether ``value`` is in Ray already, however long the text is that tells where."""
    if type(value) is dict:
        # Other keys would not come back.
        return all(type(key) is str for key in value) and _is_of_uris(list(value.values()))
    return all(map(_is_of_uris, value)) if type(value) in (list, tuple) and value else is_object_uri(value)


def _part_of(uri: ObjectURI, name: str | int) -> ObjectURI:
    # A name may have dots of its own, and a part of a part must not get the key of another.
    own = str(name).replace("%", "%25").replace(".", "%2E")
    return uri.with_key(f"{uri.key}.{own}")


def _is_for_database(value: Any) -> bool:
    """Whether Airflow stores ``value`` as JSON of moderate size, and gives it back as it was.

    That it stores tables too, as text, does not count.
    """
    threshold: int = conf.getint("airflow_ray", "xcom_threshold", fallback=THRESHOLD_BYTES)
    is_long = isinstance(value, Sized) and 0 <= threshold < len(value)
    if is_long or _holds_tables(value):
        return False
    # A type that Airflow does not know or may not read, or one with such inside; a class of the user's raises anything.
    try:
        text = json.dumps(BaseXCom.serialize_value(value), allow_nan=False, ensure_ascii=False)
        if 0 <= threshold < len(text.encode()):
            return False
        stored = _Stored(json.loads(text, parse_int=_sendable))
        return _is_same(value, BaseXCom.deserialize_value(stored))
    except Exception:
        return False


class _Stored(NamedTuple):
    """As much of an XCom as Airflow asks of it to read its value."""

    value: Any


def _sendable(digits: str) -> int:
    """Return a whole number, if it is none of those that an Airflow worker cannot send."""
    number = int(digits)
    if not -(2**63) <= number < 2**64:
        raise OverflowError(f"{digits} has more than 64 bits")
    return number


def _is_same(value: Any, other: Any) -> bool:
    """Whether two values are equal and of the same types."""
    if type(value) is not type(other):
        return False
    if isinstance(value, dict):
        return len(value) == len(other) and all(map(_is_same, value.items(), other.items()))
    if isinstance(value, (list, tuple)):
        return len(value) == len(other) and all(map(_is_same, value, other))
    return bool(value == other)


def _holds_tables(value: Any) -> bool:
    if type(value) is dict:
        return any(map(_holds_tables, value.values()))
    return any(map(_holds_tables, value)) if type(value) in (list, tuple) else is_table(value)


def _put(value: Any, uri: ObjectURI) -> str:
    kept.call(uri, lambda client: client.put(value, uri=uri))
    log.info("In Ray's object store as %s", uri)
    _pushed.note(value, uri)
    return str(uri)


def _with_objects(value: Any) -> Any:
    """Return ``value`` with the objects in place of their URIs, however nested."""
    if is_object_uri(value):
        return _fetched(value)
    if type(value) is dict:
        return {name: _with_objects(part) for name, part in value.items()}
    return type(value)(map(_with_objects, value)) if type(value) in (list, tuple) else value


def _fetched(value: str) -> Any:
    uri = require_allowed(ObjectURI.parse(value))
    try:
        return kept.call(uri, lambda client: client.get_there(uri))
    except RayConnectionError as error:
        return from_gone_cluster(Link(*uri.run), uri, error)


def _uris_in(value: Any) -> Iterator[str]:
    if is_object_uri(value):
        yield value
    elif type(value) in (dict, list, tuple):
        for part in value.values() if type(value) is dict else value:
            yield from _uris_in(part)


def _release(uri: ObjectURI) -> None:
    def release(client: RayClient) -> None:
        # What a task of Ray has made stays: Airflow may have lost its success, and its retry takes it, or replaces it.
        if client.describe(uri).get("task_id") is not None:
            return
        for freed in client.release(uri):
            log.info("Released %s", freed)

    kept.call(uri, release)
