"""A first call to a cluster: its answer tells in seconds what Ray itself tells after half a minute, if at all."""

from __future__ import annotations

import socket
import ssl
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_ray.client.connection.reasons import plain_details
from airflow_ray.client.pem import text_of
from airflow_ray.exceptions import RayAuthenticationError, RayConnectionError, RayTLSError

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_ray.client.connection.authentication import Authentication, Tls


PROBE_SECONDS = 5.0
HANDSHAKE_SECONDS = 2.0
# What a handshake fails with, in the words of gRPC, and what it means.
_OTHER_HOST = "its certificate is for another host name. Connect by a name that is in it"
_TLS_PROBLEMS = {
    "WRONG_VERSION_NUMBER": "it does not speak TLS. Take TLS out of the connection",
    "certificate has expired": "its certificate has expired. Give the cluster a new one",
    "Hostname Verification": _OTHER_HOST,
    # In the words of an older gRPC.
    "is not in peer certificate": _OTHER_HOST,
    "CERTIFICATE_VERIFY_FAILED": "its certificate is not signed by one of tls_ca_cert. Set that of the cluster",
}


def probe_client_server(address: str, authentication: Authentication, deadline: float) -> None:
    """Ask the Ray Client server for a sign of life.

    :param deadline: by the monotonic clock, in seconds; a server that stays silent is given up before.
    :raises RayConnectionError: there was none; the subclass and the text tell why.
    """
    from ray.core.generated import ray_client_pb2, ray_client_pb2_grpc

    request = ray_client_pb2.ClusterInfoRequest(type=ray_client_pb2.ClusterInfoType.PING)
    _probe(
        f"the Ray Client server at {address}",
        address,
        authentication,
        lambda channel: ray_client_pb2_grpc.RayletDriverStub(channel).ClusterInfo,
        request,
        deadline,
    )


def probe_control_service(address: str, authentication: Authentication, deadline: float) -> None:
    """Do the same with the cluster's control service, for a driver."""
    from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

    _probe(
        f"the control service of the Ray cluster at {address}",
        address,
        authentication,
        lambda channel: gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel).CheckAlive,
        gcs_service_pb2.CheckAliveRequest(),
        deadline,
    )


def _probe(
    where: str,
    address: str,
    authentication: Authentication,
    method: Callable[[Any], Any],
    request: Any,
    deadline: float,
) -> None:
    import grpc
    from ray._private.grpc_utils import init_grpc_channel

    timeout = min(PROBE_SECONDS, max(0.1, deadline - time.monotonic()))
    with init_grpc_channel(address, credentials=authentication.credentials) as channel:
        try:
            method(channel)(request, timeout=timeout, metadata=authentication.metadata)
        except grpc.RpcError as error:
            raise connection_error(where, address, authentication, error.code().name, error.details() or "") from error


def connection_error(
    where: str, address: str, authentication: Authentication, code: str, details: str
) -> RayConnectionError:
    """Return why a first call failed.

    :param where: what was called, for the text.
    :param address: its host and port.
    :param code: of the status, in gRPC's words.
    :param details: likewise.
    """
    # Before it gRPC says that this is the last of the addresses it has tried, of which there is one.
    details = plain_details(details.rpartition("last error: ")[2])
    if code == "UNAUTHENTICATED":
        wanted = "another token than the password of the connection" if authentication.token else "a token"
        return RayAuthenticationError(
            f"Cannot connect to {where}: it asks for {wanted}. Set the cluster's token as the password. {details}"
        )
    if code == "DEADLINE_EXCEEDED":
        return RayConnectionError(
            f"Cannot connect to {where}: nothing answered. Check host and port, and that no firewall drops the "
            "packets between this machine and the Ray head."
        )
    if code == "UNAVAILABLE" and (problem := _tls_problem(address, authentication.tls, details)):
        return RayTLSError(f"Cannot connect to {where}: {problem}.")
    if code == "UNIMPLEMENTED" or "HTTP/2" in details or "http2" in details:
        return RayConnectionError(
            f"Cannot connect to {where}: another service listens on that port. Mode gateway takes the port of the "
            "gateway (usually 8815), mode client that of the Ray Client server (usually 10001), mode driver that of "
            f"the cluster's control service (usually 6379), none that of the dashboard. {details}"
        )
    return RayConnectionError(
        f"Cannot connect to {where}: {details}. Check host and port, and that the head runs. Without ray[client] "
        "it has no Ray Client server."
    )


def _tls_problem(address: str, tls: Tls | None, details: str) -> str | None:
    """Return what is wrong with TLS, in gRPC's own ``details`` or by another handshake, or None."""
    words = _plain(details)
    if "certificate verify failed" in words:
        # An older Arrow Flight does not say why.
        words += _plain(_verification_problem(address, tls))
    told = next((problem for sign, problem in _TLS_PROBLEMS.items() if _plain(sign) in words), None)
    if told is _OTHER_HOST and tls is not None and tls.name is not None:
        return f"its certificate is not for {tls.name}, which the host of the connection says"
    # A server that refuses a client closes the connection after the handshake, without a word.
    is_refused = "closed" in details or "reset" in details
    # A Unix socket has no port, and no TLS.
    if told or not is_refused or not address.rpartition(":")[2].isdecimal() or not _speaks_tls(address):
        return told
    if tls is None:
        return "it speaks TLS. Set tls, tls_ca_cert, tls_cert and tls_key"
    if tls.cert is None:
        return "it asks for a certificate. Set tls_cert and tls_key"
    if _has_expired(tls.cert):
        return "it refuses tls_cert, which has expired"
    return "it refuses tls_cert. Is it signed by one whom the cluster trusts?"


def _plain(text: str) -> str:
    """Return a text as BoringSSL, of gRPC for Python, and OpenSSL, of Arrow Flight, both write it."""
    return text.lower().replace("_", " ")


def _speaks_tls(address: str) -> bool:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        _shake_hands(address, context)
    except OSError:
        return False
    return True


def _verification_problem(address: str, tls: Tls | None) -> str:
    """Return why the certificate of a server is not believed, in OpenSSL's words; empty where that cannot be told."""
    authorities = text_of(tls.ca_cert) if tls is not None and tls.ca_cert is not None else None
    context = ssl.create_default_context(cadata=authorities)
    context.check_hostname = False
    try:
        _shake_hands(address, context)
    except ssl.SSLCertVerificationError as error:
        return str(error.verify_message)
    except OSError:
        return ""
    return ""


def _shake_hands(address: str, context: ssl.SSLContext) -> None:
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), HANDSHAKE_SECONDS) as plain, context.wrap_socket(plain):
        return


def _has_expired(pem: bytes) -> bool:
    from cryptography.x509 import load_pem_x509_certificate

    return load_pem_x509_certificate(pem).not_valid_after_utc < datetime.now(timezone.utc)
