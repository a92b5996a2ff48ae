"""What a piece of work asks of the cluster, checked and in Ray's words."""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass
from typing import Any, Literal

from airflow_ray.exceptions import RayConfigurationError

# Ours to set: a user's value would break the protocol with the owner.
_RESERVED = frozenset({"num_returns", "num_cpus", "num_gpus", "memory", "runtime_env", "max_retries"})


@dataclass(frozen=True)
class RemoteOptions:
    """How a callable is run on the cluster. A number may be a text, as a template leaves it.

    :param num_cpus: CPUs to reserve.
    :param num_gpus: GPUs to reserve, a fraction too.
    :param memory: memory to reserve, in bytes; None reserves none.
    :param resources: custom resources to reserve, by name.
    :param runtime_env: Ray runtime environment of this work, over that of the connection.
    :param ray_options: further arguments for ``RemoteFunction.options``, such as ``scheduling_strategy``.
    :param max_retries: how often Ray runs the callable again when its process dies, not when it raises.
    :param scheduling_timeout: seconds that the work may wait for resources; None waits as long as the
        cluster has, or may get, a node that is large enough.
    :param result: ``ref`` leaves the value in the cluster, ``value`` returns it as JSON, 1 MB at most.
    :param multiple_outputs: the callable returns a dict, each key of which becomes an object of its own.
    :param checkpoint: write a durable copy of each output before the work counts as done; with ``best-effort``
        it succeeds also where that fails.
    :param checkpoint_source: AWS connection with the credentials; None for that of the Ray connection, or else
        the credentials of the cluster's own machines.
    :param checkpoint_path: where to write, ``s3://bucket/prefix``, ``gs://bucket/prefix`` or ``file:///folder``;
        None for what is set in the Ray connection, the AWS connection or ``[airflow_ray] checkpoint_path``.
    :param storage_path: where the callable itself may write, if it is one of this package; likewise.
    :param storage_conn_id: AWS connection with the credentials for that.
    :raises RayConfigurationError: a value is of the wrong type or out of range.
    """

    num_cpus: float | str = 1
    num_gpus: float | str = 0
    memory: float | str | None = None
    resources: dict[str, float | str] | str | None = None
    runtime_env: dict[str, Any] | str | None = None
    ray_options: dict[str, Any] | None = None
    max_retries: int = 3
    scheduling_timeout: float | None = None
    result: Literal["ref", "value"] = "ref"
    multiple_outputs: bool = False
    checkpoint: bool | Literal["best-effort"] = False
    checkpoint_source: str | None = None
    checkpoint_path: str | None = None
    storage_path: str | None = None
    storage_conn_id: str | None = None

    def __post_init__(self) -> None:
        check_result(self.result, self.checkpoint)
        if type(self.max_retries) is not int or self.max_retries < -1:
            raise RayConfigurationError(f"max_retries must be a whole number from -1 on, got {self.max_retries!r}")
        if self.scheduling_timeout is not None:
            _number("scheduling_timeout", self.scheduling_timeout)
        if reserved := _RESERVED.intersection(self.ray_options or {}):
            raise RayConfigurationError(f"ray_options may not hold {', '.join(sorted(reserved))}")
        self.for_ray(None)

    def for_ray(self, connection_runtime_env: dict[str, Any] | None) -> dict[str, Any]:
        """Return the arguments for ``RemoteFunction.options``.

        :param connection_runtime_env: the connection's runtime environment, which this one's keys override.
        """
        options: dict[str, Any] = {
            **(self.ray_options or {}),
            "num_cpus": _number("num_cpus", self.num_cpus),
            "num_gpus": _number("num_gpus", self.num_gpus),
            "max_retries": self.max_retries,
        }
        if self.memory not in (None, "", "None"):
            options["memory"] = int(_number("memory", self.memory))
        resources = {**options.pop("resources", {}), **_mapping("resources", self.resources)}
        if resources:
            options["resources"] = {name: _number(f"resources[{name!r}]", n) for name, n in resources.items()}
        runtime_env = _merged(connection_runtime_env or {}, _mapping("runtime_env", self.runtime_env))
        if runtime_env:
            options["runtime_env"] = runtime_env
        return options


def check_result(result: str, checkpoint: bool | str) -> None:
    """Check what is to become of the result; an operator does it when its DAG file is parsed.

    :raises RayConfigurationError: one of them is not known, or the two do not go together.
    """
    if result not in ("ref", "value"):
        raise RayConfigurationError(f"result must be 'ref' or 'value', got {result!r}")
    check_checkpoint(checkpoint)
    if checkpoint and result == "value":
        raise RayConfigurationError("checkpoint is for an object in the cluster; with result='value' there is none")


def check_checkpoint(checkpoint: bool | str) -> None:
    """Check whether checkpoints are wanted.

    :raises RayConfigurationError: what is said is not known.
    """
    if checkpoint not in (True, False, "best-effort"):
        raise RayConfigurationError(f"checkpoint must be True, False or 'best-effort', got {checkpoint!r}")


def _number(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number) or number < 0:
        raise RayConfigurationError(f"{name} must be a number from 0 on, got {value!r}")
    return int(number) if number == int(number) else number


def _mapping(name: str, value: dict[str, Any] | str | None) -> dict[str, Any]:
    parsed: Any = value
    if isinstance(value, str):
        try:
            parsed = ast.literal_eval(value) if value.strip() else None
        except (SyntaxError, ValueError):
            parsed = value
    if parsed is None:
        return {}
    if not isinstance(parsed, dict):
        raise RayConfigurationError(f"{name} must be a mapping, got {value!r}")
    return parsed


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    env_vars = {**base.get("env_vars", {}), **over.get("env_vars", {})}
    return {**base, **over, **({"env_vars": env_vars} if env_vars else {})}
