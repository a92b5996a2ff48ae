"""The process of the gateway: a driver of the cluster that listens for clients."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from airflow_ray.cluster.gateway.calls import Owners, greeting
from airflow_ray.cluster.gateway.guard import Tokens, limit_growth, middleware, notice_vanished_hosts
from airflow_ray.cluster.gateway.server import Desk, server
from airflow_ray.cluster.gateway.settings import GatewaySettings

# Drivers of such a namespace do not count as use of the cluster.
NAMESPACE = "_ray_internal_airflow_ray_gateway"


def serve(settings: dict[str, Any], control_service: str, release: str) -> None:
    """Become the gateway of this head, and return when it is told to end.

    :param settings: the fields of :class:`~airflow_ray.cluster.gateway.settings.GatewaySettings`.
    :param control_service: host and port of the cluster's.
    :param release: of this package.
    :raises OSError: the port is taken.
    """
    import ray
    from pyarrow import flight

    place = GatewaySettings(**settings)
    ended = threading.Event()
    threading.Thread(target=_end_with_parent, args=(ended,), daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    ray.init(control_service, namespace=NAMESPACE, log_to_driver=False, configure_logging=False)
    desk = Desk(Owners(), place, control_service, release)
    with ExitStack() as stack:
        place.socket.unlink(missing_ok=True)
        # The folder keeps all others of this machine away.
        stack.callback(server(desk, flight.Location.for_grpc_unix(str(place.socket))).shutdown)
        if place.host is not None:
            stack.callback(_listen(desk, place).shutdown)
            notice_vanished_hosts(place.port)
        limit_growth(lambda: os._exit(1))
        _note(place, release)
        ended.wait()
        # Calls that wait would hold up the end for as long as they do: their clients come again.
        os._exit(0)


def _listen(desk: Desk, place: GatewaySettings) -> Any:
    from pyarrow import flight

    location, options = flight.Location.for_grpc_tcp(place.host, place.port), {}
    if os.environ.get("RAY_USE_TLS", "").lower() in ("1", "true"):
        location, options = flight.Location.for_grpc_tls(place.host, place.port), _tls()
    return server(desk, location, middleware=middleware(Tokens(place.tokens)), **options)


def _tls() -> dict[str, Any]:
    """Return what makes a server use the cluster's own certificates, and ask its clients for theirs."""
    names = ("RAY_TLS_SERVER_CERT", "RAY_TLS_SERVER_KEY", "RAY_TLS_CA_CERT")
    cert, key, ca = (Path(os.environ[name]).read_bytes() if os.environ.get(name) else None for name in names)
    options: dict[str, Any] = {"tls_certificates": [(cert, key)]}
    return {**options, "verify_client": True, "root_certificates": ca} if ca else options


def _note(place: GatewaySettings, release: str) -> None:
    """Write down that this gateway takes connections."""
    told = greeting(release)
    note = {name: told[name] for name in ("release", "messages", "oldest_messages")}
    note |= {"pid": os.getpid(), "host": place.host, "port": place.port}
    new = place.note.with_suffix(".new")
    new.write_text(json.dumps(note))
    new.replace(place.note)


def _end_with_parent(ended: threading.Event) -> None:
    sys.stdin.buffer.read()
    ended.set()
