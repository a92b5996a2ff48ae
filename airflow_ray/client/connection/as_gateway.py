"""The way in through the gateway: from anywhere, over one port, without Ray in this process."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_ray.client.connection.gateway_session import GatewaySession, opened, peer_at
from airflow_ray.client.connection.gateway_start import ensure_started, require_token

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_ray.client.connection.settings import RaySettings


@contextmanager
def open_session(settings: RaySettings) -> Iterator[GatewaySession]:
    """Connect to the gateway of a cluster, which is started where none answers.

    :raises RayConnectionError: it did not come to that in time; the subclass and the text tell why.
    """
    require_token(settings)
    deadline = time.monotonic() + settings.connect_timeout
    peer = peer_at(settings.address, settings)
    with opened(peer, deadline, lambda: ensure_started(settings, deadline)):
        yield GatewaySession(peer)
