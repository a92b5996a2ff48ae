"""What a piece of work asks of the cluster, checked and in Ray's words."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    SkipValidation,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from airflow_ray.client.submission.ray_options import plain_data, plain_options
from airflow_ray.client.submission.rendered import amount, amounts, is_nothing, mapping, value_or_none
from airflow_ray.client.submission.result_policy import check_result
from airflow_ray.client.submission.runtime_env import runtime_env_of
from airflow_ray.exceptions import RayConfigurationError

#: Environment variable of a process that is for one work only, different in each.
FRESH_PROCESS = "AIRFLOW_RAY_FRESH_PROCESS"
_OF_CONNECTION = "runtime_env of the connection"
# Ours to set: a user's value would break the protocol with the cluster's side of this package.
_RESERVED = frozenset(
    {
        *("num_cpus", "num_gpus", "memory", "runtime_env", "max_retries"),
        # What the work leaves is read when it has ended.
        *("num_returns", "_generator_backpressure_num_objects"),
    }
)


def _amount(value: Any, info: ValidationInfo) -> float:
    return amount(str(info.field_name), value)


def _optional_amount(value: Any, info: ValidationInfo) -> float | None:
    return None if is_nothing(value) else _amount(value, info)


def _bytes(value: Any, info: ValidationInfo) -> int | None:
    count = _optional_amount(value, info)
    return None if count is None else int(count)


def _amounts(value: Any, info: ValidationInfo) -> dict[str, float]:
    return amounts(str(info.field_name), value)


def _max_retries(value: Any) -> int:
    if type(value) is not int or value < -1:
        raise RayConfigurationError(f"max_retries must be a whole number from -1 on, got {value!r}")
    return value


def _ray_options(value: Any) -> dict[str, Any]:
    options = mapping("ray_options", value)
    if reserved := _RESERVED.intersection(options):
        raise RayConfigurationError(f"ray_options may not hold {', '.join(sorted(reserved))}")
    if "resources" in options:
        options["resources"] = amounts("ray_options['resources']", options["resources"])
    return plain_options(options)


def _runtime_env(value: Any) -> dict[str, Any]:
    plain: dict[str, Any] = plain_data(runtime_env_of(value, "runtime_env"), "runtime_env")
    return plain


_Amount = Annotated[float, PlainValidator(_amount)]
_Text = Annotated[str | None, BeforeValidator(value_or_none)]


class RemoteOptions(BaseModel):
    """How a callable is run on the cluster. A number or a mapping may be a text, as a template leaves it.

    :param num_cpus: CPUs to reserve.
    :param num_gpus: GPUs to reserve, a fraction too.
    :param memory: memory to reserve, in bytes; None reserves none.
    :param resources: custom resources to reserve, by name.
    :param runtime_env: Ray runtime environment of this work, over that of the connection.
    :param ray_options: further arguments for ``RemoteFunction.options``, such as ``scheduling_strategy``, as plain data
        or with one of Ray's strategies for nodes or labels.
    :param max_retries: how often Ray runs the callable again when its process dies, not when it raises.
    :param scheduling_timeout: seconds that the work may wait for resources; None waits as long as the
        cluster has, or may get, a node that is large enough.
    :param fresh_process: run in a process that no other work has used, nor will.
    :param result: ``ref`` leaves the value in the cluster, ``value`` returns it as JSON, 1 MB at most.
    :param multiple_outputs: the callable returns a dict, each key of which becomes an object of its own.
    :param max_items: the callable returns a list, tuple or dict of at most so many items, each of which becomes an
        object of its own.
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

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    num_cpus: _Amount = 1
    num_gpus: _Amount = 0
    memory: Annotated[int | None, PlainValidator(_bytes)] = None
    resources: Annotated[dict[str, float], PlainValidator(_amounts)] = {}
    # Its variables may be secrets.
    runtime_env: Annotated[dict[str, Any], PlainValidator(_runtime_env), Field(repr=False)] = {}
    ray_options: Annotated[dict[str, Any], PlainValidator(_ray_options)] = {}
    max_retries: Annotated[int, PlainValidator(_max_retries)] = 3
    scheduling_timeout: Annotated[float | None, PlainValidator(_optional_amount)] = None
    fresh_process: bool = False
    result: SkipValidation[Literal["ref", "value"]] = "ref"
    multiple_outputs: bool = False
    max_items: int | None = None
    checkpoint: SkipValidation[bool | Literal["best-effort"]] = False
    checkpoint_source: _Text = None
    checkpoint_path: _Text = None
    storage_path: _Text = None
    storage_conn_id: _Text = None

    def __init__(self, **options: Any) -> None:
        try:
            super().__init__(**options)
        except ValidationError as error:
            # Pydantic's own text shows what it was given, secrets too.
            raise RayConfigurationError("; ".join(map(_message, error.errors()))) from None

    @model_validator(mode="after")
    def _check_result(self) -> RemoteOptions:
        check_result(self.result, self.checkpoint)
        return self

    def for_ray(self, connection_runtime_env: dict[str, Any] | None) -> dict[str, Any]:
        """Return the arguments for ``RemoteFunction.options`` as plain data.

        :param connection_runtime_env: the connection's runtime environment, which this one's keys override.
        """
        options: dict[str, Any] = {
            **self.ray_options,
            "num_cpus": self.num_cpus,
            "num_gpus": self.num_gpus,
            "max_retries": self.max_retries,
        }
        if self.memory is not None:
            options["memory"] = self.memory
        if resources := {**self.ray_options.get("resources", {}), **self.resources}:
            options["resources"] = resources
        base = plain_data(runtime_env_of(connection_runtime_env, _OF_CONNECTION), _OF_CONNECTION)
        runtime_env = _merged(base, self.runtime_env)
        if self.fresh_process:
            # Ray runs in one process only what has the same environment.
            runtime_env = _merged(runtime_env, {"env_vars": {FRESH_PROCESS: uuid.uuid4().hex}})
        if runtime_env:
            options["runtime_env"] = runtime_env
        return options


def _message(error: Any) -> str:
    """Return what is wrong with one option, without showing its value unless our own message does."""
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, RayConfigurationError):
        return str(cause)
    name = ".".join(map(str, error["loc"]))
    return f"there is no option {name}" if error["type"] == "extra_forbidden" else f"{name}: {error['msg']}"


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    env_vars = {**base.get("env_vars", {}), **over.get("env_vars", {})}
    return {**base, **over, **({"env_vars": env_vars} if env_vars else {})}
