"""Fields of a connection that take more than a line to read, and the errors of those that are wrong."""

from __future__ import annotations

import json
from typing import Any

from pydantic_core import PydanticCustomError

from airflow_ray.client.pem import read_pem

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
        raise wrong("dashboard_headers must be a JSON object of texts, and is none")
    return value


def verify(value: Any) -> bool | bytes:
    """Return whether certificates are verified, or by which others, in PEM."""
    text = str(value).strip().lower()
    if text in ("true", "false"):
        return text == "true"
    return pem_of("dashboard_verify", value)


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
