"""What both halves of this package share: names, states, kinds of failure, and the messages."""

from __future__ import annotations

# Newer code never talks to an actor of an older protocol: raise this with each change of a message.
PROTOCOL_VERSION = 4


OWNER_PREFIX = "airflow_ray_owner_v"


OWNER_NAME = f"{OWNER_PREFIX}{PROTOCOL_VERSION}"


KEEPER_NAME = f"airflow_ray_keeper_v{PROTOCOL_VERSION}"


PENDING = "PENDING"


RUNNING = "RUNNING"


SUCCEEDED = "SUCCEEDED"


FAILED = "FAILED"


CANCELLED = "CANCELLED"


LOST = "LOST"


FINISHED_STATES = frozenset({SUCCEEDED, FAILED, CANCELLED, LOST})


# Credentials of a role last an hour at most by default, and 15 minutes at least.
REFRESH_SECONDS = 600.0


RETURN_VALUE = "return_value"
