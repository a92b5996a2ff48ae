"""What is made from Airflow's Fernet key, the one secret that all processes of an installation share."""

from __future__ import annotations

import base64
import hashlib
import hmac

from airflow_ray._compat import conf
from airflow_ray.exceptions import RayConfigurationError


def keys_for(purpose: str, use: str) -> list[str]:
    """Return keys made with HMAC-SHA256 from the Fernet keys, so that none tells those, or serves other purposes.

    :param purpose: any text.
    :param use: a sentence that tells what they are for, without its full stop.
    :returns: them in hexadecimal, that of the current Fernet key first.
    :raises RayConfigurationError: this Airflow has no valid Fernet key.
    """
    from cryptography.fernet import Fernet

    fernet = (conf.get("core", "fernet_key", fallback=None) or "").strip()
    keys = []
    for key in fernet.split(","):
        try:
            Fernet(key.strip())
        except ValueError as error:
            raise RayConfigurationError(
                f"{use}: set [core] fernet_key to the same valid key for the scheduler and all workers ({error})"
            ) from error
        keys.append(hmac.new(base64.urlsafe_b64decode(key.strip()), purpose.encode(), hashlib.sha256).hexdigest())
    return keys
