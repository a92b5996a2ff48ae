"""What must never show in a log or in rendered templates."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow.sdk.log import mask_secret

from airflow_ray.cluster.redaction import secrets_in

if TYPE_CHECKING:
    from airflow_ray.client.connection.authentication import Authentication


def mask_authentication(authentication: Authentication) -> None:
    """Mask token and private key."""
    if authentication.token:
        mask_secret(authentication.token)
    if authentication.tls and authentication.tls.key:
        # A log may break or quote what has several lines.
        for line in authentication.tls.key.decode(errors="replace").splitlines():
            if line and not line.startswith("-----"):
                mask_secret(line)


def mask_runtime_env(runtime_env: Any) -> None:
    """Mask variables and credentials in addresses of a Ray runtime environment, which may be JSON, too."""
    if isinstance(runtime_env, str):
        with suppress(ValueError):
            runtime_env = json.loads(runtime_env)
    # Text that is no JSON is refused later; an address in it is none the less one.
    for secret in secrets_in(runtime_env):
        mask_secret(secret)
