"""Fields of a connection that take more than a line to read, and the errors of those that are wrong."""

from __future__ import annotations

import json
import re
import ssl
from typing import Any

from pydantic_core import PydanticCustomError

from airflow_ray.client.pem import read_pem, text_of
from airflow_ray.client.run_cluster import DAG, RUN

_PLACEHOLDER = re.compile(r"\{[^{}]*\}|[{}]")
_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_OF_KUBERNETES = re.compile(rf"{_LABEL}(\.{_LABEL})*\.?")

# Tells errors that name their field from pydantic's own.
OWN_ERROR = "field"


def must_be(field: str, shape: str, value: Any) -> PydanticCustomError:
    """Return the error for a field that is of another shape."""
    return wrong(f"{field} must be {shape}, got {value!r}")


def wrong(problem: str) -> PydanticCustomError:
    """Return the error that tells a problem in the words of this package."""
    return PydanticCustomError(OWN_ERROR, "{problem}", {"problem": problem})


def headers(value: Any) -> dict[str, str]:
    """Return headers of requests, which may be JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = None
    if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
        # They may be secrets.
        raise wrong("dashboard_headers must be a JSON object whose values are texts")
    return value


def verify(value: Any) -> bool | bytes:
    """Return whether certificates are verified, or by which others, in PEM."""
    text = str(value).strip().lower()
    if text in ("true", "false"):
        return text == "true"
    return authorities_of("dashboard_verify", value)


def runtime_env(value: Any) -> Any:
    """Return a runtime environment, which may be JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = None
    if not isinstance(value, dict):
        # It may hold secrets.
        raise wrong("runtime_env must be a JSON object")
    return value


def web_address(value: Any) -> str:
    """Return the address of a page."""
    address = str(value)
    # A browser that opens another one may run what it says.
    if not address.startswith(("http://", "https://")):
        raise must_be("dashboard_url", "an address that begins with http:// or https://", value)
    return address


def port(value: Any) -> Any:
    """Return the number of a port."""
    if not str(value).isdecimal() or not 0 < int(value) < 65_536:
        raise must_be("port", "a number from 1 to 65535", value)
    return value


def tls(value: Any) -> bool:
    """Return whether a text says yes, as a form or a URI has it."""
    flags = {"none": False, "false": False, "0": False, "true": True, "1": True}
    flag = flags.get(str(value).strip().lower())
    if flag is None:
        raise must_be("tls", "true or false", value)
    return flag


def pem_of(name: str, value: Any) -> bytes:
    """Return what is PEM itself, or the name of a file with it; a field of a form has no line breaks."""
    text = str(value).replace("\\n", "\n").strip()
    if text.startswith("-----BEGIN"):
        return text.encode()
    try:
        return read_pem(text)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no name of a file"
        raise wrong(f"{name} must be a file in PEM on this machine, or its text: {reason}") from None


def authorities_of(name: str, value: Any) -> bytes:
    """Return the certificates of those who sign others."""
    certificates = pem_of(name, value)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text_of(certificates))
    # The latter where it is empty.
    except (ssl.SSLError, ValueError):
        raise wrong(
            f"{name} must be certificates in PEM, or a file with them, and holds none that can be read"
        ) from None
    return certificates


def host(value: Any) -> Any:
    """Return what names the Ray head; ``{run}`` and ``{dag}`` in it stand for the name of a cluster."""
    text = str(value)
    if "://" in text:
        raise must_be("host", "a name or an address alone, such as ray-head.example.com", value)
    for placeholder in _PLACEHOLDER.findall(text):
        if placeholder not in (RUN, DAG):
            raise wrong(
                f"host holds {placeholder!r}, which stands for nothing. {RUN} stands for the cluster of a DAG run, and "
                f"{DAG} for that of a DAG"
            )
    return value


def require_same_placeholders(head: str | None, dashboard_url: str | None) -> None:
    """Refuse a dashboard for each run, or each DAG, of a head that they share."""
    for placeholder in (RUN, DAG):
        if placeholder in (dashboard_url or "") and placeholder not in (head or ""):
            raise wrong(f"dashboard_url holds {placeholder}, and host does not: one cluster has one dashboard")


def require_fit_for_kubernetes(head: str | None, mode: str, with_tls: bool) -> None:
    """Refuse what cannot be done where Kubernetes tells the address of the head."""
    example = f"such as {RUN} or {RUN}-head-svc.ray.svc"
    if mode not in ("gateway", "client") or head is None:
        raise wrong(f"kubernetes_conn_id is for the modes gateway and client, and mode is {mode}")
    if not _OF_KUBERNETES.fullmatch(head.replace(RUN, "x").replace(DAG, "x")):
        raise must_be("host", f"the name of a RayCluster where kubernetes_conn_id is set, {example}", head)
    if mode == "client" and with_tls:
        raise wrong(
            "mode client cannot check the certificate of a cluster whose address Kubernetes tells. Set mode gateway, "
            "or remove kubernetes_conn_id and let host be a name that the name server knows"
        )
