"""The faults that hit a process, each with what the rules of this package promise."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest

SHORT_STOP, LONG_STOP = 5.0, 30.0
AWAY = {"away": 1}
NEXT_TRY = "already, by an earlier try"


class Told(NamedTuple):
    """What the table of faults in the docs tells of a case.

    :param fault: in the words of a user, as all of these.
    :param moment: at which it comes.
    :param happens: what comes of it.
    """

    fault: str
    moment: str
    happens: str


@dataclass(frozen=True)
class Case:
    """A fault at one moment.

    :param victim: a name that :class:`tests.faults.rig.Rig` knows.
    :param signal: SIGKILL, or SIGSTOP for some seconds, and then SIGCONT.
    :param happens: in the words of a user.
    :param once: whether no callable may begin twice.
    :param log: what the log of the tasks says, as a pattern.
    :param error: the class of the error, where an object is lost for good.
    :param stopped_seconds: of SIGSTOP.
    """

    victim: str
    signal: str
    moment: str
    happens: str
    once: bool = True
    way: str = "gateway"
    log: str = ""
    error: str = ""
    stopped_seconds: float = LONG_STOP
    options: dict[str, Any] = field(default_factory=lambda: {"checkpoint": True})

    @property
    def id(self) -> str:
        kept = "" if self.options.get("checkpoint") else "-no_checkpoint"
        seconds = "" if self.stopped_seconds == LONG_STOP else f"-{self.stopped_seconds:g}s"
        return f"{self.victim}-{self.signal}-{self.moment}-{self.way}{kept}{seconds}"

    @property
    def told(self) -> Told:
        what = f"stopped for {self.stopped_seconds:g} s" if self.signal == "SIGSTOP" else "killed"
        through = "" if self.way == "gateway" else f" (mode `{self.way}`)"
        return Told(f"{_NAMES[self.victim]} {what}{through}", self.moment, self.happens)


_NAMES = {
    "task": "Process of the Airflow task",
    "gateway": "Gateway",
    "client_server": "Ray Client's server of the task",
    "client_proxy": "Ray Client's server of all tasks",
    "owner": "Owner",
    "keeper": "Keeper's driver",
    "keeper_actor": "Keeper",
    "worker": "Ray worker that runs the callable",
    "child": "Actor that the callable made",
    "node": "Node that runs the callable",
    "head": "Head",
    "s3": "S3 server",
}
ALL = ("before", "submit", "call", "checkpoint", "result", "done", "use")


def each(moments: tuple[str, ...], victim: str, signal: str, happens: str, **more: Any) -> list[Case]:
    return [Case(victim, signal, moment, happens, **more) for moment in moments]


_GOES_ON = "Work and objects do not notice; the task connects again and goes on."
_WAITS = "All wait for it, and go on as if nothing had been."
_FROM_CHECKPOINT = "The objects are lost, and the next task gets them from the checkpoint."
_WRITTEN_LATER = "It is written once the storage answers again, which the task waits two minutes for."
_ANEW = "The work is lost with it; the next try starts it anew."

KILLED = [
    *each(("before",), "task", "SIGKILL", "Nothing had begun; the next try submits the work."),
    *each(("submit",), "task", "SIGKILL", "The next try goes on with what has arrived, or submits it."),
    *each(
        ("call", "checkpoint", "result", "use"),
        "task",
        "SIGKILL",
        "The work goes on; the next try goes on with it, or takes what was made.",
        log=NEXT_TRY,
    ),
    *each(ALL, "gateway", "SIGKILL", _GOES_ON),
    *each(ALL, "keeper", "SIGKILL", "Work, objects and the task do not notice."),
    *each(
        ALL,
        "keeper_actor",
        "SIGKILL",
        "The gateway ends with it; work and objects stay. Who reaches the dashboard or Ray Client starts both again; "
        "otherwise the command that started the gateway does.",
    ),
    *each(
        ("before", "submit"),
        "owner",
        "SIGKILL",
        "The task, or its next try, has another started and submits there.",
        once=False,
    ),
    *each(("call", "checkpoint"), "owner", "SIGKILL", _ANEW, once=False),
    *each(("result", "done"), "owner", "SIGKILL", _FROM_CHECKPOINT, log="from the checkpoint"),
    *each(("use",), "owner", "SIGKILL", "The next try restores its inputs from the checkpoint.", once=False),
    *each(
        ("call", "checkpoint", "use"), "worker", "SIGKILL", "Ray runs the callable again (`max_retries`).", once=False
    ),
    *each(
        ("call",),
        "child",
        "SIGKILL",
        "The callable gets Ray's error of a dead actor and fails; the next try runs it again.",
        once=False,
        log="ActorDied|died",
    ),
    *each(
        ("call", "checkpoint", "result"),
        "node",
        "SIGKILL",
        "Ray runs the callable again on another node.",
        once=False,
        options={"checkpoint": True, "resources": AWAY},
    ),
    *each(
        ("done",),
        "node",
        "SIGKILL",
        "Ray makes the objects again, or else the checkpoint serves.",
        once=False,
        log="from the (lineage|checkpoint)",
        options={"checkpoint": True, "resources": AWAY},
    ),
    *each(("before", "submit", "call", "checkpoint"), "head", "SIGKILL", _ANEW, once=False),
    *each(("result", "done"), "head", "SIGKILL", _FROM_CHECKPOINT, log="from the checkpoint"),
    *each(("use",), "head", "SIGKILL", "The next try restores its inputs from the checkpoint.", once=False),
    *each(
        ("done",),
        "head",
        "SIGKILL",
        "Without a checkpoint the objects are lost: the error names the task to clear.",
        error="RayObjectLostError",
        log="clear that task",
        options={"checkpoint": False},
    ),
    *each(("checkpoint",), "s3", "SIGKILL", _WRITTEN_LATER, log="checkpoint|Checkpoint"),
    *each(("before", "call", "done"), "s3", "SIGKILL", "Nobody notices: nothing is written or read just then."),
]
STOPPED = [
    *each(ALL[:5], "task", "SIGSTOP", "The work goes on; the task follows it again."),
    *each(ALL, "gateway", "SIGSTOP", _WAITS),
    *each(ALL, "owner", "SIGSTOP", _WAITS),
    *each(("before", "call", "done"), "keeper", "SIGSTOP", "Work, objects and the task do not notice."),
    *each(("call", "checkpoint", "use"), "worker", "SIGSTOP", _WAITS),
    *each(("call",), "child", "SIGSTOP", _WAITS),
    *each(
        ("call", "checkpoint", "done"),
        "node",
        "SIGSTOP",
        "The cluster takes the node for lost: Ray makes on another what is needed.",
        once=False,
        options={"checkpoint": True, "resources": AWAY},
    ),
    *each(("call", "checkpoint", "done", "use"), "head", "SIGSTOP", _WAITS),
    *each(("checkpoint",), "s3", "SIGSTOP", _WRITTEN_LATER),
    *each(("call",), "client_server", "SIGSTOP", _WAITS, way="client"),
]
OTHER_WAYS = [
    Case(victim, "SIGKILL", moment, happens, once=once, way=way)
    for way in ("client", "driver")
    for victim, moment, happens, once in (
        ("task", "call", "The work goes on; the next try goes on with it.", True),
        ("owner", "call", _ANEW, False),
        ("head", "call", _ANEW, False),
        ("head", "done", _FROM_CHECKPOINT, True),
    )
]
OF_CLIENT = [
    *each(
        ("before", "submit", "call", "checkpoint", "result", "use"), "client_server", "SIGKILL", _GOES_ON, way="client"
    ),
    *each(
        ("call",),
        "client_proxy",
        "SIGKILL",
        "Ray ends the head with it; the work is lost, and the next try starts it anew.",
        once=False,
        way="client",
    ),
]
# What fits into the tests of each release, and nothing else there tells.
REPRESENTATIVE = [
    "task-SIGKILL-submit-gateway",
    "gateway-SIGKILL-checkpoint-gateway",
    "keeper-SIGKILL-call-gateway",
    "s3-SIGKILL-checkpoint-gateway",
]
BRIEF = [
    Case("owner", "SIGSTOP", "call", _WAITS, stopped_seconds=SHORT_STOP),
    Case("worker", "SIGSTOP", "checkpoint", _WAITS, stopped_seconds=SHORT_STOP),
    Case("gateway", "SIGSTOP", "use", _WAITS, stopped_seconds=SHORT_STOP),
]


def params(cases: list[Case]) -> list[Any]:
    """Return the cases for parametrize: all are of ``make faults``, some of each release's tests too."""
    return [
        pytest.param(
            case,
            id=case.id,
            marks=[pytest.mark.slow, pytest.mark.faults] if case.id in REPRESENTATIVE else [pytest.mark.only_faults],
        )
        for case in cases
    ]
