"""TLS of a gateway with a cluster's certificates: what clients are told that do not fit."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyarrow import flight

from airflow_ray.client.connection.authentication import Authentication, Tls
from airflow_ray.client.connection.flight_client import FlightClient
from airflow_ray.client.connection.peer import Peer
from airflow_ray.exceptions import RayTLSError
from tests.certificates import Authority


@pytest.fixture
def authorities(tmp_path: Path) -> tuple[Authority, Authority]:
    """Of the cluster, and another one."""
    (tmp_path / "other").mkdir()
    return Authority(tmp_path), Authority(tmp_path / "other", "other")


def tls_of(authority: Authority) -> Tls:
    return Tls(*(Path(path).read_bytes() for path in authority.fields().values()))


def server_options(authority: Authority) -> dict[str, Any]:
    """Return what makes a server of Flight's ask for certificates, as the gateway does."""
    names = "RAY_TLS_SERVER_CERT", "RAY_TLS_SERVER_KEY", "RAY_TLS_CA_CERT"
    environment = authority.environment()
    cert, key, ca = (Path(environment[name]).read_bytes() for name in names)
    return {"tls_certificates": [(cert, key)], "verify_client": True, "root_certificates": ca}


@pytest.fixture
def port(authorities: tuple[Authority, Authority]) -> Iterator[int]:
    with flight.FlightServerBase("grpc+tls://127.0.0.1:0", **server_options(authorities[0])) as server:
        yield server.port


def meet(port: int, tls: Tls | None) -> None:
    scheme = "grpc+tls" if tls else "grpc"
    client = FlightClient(f"{scheme}://127.0.0.1:{port}", Authentication(32 * "x", tls))
    try:
        Peer(client, f"127.0.0.1:{port}", "airflow").meet(time.monotonic() + 15, lambda: None)
    finally:
        client.close()


def test_certificate_of_another_authority_is_told(port: int, authorities: tuple[Authority, Authority]) -> None:
    with pytest.raises(RayTLSError, match="not signed by one of tls_ca_cert"):
        meet(port, tls_of(authorities[1]))


def test_client_without_a_certificate_is_told(port: int, authorities: tuple[Authority, Authority]) -> None:
    with pytest.raises(RayTLSError, match="asks for a certificate"):
        meet(port, Tls(tls_of(authorities[0]).ca_cert))


def test_client_with_a_foreign_certificate_is_told(port: int, authorities: tuple[Authority, Authority]) -> None:
    own, other = map(tls_of, authorities)
    with pytest.raises(RayTLSError, match="refuses tls_cert"):
        meet(port, Tls(own.ca_cert, other.cert, other.key))


def test_client_without_tls_is_told(port: int) -> None:
    with pytest.raises(RayTLSError, match="speaks TLS"):
        meet(port, None)


def test_client_with_tls_is_told_that_the_gateway_has_none(authorities: tuple[Authority, Authority]) -> None:
    with flight.FlightServerBase("grpc://127.0.0.1:0") as server, pytest.raises(RayTLSError, match="not speak TLS"):
        meet(server.port, tls_of(authorities[0]))
