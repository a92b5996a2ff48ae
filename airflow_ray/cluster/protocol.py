"""What both halves of this package share: names, states, kinds of failure, and the messages.

What crosses is plain data: a state or a kind crosses as its text, since an enum that was pickled by value is another
one in each process.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, TypedDict

RETURN_VALUE = "return_value"
# Credentials of a role last an hour at most by default, and 15 minutes at least.
REFRESH_SECONDS = 600.0
# Of the messages between processes. A change that an older reader cannot do without raises the first number, one that
# an older writer cannot know of raises the second.
MESSAGES_VERSION = 7
OLDEST_MESSAGES_VERSION = 5
OWNER_PREFIX = "airflow_ray_owner_"
KEEPER_PREFIX = "airflow_ray_keeper_"
# The usual name of the file that starts the gateway on a cluster.
BUNDLE_NAME = "airflow_ray_gateway.pyz"


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
    INPUT_NOT_READABLE = "input_not_readable"
    NOT_PICKLABLE = "not_picklable"
    NOT_READABLE = "not_readable"
    NOT_JSON = "not_json"
    JSON_TOO_LARGE = "json_too_large"
    NOT_SEVERAL = "not_several"
    RUNTIME_ENV = "runtime_env"
    WORKER_CRASHED = "worker_crashed"
    OUT_OF_MEMORY = "out_of_memory"
    INFEASIBLE = "infeasible"
    SCHEDULING_TIMEOUT = "scheduling_timeout"
    UNSCHEDULABLE = "unschedulable"
    CHILD_INFEASIBLE = "child_infeasible"
    OPTIONS = "options"
    NO_OBJECT = "no_object"
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


class RefusalKind(str, Enum):
    """Why the gateway could not do what it was asked; the client knows what to make of each."""

    OWNER_DIED = "owner_died"
    REFUSED = "refused"
    BROKEN = "broken"


# Of the user's own modules, by name: file name, source text, and the digest of that with all that it imports of them.
Sources = dict[str, tuple[str, str, str]]

# Whether each key of the dict that a callable returns is an output of its own; and how many items of what it returns
# may be one each, where that is a list for mapped tasks, or else None.
OutputNames = tuple[bool, int | None]


class TaskTry(TypedDict):
    """A try of an Airflow task, which may find what an earlier one has left.

    ``number`` counts the tries of a task from 1 on, also over its clearings. ``run`` is a text that the tries have in
    common between which the task was not cleared, nor its run made again. ``clearings`` is how often something of the
    run was cleared; None where Airflow does not tell.
    """

    number: int
    run: str
    clearings: int | None


class DashboardPage(TypedDict):
    """The parts of the address of a task's page; ``address`` is empty where the cluster runs no dashboard."""

    address: str
    job_id: str
    task_id: str


class Used(TypedDict):
    """What work has used of its node.

    ``seconds`` is how long it was looked at, ``cpu_seconds`` what its process and the processes that this has started
    have used of CPUs meanwhile, ``memory`` the most that they had of memory in bytes, without Ray's object store.
    ``gpu_memory`` is the most that was in use on its GPUs, by whomever, ``gpu_total`` what these have. What nobody
    tells is None.
    """

    seconds: float
    cpu_seconds: float
    memory: int | None
    gpu_memory: int | None
    gpu_total: int | None


class ChildUsed(TypedDict):
    """What a process has used in which tasks or actors of work run.

    ``place`` is the process and its node, ``memory`` its peak in bytes and ``cpu_seconds`` what it has used of CPUs
    since that was last told.
    """

    place: str
    memory: int
    cpu_seconds: float


class ChildrenUsed(TypedDict):
    """What the Ray tasks and actors of work have used, as far as their processes have told.

    ``processes`` is in how many they ran, ``memory`` the highest peak of one of these in bytes, ``cpu_seconds`` what
    all of them have used together.
    """

    processes: int
    memory: int
    cpu_seconds: float


class SubmitAnswer(TypedDict, total=False):
    """What a submission came to.

    ``error`` is a failure as plain data; ``lost`` in it lists record id and key of the inputs that are gone.
    ``attached`` is the state of the work that was there already, and goes on. ``anew`` is why a retry does not go on
    with that. ``page`` is that of the work.
    """

    error: dict[str, Any]
    attached: str
    anew: str
    page: DashboardPage


class OwnerTotals(TypedDict):
    """What all records of an owner come to.

    ``waiting`` is how much of its work waits and ``running`` how much runs, ``bytes_held`` the size of the objects that
    it holds. ``bytes_spilled`` is what the nodes of its cluster have written to disk since they started, for lack of
    room, as far as was last known; None before that is known.
    """

    waiting: int
    running: int
    bytes_held: int
    bytes_spilled: int | None


class PollAnswer(TypedDict, total=False):
    """News of one piece of work.

    ``offset`` is the number of the line after ``lines``, ``skipped`` how many before them were dropped. ``levels`` has
    a letter for each, as :mod:`airflow_ray.cluster.log_levels` has it; earlier releases tell none. ``record`` and
    ``value_json`` come once the state is final and all lines were read. ``totals`` are those of the owner.
    """

    state: str
    detail: str | None
    lines: list[str]
    levels: str
    offset: int
    skipped: int
    totals: OwnerTotals
    record: dict[str, Any]
    value_json: str | None


class WatchNews(TypedDict):
    """News of one of many pieces of work; ``detail`` is what it waits for, where that has changed."""

    state: str
    ended: bool
    lines: list[str]
    levels: str
    offset: int | None
    skipped: int
    detail: str | None


class Greeting(TypedDict):
    """Who an owner is: the release of the package, the digest of its build, and the messages that it knows."""

    release: str
    build: str
    messages: int
    oldest_messages: int
