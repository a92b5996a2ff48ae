"""What must never show in a log or in rendered templates."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow.sdk.log import mask_secret

if TYPE_CHECKING:
    from airflow_ray.client.connection.authentication import Authentication


# Airflow masks nothing shorter, and warns.
MIN_MASKED = 5


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
    """Mask the values of the environment variables in a Ray runtime environment, which may be JSON, too."""
    if isinstance(runtime_env, str):
        with suppress(ValueError):
            runtime_env = json.loads(runtime_env)
    variables = runtime_env.get("env_vars") if isinstance(runtime_env, Mapping) else None
    if isinstance(variables, Mapping):
        for value in map(str, variables.values()):
            if len(value) >= MIN_MASKED:
                mask_secret(value)
