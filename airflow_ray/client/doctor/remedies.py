"""What to do about an error, by its class."""

from __future__ import annotations

import socket

from airflow_ray._compat import AirflowNotFoundException
from airflow_ray.exceptions import (
    RayAuthenticationError,
    RayCheckpointAccessError,
    RayCheckpointNotFoundError,
    RayCheckpointStorageError,
    RayClusterGoneError,
    RayClusterNotNamedError,
    RayConfigurationError,
    RayConnectionError,
    RayGatewayUnreachableError,
    RayOwnerDiedError,
    RayTLSError,
    RayVersionMismatchError,
    RayWaitTimeoutError,
)

_LOOK_AT_LOGS = "Look at the logs of the Ray head, by default in /tmp/ray/session_latest/logs there."


# The first class that fits counts.
_REMEDIES: dict[type[Exception], str] = {
    AirflowNotFoundException: (
        "Set {variable}=ray://:TOKEN@HEAD?mode=gateway, or add it in Airflow's UI, or by airflow connections add."
    ),
    RayClusterNotNamedError: "Name the DAG by --dag-id and its run by --run-id.",
    RayConfigurationError: "Correct that setting, in the connection or in Airflow's configuration.",
    socket.gaierror: "Correct the host of the connection, or let this machine's DNS know that name.",
    RayAuthenticationError: (
        "Through the gateway, it is the token that this was started with; otherwise that of the cluster, which "
        "ray get-auth-token prints on the head."
    ),
    RayTLSError: "On the head, RAY_USE_TLS tells whether it speaks TLS, and RAY_TLS_CA_CERT whom it trusts.",
    RayVersionMismatchError: (
        "Through the gateway, install one minor version of Python on both sides; otherwise one release of Ray too."
    ),
    RayGatewayUnreachableError: "On the head it runs: open the way there from this machine.",
    RayClusterGoneError: "Name a run whose cluster runs now.",
    RayConnectionError: (
        "On the head, ray status tells whether it runs. For mode gateway start it by ray start --head "
        "--dashboard-host=0.0.0.0, for mode client by GRPC_ENABLE_FORK_SUPPORT=0 ray start --head "
        "--ray-client-server-port=10001."
    ),
    RayOwnerDiedError: f"Try again: each connection starts on the head what is missing there. {_LOOK_AT_LOGS}",
    RayWaitTimeoutError: f"The cluster starts no process for a task. {_LOOK_AT_LOGS}",
    RayCheckpointNotFoundError: (
        "What the cluster writes cannot be seen from here: a file:// path must be a folder that all machines share."
    ),
    RayCheckpointAccessError: (
        "See that the bucket or folder exists, and that the credentials may list, read, write and delete in it."
    ),
    RayCheckpointStorageError: "See that the storage has room, and can be reached from where this step ran.",
}


def remedy(error: Exception, conn_id: str) -> str:
    """Return what to do about an error, by its class."""
    text = next((words for cls, words in _REMEDIES.items() if isinstance(error, cls)), _LOOK_AT_LOGS)
    return text.format(conn_id=conn_id, variable=f"AIRFLOW_CONN_{conn_id.upper()}")
