"""Under which names the actors of this package are found."""

from __future__ import annotations

# Newer code never talks to an actor of an older protocol: raise this with each change of a message.
PROTOCOL_VERSION = 4
OWNER_PREFIX = "airflow_ray_owner_v"
OWNER_NAME = f"{OWNER_PREFIX}{PROTOCOL_VERSION}"
KEEPER_NAME = f"airflow_ray_keeper_v{PROTOCOL_VERSION}"
