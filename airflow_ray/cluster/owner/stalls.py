"""Which work waits for what cannot come, for what it holds itself, or to run again, and what to say of it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_ray.cluster.failures import failure
from airflow_ray.cluster.nodes import fits, plain
from airflow_ray.cluster.owner.cluster_look import ACTOR, GROUP, TASK, summed
from airflow_ray.cluster.owner.record import task_text
from airflow_ray.cluster.owner.scheduling import Verdict
from airflow_ray.cluster.protocol import FailureKind

if TYPE_CHECKING:
    from airflow_ray.cluster.owner.cluster_look import Holder, Look, Waiter

# What waits for less is being started, or has its turn soon.
STALLED_SECONDS = 8.0
# For so long a node that has gone may be started anew.
RETURN_SECONDS = 600.0
MAX_NAMED = 5

_LESS = "Let the function start fewer or smaller ones at a time, or give the cluster more"
_REMEDIES = {
    ACTOR: _LESS,
    GROUP: "Let it reserve at once what it needs in all (a trial of Ray Tune: by tune.PlacementGroupFactory), let it "
    "start less at a time, or give the cluster more",
    TASK: "Let its actors and placement groups leave room for child tasks, or give the cluster more",
}


class Work(NamedTuple):
    """A piece of work that has not ended.

    :param key: the id of its task.
    :param timeout: seconds that it may wait for resources; None where nothing is to be waited for that cannot come.
    :param groups: ids of the placement groups that it has told of.
    :param starts: how often it has begun to run.
    """

    record_id: str
    key: str
    timeout: float | None
    groups: frozenset[str]
    starts: int


class Stalls:
    """Judges one look at the cluster after another."""

    def __init__(self) -> None:
        # Who waits, and how often it had begun before: Ray tells a second late that it has begun again.
        self._seen_since: dict[tuple[str, int], float] = {}
        self._starts: dict[str, int] = {}
        # By its id: what each node has in all, and when it was last there.
        self._nodes: dict[str, tuple[dict[str, float], float]] = {}

    def judge(self, look: Look, works: list[Work], now: float) -> dict[str, Verdict]:
        """Return by their record ids what the stalled ones among ``works`` wait for.

        :param works: all that have not ended.
        :param now: by the monotonic clock, in seconds.
        """
        self._starts = {work.key: work.starts for work in works}
        seen = map(self._wait_of, look.waiters)
        self._seen_since = {wait: self._seen_since.get(wait, now) for wait in seen}
        self._nodes |= {node.node_id: (node.total, now) for node in look.nodes}
        self._nodes = {name: node for name, node in self._nodes.items() if now - node[1] < RETURN_SECONDS}
        sight = _Sight(look, works)
        stalls: dict[str, Verdict] = {}
        for work in works:
            late = [each for each in look.waiters if self._is_late(each, now) and sight.work_of(each) is work]
            if late and (stall := self._stall(sight, work, late, now)) is not None:
                stalls[work.record_id] = stall
        return stalls

    def _wait_of(self, waiter: Waiter) -> tuple[str, int]:
        return waiter.key, self._starts.get(waiter.key, 0)

    def _waited(self, waiter: Waiter, now: float) -> float:
        return now - self._seen_since[self._wait_of(waiter)]

    def _is_late(self, waiter: Waiter, now: float) -> bool:
        return self._waited(waiter, now) >= STALLED_SECONDS

    def _stall(self, sight: _Sight, work: Work, waiting: list[Waiter], now: float) -> Verdict | None:
        if own := [each for each in waiting if each.key == work.key]:
            # Before it has run for the first time, others say what it waits for.
            return _again(sight, work, own[0], self._waited(own[0], now)) if work.starts else None
        totals = [total for total, _ in self._nodes.values()]
        never = [each for each in waiting if not sight.can_ever(each, totals)]
        for each in never:
            if self._waited(each, now) >= (work.timeout or 0.0):
                return Verdict(error=_never(sight, work, each))
        if never:
            return Verdict(f"resources inside the task: {_waiting_text(never)}, which no node has yet")
        if to_come := [each for each in waiting if not sight.has_room(each, [])]:
            what = _waiting_text(to_come)
            return Verdict(f"resources inside the task: {what}, for which the nodes that there are have no room")
        return _held(sight, work, waiting)


def who_holds(look: Look, works: list[Work], names: set[str]) -> str:
    """Return in words who holds resources of these names, or an empty text where nobody is known to."""
    return _listed(_held_by_others(_Sight(look, works), None, names))


class _Sight:
    """One look, and which work each that was seen belongs to."""

    def __init__(self, look: Look, works: list[Work]) -> None:
        self.look = look
        self._by_key = {each.key: each for each in works}
        self._by_group = {group: each for each in works for group in each.groups}

    def work_of(self, each: Waiter | Holder) -> Work | None:
        if each.key in self._by_group:
            return self._by_group[each.key]
        return next((self._by_key[key] for key in self.line_of(each) if key in self._by_key), None)

    def line_of(self, each: Waiter | Holder) -> list[str]:
        """Return the keys of this one, of its maker, of the maker of that, and so on."""
        line = [each.key]
        key = each.maker
        while key and key not in line:
            line.append(key)
            key = self.look.makers.get(key, "")
        return line

    def name_of(self, holder: Holder) -> str:
        """Return who that is, to somebody who does not know the work that it belongs to."""
        work = self.work_of(holder)
        if work is None:
            return f"{_named(holder.kind, holder.name)} of another program"
        name = task_text(work.record_id)
        return name if holder.key == work.key else f"{_named(holder.kind, holder.name)} of {name}"

    def can_ever(self, waiter: Waiter, totals: list[dict[str, float]]) -> bool:
        """Whether nodes that have ``totals``, or one that the autoscaler may add, have what is asked."""
        addable = self.look.addable
        if addable is not None and all(fits(asked, addable) for asked in waiter.asks):
            return True
        whole = summed(list(waiter.asks))
        if waiter.strategy == "STRICT_PACK":
            return any(fits(whole, total) for total in totals)
        if waiter.strategy == "STRICT_SPREAD" and len(waiter.asks) > len(totals):
            return False
        return fits(whole, summed(totals)) and all(any(fits(asked, total) for total in totals) for asked in waiter.asks)

    def has_room(self, waiter: Waiter, held: list[Holder]) -> bool:
        """Whether all of it would find room if nobody but ``held`` held anything."""
        rooms = {node.node_id: dict(node.total) for node in self.look.nodes}
        for holder in held:
            room = rooms.get(holder.node_id, {})
            for name, amount in holder.holds.items():
                if not (holder.lends and name == "CPU"):
                    room[name] = room.get(name, 0) - amount
        if waiter.strategy == "STRICT_PACK":
            return any(fits(summed(list(waiter.asks)), room) for room in rooms.values())
        for asked in sorted(waiter.asks, key=lambda asks: -sum(asks.values())):
            place = next((node for node, room in rooms.items() if fits(asked, room)), None)
            if place is None:
                return False
            room = rooms.pop(place)
            if waiter.strategy != "STRICT_SPREAD":
                rooms[place] = {name: amount - asked.get(name, 0) for name, amount in room.items()}
        return True


def _again(sight: _Sight, work: Work, waiter: Waiter, seconds: float) -> Verdict:
    """Return what work waits for that Ray is to run again, since the process or the node that ran it was lost.

    :param seconds: since Ray began to look for a node.
    """
    (asked,) = waiter.asks
    nodes = [plain(node.total) for node in sight.look.nodes]
    if work.timeout is not None and seconds >= work.timeout:
        reason = " It had run before, until its process or node was lost."
        kind = FailureKind.SCHEDULING_TIMEOUT
        return Verdict(error=failure(kind, seconds=work.timeout, asked=asked, nodes=nodes, reason=reason))
    if work.timeout is None and seconds >= RETURN_SECONDS and not sight.can_ever(waiter, nodes):
        return Verdict(error=failure(FailureKind.INFEASIBLE, seconds=None, asked=asked, nodes=nodes, reason=""))
    yet = "" if any(fits(asked, node) for node in nodes) else " No node has so much yet."
    return Verdict(
        f"resources to run again, since its process or node was lost: asked for {_asked(waiter)}. "
        f"{_free(sight, set(asked))}{yet}"
    )


def _held(sight: _Sight, work: Work, waiting: list[Waiter]) -> Verdict | None:
    """Return what it waits for that others hold, or it itself; None where something of its own ends sooner or later."""
    own = [each for each in sight.look.holders if sight.work_of(each) is work]
    lines = {key for waiter in waiting for key in sight.line_of(waiter)}
    staying = [each for each in own if _stays(each, lines, sight.look.busy)]
    blocked = next((waiter for waiter in waiting if not sight.has_room(waiter, staying)), None)
    if blocked is not None:
        alike = [each for each in waiting if each.kind == blocked.kind]
        return Verdict(_own_text(sight, work, blocked, alike, staying))
    names = {name for waiter in waiting for asked in waiter.asks for name in asked}
    others = _held_by_others(sight, work, names)
    if len(staying) < len(own) or not others:
        return None
    what = _waiting_text(waiting)
    return Verdict(f"resources inside the task: {what}. {_free(sight, names)} Held by {_listed(others)}")


def _held_by_others(sight: _Sight, work: Work | None, names: set[str]) -> Counter[str]:
    others = Counter[str]()
    for holder in sight.look.holders:
        holds = _only(holder.holds, names)
        if holds and not holder.lends and (work is None or sight.work_of(holder) is not work):
            others[f"{sight.name_of(holder)} {holds}"] += 1
    return others


def _stays(holder: Holder, lines: set[str], busy: frozenset[str]) -> bool:
    """Whether what is held comes free only when somebody ends who waits, or whom nobody ends.

    :param lines: the keys of all that wait, and of who made them.
    """
    if holder.kind == TASK:
        return holder.key in lines
    return bool(holder.users & lines) or not holder.users & busy


def _never(sight: _Sight, work: Work, waiter: Waiter) -> dict[str, Any]:
    waited = "" if work.timeout is None else f" It has waited for scheduling_timeout={work.timeout:g} seconds."
    nodes = [plain(node.total) for node in sight.look.nodes]
    return failure(FailureKind.CHILD_INFEASIBLE, what=_waiting_text([waiter]), nodes=nodes, reason=waited)


def _own_text(sight: _Sight, work: Work, blocked: Waiter, waiting: list[Waiter], own: list[Holder]) -> str:
    most = summed(list(blocked.asks))
    names = set(most)
    held = Counter(
        f"{'the task itself' if each.key == work.key else f'its {_named(each.kind, each.name)}'} {holds}"
        for each in own
        if not each.lends and (holds := _only(each.holds, names))
    )
    itself = [each for each in own if each.key == work.key and set(each.holds) & names]
    others = [each for each in own if each.key != work.key]
    remedy = _REMEDIES[blocked.kind]
    if itself and sight.has_room(blocked, others):
        free = sight.look.free()
        short = sorted(name for name in set(itself[0].holds) & names if free.get(name, 0) < most[name])
        fewer = " and ".join(_ARGUMENTS.get(name, f"resources without {name!r}") for name in short)
        remedy = f"Give the task {fewer}, since it only waits for what it has started, or give the cluster more"
    return (
        f"resources that the task holds itself: {_waiting_text(waiting)}. {_free(sight, names)} Held by "
        f"{_listed(held)}, which come free only when they end. {remedy}"
    )


_ARGUMENTS = {"CPU": "num_cpus=0", "GPU": "num_gpus=0", "memory": "no memory"}


def _free(sight: _Sight, names: set[str]) -> str:
    free = sight.look.free()
    return f"Free in the cluster: { {name: _whole(free.get(name, 0)) for name in sorted(names)} }."


def _waiting_text(waiters: list[Waiter]) -> str:
    counts = Counter(f"{_named(each.kind, each.name)} that asks for {_asked(each)}" for each in waiters)
    return _listed(counts)


def _asked(waiter: Waiter) -> str:
    bundles = Counter(str(_only(asked, set(asked))) for asked in waiter.asks)
    told = [text if count == 1 else f"{count} times {text}" for text, count in bundles.items()]
    strategy = f" ({waiter.strategy})" if waiter.strategy.startswith("STRICT") else ""
    return " and ".join(told) + strategy


def _listed(counts: Counter[str]) -> str:
    told = [text if count == 1 else f"{count} times {text}" for text, count in counts.most_common(MAX_NAMED)]
    more = len(counts) - len(told)
    return ", ".join([*told, *([f"{more} more"] if more > 0 else [])])


def _named(kind: str, name: str) -> str:
    return f"{kind} {name}".rstrip()


def _only(resources: dict[str, float], names: set[str]) -> dict[str, float]:
    return {name: _whole(amount) for name, amount in sorted(resources.items()) if amount and name in names}


def _whole(amount: float) -> float:
    return int(amount) if amount == int(amount) else round(amount, 4)
