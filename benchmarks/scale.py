"""How the owner grows: records held, work submitted, and a mapped task of many instances."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
import uuid
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_ray.hooks.ray import RayHook
from airflow_ray.object_uri import ObjectURI
from benchmarks.measure import REPEATS, Result, at_least, noise, timed
from benchmarks.plain_ray import run_by_ray
from benchmarks.servers import DRIVER, OWNER_PROCESS, ray_head

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tools.ray_cluster import RayHead

DESCRIBED = 20
# Start the workers.
WARM_UP_SUBMITS = 10
SUBMITS_TIMES = 0.8


def run(steps: tuple[int, ...], held: int, mapped: int, repeats: int = REPEATS) -> Iterator[Result]:
    """Yield the results.

    :param steps: how many are submitted one after another, and held at once, from few to many.
    :param held: records at the end.
    :param mapped: number of instances of a mapped task; 0 for no such run.
    """
    with ray_head() as head:
        with RayHook(DRIVER).connect() as hook:
            _submitted(hook, WARM_UP_SUBMITS, uuid.uuid4().hex)
            for number in steps[:-1]:
                dag_id = uuid.uuid4().hex
                yield from _submits(hook, number, repeats, dag_id)
                hook.release(dag_id=dag_id)
            records = _Records(hook, head)
            for number in steps:
                yield from records.hold(number)
            # These are among those that are held then.
            yield from _submits(hook, steps[-1], repeats, records.dag_id)
            yield from records.hold(held)
            yield records.released()
        if mapped:
            yield from _mapped(mapped)


def _submits(hook: RayHook, number: int, repeats: int, dag_id: str) -> Iterator[Result]:
    """Submit work that does nothing, next to a minimal actor that submits the same."""
    bare = _bare_submitter(hook)
    rates: dict[str, list[float]] = {"submits": [], "submits bare": [], "works": [], "works bare": []}
    _submitted_bare(hook, bare, min(number, WARM_UP_SUBMITS))
    for _ in range(repeats):
        figures = {"": _submitted(hook, number, dag_id), " bare": _submitted_bare(hook, bare, number)}
        for suffix, (submitted, ended) in figures.items():
            rates[f"submits{suffix}"].append(number / submitted)
            rates[f"works{suffix}"].append(number / ended)
    medians = {name: statistics.median(measured) for name, measured in rates.items()}
    target = at_least(SUBMITS_TIMES)
    yield Result(
        f"scale: {number} submits", medians["submits"], "1/s", medians["submits bare"], noise(rates["submits"]), target
    )
    yield Result(
        f"scale: {number} submits until all have ended",
        medians["works"],
        "1/s",
        medians["works bare"],
        noise(rates["works"]),
        target,
    )


def _submitted(hook: RayHook, number: int, dag_id: str) -> tuple[float, float]:
    """Return the seconds until the last is submitted, and until the last has ended."""
    uris = [ObjectURI(DRIVER, dag_id, "run", uuid.uuid4().hex) for _ in range(number)]
    started = time.perf_counter()
    for uri in uris:
        hook.submit(_nothing, uri=uri)
    submitted = time.perf_counter() - started
    for uri in uris:
        hook.wait(uri)
    return submitted, time.perf_counter() - started


def _submitted_bare(hook: RayHook, submitter: Any, number: int) -> tuple[float, float]:
    import ray
    from ray import cloudpickle

    def submit() -> tuple[float, float]:
        started = time.perf_counter()
        for _ in range(number):
            ray.get(submitter.submit.remote(cloudpickle.dumps(_nothing)))
        submitted = time.perf_counter() - started
        ray.get(submitter.until_all_ended.remote())
        return submitted, time.perf_counter() - started

    return run_by_ray(hook, submit)


class BareSubmitter:
    """The least that lets an actor own results: it submits work and holds the refs."""

    def __init__(self) -> None:
        import ray

        self._run = ray.remote(_unpickled_and_called)
        self._refs: list[Any] = []

    async def submit(self, pickled: bytes) -> None:
        """Run a pickled function."""
        self._refs.append(self._run.remote(pickled))

    async def until_all_ended(self) -> None:
        """Return when all work has ended, and forget it."""
        for ref in self._refs:
            await ref
        self._refs.clear()


def _bare_submitter(hook: RayHook) -> Any:
    import ray

    return run_by_ray(hook, lambda: ray.remote(num_cpus=0)(BareSubmitter).remote())


def _unpickled_and_called(pickled: bytes) -> Any:
    import pickle

    return pickle.loads(pickled)()


def _nothing() -> None:
    """Do nothing."""


class _Records:
    """Records that the owner holds, more and more of them, until they are released."""

    def __init__(self, hook: RayHook, head: RayHead) -> None:
        self.dag_id = uuid.uuid4().hex
        self._hook = hook
        (self._owner,) = head.processes(OWNER_PROCESS)
        self._before = self._owner.memory_info().rss

    def hold(self, number: int) -> Iterator[Result]:
        """Add records until there are so many, and yield what they cost."""
        held = len(self._hook.list_objects(self.dag_id))
        _submitted(self._hook, number - held, self.dag_id)
        grown = (self._owner.memory_info().rss - self._before) / number / 1000
        yield Result(f"scale: memory of each of {number} records", grown, "kB")
        listed = [timed(partial(self._hook.list_objects, self.dag_id))() for _ in range(REPEATS)]
        yield Result(
            f"scale: list_objects of {number} records", 1000 * statistics.median(listed), "ms", noise=noise(listed)
        )
        uris = [each["uri"] for each in self._hook.list_objects(self.dag_id)]
        described = [timed(partial(self._hook.describe, uri))() for uri in uris[-DESCRIBED:]]
        yield Result(
            f"scale: describe one of {number} records",
            1000 * statistics.median(described),
            "ms",
            noise=noise(described),
        )

    def released(self) -> Result:
        """Release them all."""
        number = len(self._hook.list_objects(self.dag_id))
        seconds = timed(partial(self._hook.release, dag_id=self.dag_id))()
        return Result(f"scale: release of {number} records", 1000 * seconds, "ms")


def _mapped(number: int) -> Iterator[Result]:
    """Run a DAG in a process of its own, and count what came of the instances of its mapped task."""
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True, capture_output=True)
    command = [sys.executable, "-m", "benchmarks.mapped_dag", DRIVER, str(number)]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    seconds, received = finished.stdout.split()[-2:]
    yield Result(
        f"scale: instances of {number} mapped that arrived", int(received), "instances", target=at_least(number)
    )
    yield Result("scale: each mapped instance, in dag.test", 1000 * float(seconds) / number, "ms")
