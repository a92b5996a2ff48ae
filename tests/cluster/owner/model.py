"""What the documents promise of work and its objects, without a thought of how an owner does it."""

from __future__ import annotations

from dataclasses import dataclass, field

UNDER_WAY = "PENDING", "RUNNING"
# Work that has left nothing is forgotten after that, where the connection says nothing else.
FORGET_SECONDS = 25 * 3600.0

# Number, what its run is, how often something of that was cleared.
Try = tuple[int, str, int]
# Name of the work, and key.
Name = tuple[str, str]


@dataclass
class Work:
    """What is known under one name.

    ``number`` is how many works had begun before it, and tells what it makes. ``edition`` tells its objects from others
    that were there before or are there later. ``users`` are the numbers of the work that has its objects as inputs.
    """

    number: int | None
    edition: int
    state: str = "PENDING"
    fingerprint: str | None = None
    task_try: Try | None = None
    holder: str | None = None
    submission: str | None = None
    inputs: tuple[Name, ...] = ()
    input_editions: dict[str, int] = field(default_factory=dict)
    ttl: float | None = None
    used_at: float = 0.0
    users: set[int] = field(default_factory=set)
    outputs: dict[str, str] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    actors: list[str] = field(default_factory=list)

    @property
    def is_under_way(self) -> bool:
        return self.state in UNDER_WAY


@dataclass
class Model:
    """All that an owner should know, and should have told Ray."""

    now: float = 0.0
    works: dict[str, Work] = field(default_factory=dict)
    checkpoints: dict[Name, str] = field(default_factory=dict)
    # Objects that are gone, of which nobody has noticed yet.
    gone: set[str] = field(default_factory=set)
    cancelled_holders: set[str] = field(default_factory=set)
    ended_actors: list[str] = field(default_factory=list)
    begun: int = 0
    editions: int = 0

    # What is asked for

    def submit(
        self,
        name: str,
        fingerprint: str | None,
        task_try: Try | None,
        holder: str | None,
        submission: str | None,
        inputs: tuple[Name, ...],
        ttl: float | None,
    ) -> str:
        work = self.works.get(name)
        if work is not None and submission is not None and work.submission == submission:
            return "begun"
        if attached := self.attach(name, fingerprint, task_try, holder):
            return attached
        readable = [each for each in inputs if self.find(*each) is not None]
        if len(readable) < len(inputs):
            return "error no_object"
        editions = {each: self.works[each].edition for each, _ in inputs}
        self._forget(name)
        work = self._begin(name, Work(self.begun, 0, "PENDING", fingerprint, task_try, holder, submission, inputs))
        work.input_editions, work.ttl = editions, ttl
        for each, _ in inputs:
            self.works[each].users.add(self.begun)
        self.begun += 1
        return "begun"

    def attach(self, name: str, fingerprint: str | None, task_try: Try | None, holder: str | None) -> str:
        self._notice_all(name, fingerprint)
        work = self.works.get(name)
        if holder in self.cancelled_holders:
            return "error cancelled"
        if work is None or not self._goes_on(work, fingerprint, task_try, holder):
            return ""
        work.task_try, work.holder, work.used_at = task_try, holder, self.now
        return f"attached {work.state}"

    def cancel(self, name: str, holder: str | None) -> bool:
        if holder is not None:
            self.cancelled_holders.add(holder)
        work = self.works.get(name)
        if work is None or not work.is_under_way or holder not in (None, work.holder):
            return False
        self._end(work, "CANCELLED")
        return True

    def find(self, name: str, key: str) -> str | None:
        work = self.works.get(name)
        if work is None or work.state != "SUCCEEDED" or key not in work.outputs:
            return None
        work.used_at = self.now
        return work.outputs[key]

    def put(self, name: str, key: str, value: str, ttl: float | None) -> None:
        work = self.works.get(name)
        if work is None or work.state != "SUCCEEDED":
            self._forget(name)
            work = self._begin(name, Work(None, 0, "SUCCEEDED"))
        self.editions += 1
        work.fingerprint, work.ttl, work.used_at, work.edition = None, ttl, self.now, self.editions
        self._take(work, key, value)

    def restore(self, name: str, key: str, ttl: float | None) -> str | None:
        if self.find(name, key) is not None:
            return None
        if (name, key) not in self.checkpoints:
            return "checkpoint_not_found"
        work = self.works.get(name) or self._begin(name, Work(None, 0, "SUCCEEDED", ttl=ttl))
        if work.state == "SUCCEEDED":
            self._take(work, key, self.checkpoints[name, key])
            work.used_at = self.now
        return None

    def release(self, name: str) -> list[Name]:
        work = self.works.get(name)
        freed = [(name, key) for key in work.outputs] if work else []
        self._forget(name)
        return sorted(freed)

    def notice(self, name: str, key: str) -> None:
        work = self.works.get(name)
        if work is not None and work.outputs.get(key) in self.gone:
            del work.outputs[key]
            work.lost.add(key)

    def follow(self, name: str) -> None:
        if name in self.works:
            self.works[name].used_at = self.now

    # What happens

    def start(self, name: str) -> None:
        work = self.works.get(name)
        if work is not None and work.state == "PENDING":
            work.state = "RUNNING"
            self.ended_actors += work.actors
            work.actors = []

    def make_actor(self, name: str, actor: str) -> None:
        work = self.works.get(name)
        if work is not None and work.is_under_way:
            work.actors.append(actor)

    def end(self, name: str, keys: tuple[str, ...] | None) -> None:
        """Let work end, with outputs of these keys or without success."""
        work = self.works.get(name)
        if work is None or not work.is_under_way:
            return
        if keys is not None:
            for key in keys:
                self._take(work, key, value_of(work.number, key))
        self._end(work, "FAILED" if keys is None else "SUCCEEDED")

    def let_pass(self, seconds: float) -> None:
        self.now += seconds
        for name, work in list(self.works.items()):
            in_use = work.users or work.is_under_way
            if work.ttl is not None and not in_use and work.used_at + work.ttl <= self.now:
                self._forget(name)

    def die(self) -> None:
        self.works.clear()
        self.cancelled_holders.clear()
        self.gone.clear()
        self.ended_actors.clear()
        self.begun = 0

    # Rules

    def _goes_on(self, work: Work, fingerprint: str | None, task_try: Try | None, holder: str | None) -> bool:
        """A later try of the same task, not cleared since, with the same call, goes on with what is under way.

        It takes what is done only if that would be made of the same again. So does the same try that asks once more.
        """
        if fingerprint is None or fingerprint != work.fingerprint:
            return False
        if (task_try is None) != (work.task_try is None):
            return False
        is_again = holder is not None and (holder, task_try) == (work.holder, work.task_try)
        if task_try is not None and work.task_try is not None and not is_again:
            number, run, clearings = task_try
            earlier, earlier_run, earlier_clearings = work.task_try
            if number <= 1 or number <= earlier or run != earlier_run:
                return False
            if work.state == "SUCCEEDED" and clearings != earlier_clearings:
                return False
        if work.is_under_way:
            return True
        same_inputs = all(
            name not in self.works or self.works[name].edition == then for name, then in work.input_editions.items()
        )
        return work.state == "SUCCEEDED" and not work.lost and same_inputs

    def _notice_all(self, name: str, fingerprint: str | None) -> None:
        """Whoever might take what is done looks whether that is there."""
        work = self.works.get(name)
        if work is not None and work.state == "SUCCEEDED" and work.fingerprint == fingerprint is not None:
            for key in list(work.outputs):
                self.notice(name, key)

    def _begin(self, name: str, work: Work) -> Work:
        self.editions += 1
        work.edition, work.used_at = self.editions, self.now
        self.works[name] = work
        return work

    def _take(self, work: Work, key: str, value: str) -> None:
        work.outputs[key] = value
        work.lost.discard(key)

    def _end(self, work: Work, state: str) -> None:
        work.state, work.used_at = state, self.now
        if state != "SUCCEEDED":
            self.ended_actors += work.actors
            work.actors = []
            work.ttl = FORGET_SECONDS if work.ttl is None else work.ttl
        for name, _ in work.inputs:
            producer = self.works.get(name)
            if producer is not None and work.number in producer.users:
                producer.users.remove(work.number)
                producer.used_at = self.now

    def _forget(self, name: str) -> None:
        work = self.works.pop(name, None)
        if work is not None:
            if work.is_under_way:
                self._end(work, "CANCELLED")
            self.ended_actors += work.actors


def value_of(number: int | None, key: str) -> str:
    """Return what the work of that number leaves under a key."""
    return f"{key} of work {number}"
