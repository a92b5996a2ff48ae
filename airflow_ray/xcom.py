"""The XCom backend that keeps in Ray what is too large, or not made, for Airflow's database."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence, Sized
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any

from airflow_ray._compat import BaseXCom, conf, current_task
from airflow_ray.exceptions import RayConfigurationError, RayConnectionError
from airflow_ray.object_uri import ObjectURI, is_object_uri

if TYPE_CHECKING:
    from airflow_ray.hooks.ray import RayHook

CONN_ID = "ray_default"
THRESHOLD_BYTES = 1_000_000
# Larger containers are one object: each object costs a call to the cluster.
MAX_PARTS = 64

log = logging.getLogger(__name__)
# The record of the task whose XComs are being deleted; an XCom itself does not tell whose it is.
_deleted_record: ContextVar[str | None] = ContextVar("deleted_record", default=None)


class RayXComBackend(BaseXCom):
    """Lets plain tasks and Ray tasks hand values to each other, whatever their size and type.

    What a plain task returns goes into Airflow's database if it is JSON, or what else Airflow stores as JSON, and
    small. Tables, arrays, models and whatever else is left go into Ray's object store, and the database gets an object
    URI. In a list, tuple or dict each such part becomes an object of its own.

    A plain task that receives an object URI gets the object. An operator that runs on Ray gets the URI, and its
    callable the object, on the cluster.

    Set ``[core] xcom_backend = airflow_ray.xcom.RayXComBackend``, and in the section ``airflow_ray``: ``xcom_conn_id``
    is the connection, ``xcom_threshold`` the size of JSON in bytes up to which it goes into the database (-1 for any
    size), ``xcom_inner_backend`` another backend for what does not go to Ray.
    """

    @staticmethod
    def serialize_value(
        value: Any,
        *,
        key: str | None = None,
        task_id: str | None = None,
        dag_id: str | None = None,
        run_id: str | None = None,
        map_index: int | None = None,
    ) -> Any:
        """Return what the database stores for ``value``, as JSON; the rest is in Ray.

        :raises RayPicklingError: a value that is for Ray cannot be pickled.
        :raises RayConnectionError: there is a value for Ray, and the cluster does not answer.
        """
        if isinstance(value, ObjectURI):
            value = str(value)
        elif key and task_id and dag_id and run_id:
            conn_id = conf.get("airflow_ray", "xcom_conn_id", fallback=None) or CONN_ID
            uri = ObjectURI(conn_id, dag_id, run_id, task_id, -1 if map_index is None else map_index, key)
            value = _with_uris(value, uri)
        return _inner_backend().serialize_value(
            value, key=key, task_id=task_id, dag_id=dag_id, run_id=run_id, map_index=map_index
        )

    @staticmethod
    def deserialize_value(result: Any) -> Any:
        """Return the value, with the objects themselves in place of their URIs unless the running task is one of Ray.

        :raises RayObjectLostError: an object is gone; the text names the task to clear.
        """
        value = _inner_backend().deserialize_value(result)
        task = current_task()
        operator_class = getattr(task, "operator_class", type(task))
        # A mapped task that is not expanded yet is about to take one item of what a task that is not mapped returned.
        picks_item = task is not None and type(task) is not operator_class and hasattr(result, "key")
        if getattr(operator_class, "takes_object_uris", False):
            return _fetched(value) if picks_item and is_object_uri(value) else value
        return _FetchedItems(value) if picks_item and isinstance(value, list) else _with_objects(value)

    @classmethod
    def delete(cls, key: str, task_id: str, dag_id: str, run_id: str, map_index: int | None = None) -> None:
        """Delete an XCom, and free the objects in Ray that its own task has put there."""
        uri = ObjectURI(CONN_ID, dag_id, run_id, task_id, -1 if map_index is None else map_index)
        token = _deleted_record.set(uri.record_id)
        try:
            super().delete(key=key, task_id=task_id, dag_id=dag_id, run_id=run_id, map_index=map_index)
        finally:
            _deleted_record.reset(token)

    @classmethod
    def purge(cls, xcom: Any, *args: Any) -> None:
        """Free the objects in Ray that the task of an XCom has put there; those of other tasks stay."""
        inner = _inner_backend()
        for uri in _uris_in(inner.deserialize_value(xcom)):
            if _is_own(uri, xcom.key):
                _release(uri)
        inner.purge(xcom, *args)


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


@cache
def _inner_backend() -> type[BaseXCom]:
    backend = conf.getimport("airflow_ray", "xcom_inner_backend", fallback=None) or BaseXCom
    if not (isinstance(backend, type) and issubclass(backend, BaseXCom)) or issubclass(backend, RayXComBackend):
        raise RayConfigurationError(
            f"[airflow_ray] xcom_inner_backend must name another XCom backend than this one, got {backend!r}"
        )
    return backend


def _with_uris(value: Any, uri: ObjectURI) -> Any:
    """Return ``value`` with object URIs in place of what does not belong in the database."""
    if _is_for_database(value):
        return value
    if type(value) is dict and len(value) <= MAX_PARTS and all(isinstance(name, str) for name in value):
        return {name: _with_uris(part, _part_of(uri, name)) for name, part in value.items()}
    if type(value) in (list, tuple) and len(value) <= MAX_PARTS:
        return type(value)(_with_uris(part, _part_of(uri, number)) for number, part in enumerate(value))
    return _pushed.uri_of(value, uri.record_id) or _put(value, uri)


def _part_of(uri: ObjectURI, name: str | int) -> ObjectURI:
    return uri.with_key(f"{uri.key}.{name}")


def _is_for_database(value: Any) -> bool:
    """Whether Airflow stores ``value`` as JSON of moderate size; that it stores tables too, as text, does not count."""
    threshold = conf.getint("airflow_ray", "xcom_threshold", fallback=THRESHOLD_BYTES)
    is_long = isinstance(value, Sized) and 0 <= threshold < len(value)
    if is_long or _holds_tables(value):
        return False
    try:
        serialized = json.dumps(BaseXCom.serialize_value(value))
    # A type that Airflow does not know, or one with such inside.
    except (TypeError, ValueError, AttributeError, RecursionError):
        return False
    return threshold < 0 or len(serialized) <= threshold


def _holds_tables(value: Any) -> bool:
    from airflow_ray.cluster.inner_objects import is_table

    if type(value) is dict:
        return any(map(_holds_tables, value.values()))
    return any(map(_holds_tables, value)) if type(value) in (list, tuple) else is_table(value)


def _put(value: Any, uri: ObjectURI) -> str:
    from airflow_ray.hooks import kept_connection

    kept_connection.call(uri.conn_id, lambda hook: hook.put(value, uri=uri))
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
    from airflow_ray.hooks import kept_connection

    uri = ObjectURI.parse(value)
    return kept_connection.call(uri.conn_id, lambda hook: hook.get(uri))


def _uris_in(value: Any) -> Iterator[ObjectURI]:
    if is_object_uri(value):
        yield ObjectURI.parse(value)
    elif type(value) in (dict, list, tuple):
        for part in value.values() if type(value) is dict else value:
            yield from _uris_in(part)


def _is_own(uri: ObjectURI, key: str) -> bool:
    """Whether the task that has pushed ``uri`` has put the object there too, and does not pass on another task's."""
    record_id = _deleted_record.get()
    if record_id is None:
        return f"{uri.key}.".startswith(f"{key}.")
    return uri.record_id == record_id


def _release(uri: ObjectURI) -> None:
    from airflow_ray.hooks import kept_connection

    def release(hook: RayHook) -> None:
        for freed in hook.release(uri):
            log.info("Released %s", freed)

    try:
        kept_connection.call(uri.conn_id, release)
    # The task can run all the same. What is left is in the way of nothing, and goes when the task puts something there.
    except RayConnectionError as error:
        log.warning("%s could not be released: %s", uri, error)
