"""What both halves of this package share: names, states, kinds of failure, and the messages.

What crosses is plain data: a state or a kind crosses as its text, since an enum that was pickled by value is another
one in each process.
"""

from __future__ import annotations

from enum import Enum

RETURN_VALUE = "return_value"
# Credentials of a role last an hour at most by default, and 15 minutes at least.
REFRESH_SECONDS = 600.0
# Newer code never talks to an actor of an older protocol: raise this with each change of a message.
PROTOCOL_VERSION = 4
OWNER_PREFIX = "airflow_ray_owner_v"
OWNER_NAME = f"{OWNER_PREFIX}{PROTOCOL_VERSION}"
KEEPER_NAME = f"airflow_ray_keeper_v{PROTOCOL_VERSION}"


class State(str, Enum):
    """The state of a piece of work."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    #: Nobody knows of it, or no longer.
    LOST = "LOST"

    @property
    def is_final(self) -> bool:
        """Whether no other state follows."""
        return self not in (State.PENDING, State.RUNNING)


class FailureKind(str, Enum):
    """Why something could not be done; the details that come with each are in :mod:`airflow_ray.client.errors`."""

    CALLABLE = "callable"
    UNPICKLE = "unpickle"
    NOT_PICKLABLE = "not_picklable"
    NOT_READABLE = "not_readable"
    NOT_JSON = "not_json"
    JSON_TOO_LARGE = "json_too_large"
    NOT_A_DICT = "not_a_dict"
    RUNTIME_ENV = "runtime_env"
    WORKER_CRASHED = "worker_crashed"
    OUT_OF_MEMORY = "out_of_memory"
    INFEASIBLE = "infeasible"
    SCHEDULING_TIMEOUT = "scheduling_timeout"
    UNSCHEDULABLE = "unschedulable"
    OPTIONS = "options"
    NO_OBJECT = "no_object"
    ATTACHED = "attached"
    CANCELLED = "cancelled"
    RETIRED = "retired"
    TRIAL_INFEASIBLE = "trial_infeasible"
    TUNE_CHECKPOINT = "tune_checkpoint"
    TUNE_METRIC = "tune_metric"
    TUNE_NO_TRIALS = "tune_no_trials"
    TUNE_OPTION = "tune_option"
    TUNE_STORAGE = "tune_storage"
    TUNE_TRIALS_FAILED = "tune_trials_failed"
    INPUT_LOST = "input_lost"
    CHECKPOINT_NOT_FOUND = "checkpoint_not_found"
    CHECKPOINT_ACCESS = "checkpoint_access"
    CHECKPOINT_STORAGE = "checkpoint_storage"
    CHECKPOINT_CORRUPT = "checkpoint_corrupt"
    CHECKPOINT_SIGNATURE = "checkpoint_signature"
    CHECKPOINT_VERSION = "checkpoint_version"
    CHECKPOINT_NOT_PICKLABLE = "checkpoint_not_picklable"
    CHECKPOINT_PACKAGE = "checkpoint_package"
    RAY = "ray"
