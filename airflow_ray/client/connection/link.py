"""A connection to the cluster that an Airflow connection names, whatever the way in."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from airflow_ray.client.connection import local_head
from airflow_ray.client.connection.as_client import client_session
from airflow_ray.client.connection.as_driver import driver_session
from airflow_ray.client.connection.authentication import Authentication

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_ray.client.connection.session import Session
    from airflow_ray.client.connection.settings import RaySettings


@contextmanager
def open_session(settings: RaySettings) -> Iterator[Session]:
    """Connect as an Airflow connection says.

    :raises RayConnectionError: as :meth:`airflow_ray.hooks.ray.RayHook.connect`.
    """
    namespace, timeout = settings.namespace, settings.connect_timeout
    with ExitStack() as stack:
        if settings.mode == "client":
            opened = client_session(settings.address, settings.authentication, namespace, timeout)
        elif settings.mode == "driver":
            opened = driver_session(settings.address, settings.authentication, namespace, timeout)
        else:
            head = local_head.ensure(timeout)
            opened = driver_session(head.address, Authentication(local_head.token()), namespace, timeout)
        yield stack.enter_context(opened)
