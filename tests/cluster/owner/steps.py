"""What somebody asks of an owner, or what happens to its work: each in the words of the model, and for real."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from airflow_ray.cluster.owner.actor import Owner
from tests.cluster.owner.driven import TARGET, LedgerRay
from tests.cluster.owner.fakes import PAYLOAD
from tests.cluster.owner.model import Model, Name, Try, value_of

NAMES = "d/r/a/-1", "d/r/b/-1", "d/q/c/-1"
KEYS = "return_value", "test"
NODE = "the run that ended", "n", 1
NO_PROCESS = "no process of the work was there"


class Step:
    """Something that takes a while, during which others happen."""

    def on_model(self, model: Model) -> Any:
        """Do it at once, and return the answer."""
        raise NotImplementedError

    async def on_owner(self, owner: Owner, ray: LedgerRay) -> Any:
        """Do it, and return the answer in the words of the model, or NO_PROCESS where only a process could do it."""
        raise NotImplementedError


@dataclass(frozen=True)
class Submit(Step):
    name: str
    fingerprint: str | None = None
    task_try: Try | None = None
    holder: str | None = None
    submission: str | None = None
    inputs: tuple[Name, ...] = ()
    ttl: float | None = None

    def on_model(self, model: Model) -> str:
        return model.submit(
            self.name, self.fingerprint, self.task_try, self.holder, self.submission, self.inputs, self.ttl
        )

    async def on_owner(self, owner: Owner, ray: LedgerRay) -> str:
        answer = await owner.submit(
            self.name,
            PAYLOAD,
            {},
            [(*each, "store") for each in self.inputs],
            {"max_retries": 0},
            **_attempt(self),
            submission=self.submission,
            ttl=self.ttl,
        )
        return _told(answer) or "begun"


@dataclass(frozen=True)
class Attach(Step):
    name: str
    fingerprint: str | None
    task_try: Try | None
    holder: str | None

    def on_model(self, model: Model) -> str:
        return model.attach(self.name, self.fingerprint, self.task_try, self.holder)

    async def on_owner(self, owner: Owner, ray: LedgerRay) -> str:
        return _told(await owner.attach(self.name, **_attempt(self)))


@dataclass(frozen=True)
class Cancel(Step):
    name: str
    holder: str | None

    def on_model(self, model: Model) -> bool:
        return model.cancel(self.name, self.holder)

    async def on_owner(self, owner: Owner, ray: LedgerRay) -> bool:
        return await owner.cancel(self.name, self.holder)


@dataclass(frozen=True)
class Release(Step):
    name: str

    def on_model(self, model: Model) -> list[Name]:
        return model.release(self.name)

    async def on_owner(self, owner: Owner, ray: LedgerRay) -> list[Name]:
        return sorted(await owner.release([self.name]))


@dataclass(frozen=True)
class ReleaseRun(Step):
    """Of a run everything goes, also what comes meanwhile; what was freed is told by no model."""

    run: str

    def on_model(self, model: Model) -> None:
        for name in [each for each in model.works if each.split("/")[1] == self.run]:
            model.release(name)

    async def on_owner(self, owner: Owner, ray: LedgerRay) -> None:
        await owner.release(None, "d", self.run)


@dataclass(frozen=True)
class Put(Step):
    name: str
    key: str
    ttl: float | None

    def on_model(self, model: Model) -> None:
        model.put(self.name, self.key, f"copy of {self}", self.ttl)

    async def on_owner(self, owner: Owner, ray: LedgerRay) -> Any:
        return await owner.adopt(self.name, self.key, [_Ref(self)], [], {"type": "object"}, self.ttl)


@dataclass(frozen=True)
class Get(Step):
    name: str
    key: str

    def on_model(self, model: Model) -> str | None:
        return model.find(self.name, self.key)

    async def on_owner(self, owner: Owner, ray: LedgerRay) -> Any:
        refs, _, _ = await owner.find(self.name, self.key)
        return refs[0] if refs else None


@dataclass(frozen=True)
class Restore(Step):
    name: str
    key: str
    ttl: float | None

    def on_model(self, model: Model) -> str | None:
        return model.restore(self.name, self.key, self.ttl)

    async def on_owner(self, owner: Owner, ray: LedgerRay) -> str | None:
        (error,) = await owner.restore([(self.name, self.key, TARGET)], None, self.ttl)
        return error["kind"] if error else None


@dataclass(frozen=True)
class Notice(Step):
    """A reader has found that an object is gone."""

    name: str
    key: str

    def on_model(self, model: Model) -> None:
        model.notice(self.name, self.key)

    async def on_owner(self, owner: Owner, ray: LedgerRay) -> None:
        await owner.forget_if_lost(self.name, self.key)


@dataclass(frozen=True)
class Start(Step):
    """The runner has started."""

    name: str

    def on_model(self, model: Model) -> None:
        model.start(self.name)

    async def on_owner(self, owner: Owner, ray: LedgerRay) -> str | None:
        if (task := ray.work_of(self.name)) is None:
            return NO_PROCESS
        if task not in ray.started:
            ray.started.append(task)
            await owner.announce_start(self.name, task.attempt, *NODE)
        return None


@dataclass(frozen=True)
class MakeActor(Step):
    name: str

    def on_model(self, model: Model) -> None:
        work = model.works.get(self.name)
        if work is not None:
            model.make_actor(self.name, f"actor of {work.number}")

    async def on_owner(self, owner: Owner, ray: LedgerRay) -> str | None:
        if (task := ray.work_of(self.name)) is None:
            return NO_PROCESS
        await owner.note_actor(self.name, task.attempt, f"actor of {ray.tasks.index(task)}")  # type: ignore[arg-type]
        return None


@dataclass(frozen=True)
class End(Step):
    """The work has ended: with outputs of these keys, or None for a failure."""

    name: str
    keys: tuple[str, ...] | None
    by_crash: bool = False

    def on_model(self, model: Model) -> None:
        model.end(self.name, self.keys)

    async def on_owner(self, owner: Owner, ray: LedgerRay) -> str | None:
        if (task := ray.work_of(self.name)) is None:
            return NO_PROCESS
        if self.keys is not None:
            number = ray.tasks.index(task)
            ray.end(task, **{key: value_of(number, key) for key in self.keys})
        elif self.by_crash:
            from ray.exceptions import WorkerCrashedError

            ray.under_way.remove(task)
            task.break_off(WorkerCrashedError())
        else:
            ray.end(task, {"kind": "callable", "type": "ValueError", "message": "no", "traceback": ""})
        return None


@dataclass(frozen=True)
class _Ref:
    """Of an object of a client's. A text would be the name of an upload."""

    put: Put

    def __str__(self) -> str:
        return str(self.put)


def _attempt(step: Submit | Attach) -> dict[str, Any]:
    names = "number", "run", "clearings"
    task_try = None if step.task_try is None else dict(zip(names, step.task_try, strict=True))
    sent = {"fingerprint": step.fingerprint, "holder": step.holder, "task_try": task_try}
    return {**sent, "checkpoint": None, "storage": None}


def _told(answer: Mapping[str, Any]) -> str:
    if "error" in answer:
        return f"error {answer['error']['kind']}"
    return f"attached {answer['attached']}" if "attached" in answer else ""


names = st.sampled_from(NAMES)
keys = st.sampled_from(KEYS)
fingerprints = st.sampled_from(["f", "f", "f", "f", "g", None])
runs = st.sampled_from(["one", "one", "one", "two"])
tries = st.sampled_from([None, None]) | st.tuples(st.integers(1, 3), runs, st.sampled_from([0, 0, 0, 1]))
holders = st.sampled_from([None, None, "first", "second", "third"])
times = st.sampled_from([None, 20.5, 60.5])


def steps_of(name: str) -> st.SearchStrategy[Step]:
    """Return steps that touch one name."""
    one = st.just(name)
    others = st.sampled_from([each for each in NAMES if each != name])
    inputs = st.lists(st.tuples(others, keys), max_size=2, unique=True).map(tuple)
    submissions = st.sampled_from([None, None, "call"])
    ends = st.sampled_from([("return_value",), ("return_value",), KEYS, None])
    submits = st.builds(Submit, one, fingerprints, tries, holders, submissions, inputs, times)
    # Without work nothing else does much.
    return st.one_of(
        *[submits] * 4,
        *[st.builds(End, one, ends, st.booleans())] * 3,
        st.builds(Attach, one, fingerprints, tries, holders),
        st.builds(Cancel, one, holders),
        st.builds(Release, one),
        st.builds(ReleaseRun, st.just(name.split("/")[1])),
        st.builds(Put, one, keys, times),
        st.builds(Get, one, keys),
        st.builds(Restore, one, keys, times),
        st.builds(Notice, one, keys),
        st.builds(Start, one),
        st.builds(MakeActor, one),
    )


STEPS = {name: steps_of(name) for name in NAMES}
steps = st.one_of(*STEPS.values())
# That meet each other.
overlapping = st.one_of(*(st.lists(each, min_size=2, max_size=3) for each in STEPS.values()))
