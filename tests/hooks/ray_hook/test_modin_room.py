"""Tasks of Modin's beside actors that hold all 4 CPUs of a cluster; Modin is a function of its name here."""

from __future__ import annotations

import pytest


def result_of(hook, uri, function, num_cpus=0):
    hook.submit(function, uri=uri, num_cpus=num_cpus)
    hook.wait(uri)
    return hook.get(uri)


def modin_task():
    """Return a task that tells after a while what it holds."""
    import ray

    def part(seconds=0.0):
        import time

        time.sleep(seconds)
        return ray.get_runtime_context().get_assigned_resources().get("CPU", 0)

    part.__module__ = "modin.of_a_test"
    return ray.remote(part)


def holder():
    """Return an actor that holds all CPUs, and works."""
    import ray

    class Holder:
        def ready(self):
            return True

    actor = ray.remote(Holder).options(num_cpus=4).remote()
    ray.get(actor.ready.remote())
    return actor


def test_part_of_a_frame_is_made_while_actors_hold_all_cpus(hook, uri):
    def make():
        import ray

        actor = holder()
        made = ray.get(modin_task().remote(), timeout=60)
        ray.kill(actor)
        return made

    assert result_of(hook, uri, make) == 0


def test_modin_asks_for_cpus_where_nothing_else_of_the_work_holds_them(hook, uri):
    def make():
        import time

        import ray

        before = ray.get(modin_task().remote())
        actor = holder()
        ray.kill(actor)
        # Ray tells the process of it some time later.
        while not ray.get(modin_task().remote()):
            time.sleep(0.1)
        return before

    assert result_of(hook, uri, make) == 1


@pytest.mark.slow
@pytest.mark.parametrize("num_cpus", [0, 4])
def test_parts_that_were_begun_are_awaited_before_an_actor_is_made(hook, uri, num_cpus):
    def make():
        import ray

        parts = [modin_task().remote(0.5) for _ in range(6)]
        holder()
        return len(ray.wait(parts, num_returns=len(parts), timeout=0)[0])

    assert result_of(hook, uri, make, num_cpus) == 6


def test_parts_that_nobody_needs_any_more_keep_no_actor_waiting(hook, uri):
    def make():
        modin_task().remote(0.5)
        holder()
        return True

    assert result_of(hook, uri, make)
