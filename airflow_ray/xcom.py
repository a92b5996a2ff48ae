"""The XCom backend that keeps in Ray what is too large, or not made, for Airflow's database.

Airflow imports this while it is itself imported, so all else is imported where it is used.
"""

from __future__ import annotations

from contextvars import ContextVar
from functools import cache
from typing import Any

from airflow.sdk.bases.xcom import BaseXCom

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
        from airflow_ray.client.xcom_values import handed_over
        from airflow_ray.object_uri import ObjectURI

        if key and task_id and dag_id and run_id:
            value = handed_over(value, ObjectURI("any", dag_id, run_id, task_id, _index(map_index), key))
        return _inner_backend().serialize_value(
            value, key=key, task_id=task_id, dag_id=dag_id, run_id=run_id, map_index=map_index
        )

    @classmethod
    def store_value(cls, coordinate: Any, key: str, value: Any) -> Any:
        """Do the same for Airflow 3.4 and later, whose coordinate tells the iterations of a loop apart.

        :raises RayPicklingError: as :meth:`serialize_value`.
        :raises RayConnectionError: likewise.
        """
        from airflow_ray._compat import region_of, store_with
        from airflow_ray.client.xcom_values import handed_over
        from airflow_ray.object_uri import ObjectURI

        where = coordinate.dag_id, coordinate.run_id, coordinate.task_id
        xcom = ObjectURI("any", *where, key=key, region=region_of(coordinate))
        return store_with(_inner_backend(), coordinate, key, handed_over(value, xcom))

    # Of Airflow's two ways to load a value this one tells the XCom of one task from those of a mapped one;
    # ``load_value`` leads here.
    @staticmethod
    def deserialize_value(result: Any) -> Any:
        """Return the value, with the objects themselves in place of their URIs unless the running task is one of Ray.

        :raises RayObjectLostError: an object is gone; the text names the task to clear.
        """
        from airflow_ray._compat import load_with
        from airflow_ray.client.xcom_values import received

        return received(load_with(_inner_backend(), result), is_whole=hasattr(result, "key"))

    @classmethod
    def delete(cls, key: str, task_id: str, dag_id: str, run_id: str, map_index: int | None = None) -> None:
        """Delete an XCom, and free the objects in Ray that its own task has put there."""
        from airflow_ray.object_uri import ObjectURI

        uri = ObjectURI("any", dag_id, run_id, task_id, _index(map_index))
        token = _deleted_record.set(uri.record_id)
        try:
            super().delete(key=key, task_id=task_id, dag_id=dag_id, run_id=run_id, map_index=map_index)
        finally:
            _deleted_record.reset(token)

    @classmethod
    def purge(cls, xcom: Any, *args: Any) -> None:
        """Free the objects in Ray that the task of an XCom has put there; those of other tasks stay.

        Only :meth:`delete` knows that task: without it no object is freed.
        """
        from airflow_ray._compat import load_with
        from airflow_ray.client.xcom_values import release

        inner = _inner_backend()
        release(load_with(inner, xcom), _deleted_record.get())
        inner.purge(xcom, *args)


@cache
def _inner_backend() -> type[BaseXCom]:
    from airflow_ray._compat import conf
    from airflow_ray.exceptions import RayConfigurationError

    backend = conf.getimport("airflow_ray", "xcom_inner_backend", fallback=None) or BaseXCom
    if not (isinstance(backend, type) and issubclass(backend, BaseXCom)) or issubclass(backend, RayXComBackend):
        raise RayConfigurationError(
            f"[airflow_ray] xcom_inner_backend must name another XCom backend than this one, got {backend!r}"
        )
    return backend


def _index(map_index: int | None) -> int:
    return -1 if map_index is None else map_index
