"""Which connections an object URI may name that comes from outside, such as an argument or an XCom."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_ray._compat import conf
from airflow_ray.exceptions import ObjectURIError

if TYPE_CHECKING:
    from airflow_ray.object_uri import ObjectURI


def require_allowed(uri: ObjectURI) -> ObjectURI:
    """Return ``uri``.

    :raises ObjectURIError: ``[airflow_ray] allowed_uri_connections`` does not list its connection.
    """
    # Airflow 3.1 splits the fallback of ``getlist`` too, which must be text there and a list later.
    listed = conf.get("airflow_ray", "allowed_uri_connections", fallback=None) or ""
    allowed = list(filter(None, map(str.strip, listed.split(","))))
    if allowed and uri.conn_id not in allowed:
        raise ObjectURIError(
            f"{uri} names the connection {uri.conn_id!r}, and [airflow_ray] allowed_uri_connections only allows "
            f"{', '.join(allowed)}: ask whoever runs this Airflow to add it there"
        )
    return uri
