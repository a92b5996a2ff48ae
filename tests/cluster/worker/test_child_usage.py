"""What the tasks and actors of a callable use is told with its work, apart from what the callable itself uses."""

from __future__ import annotations

import pytest

from airflow_ray.cluster.worker.child_usage import READ_SECONDS
from airflow_ray.hooks.ray import RayHook
from tests.conftest import new_uri

# A worker of Ray has some 200 MB itself when it has run other work.
BYTES = 600_000_000


@pytest.fixture(scope="module")
def hook(head):
    with RayHook("ray_gateway").connect() as hook:
        yield hook


def record_of(hook, function, *args):
    uri = new_uri(hook.ray_conn_id)
    hook.submit(function, *args, uri=uri)
    return hook.wait(uri)


def start_children(size):
    import time

    import ray

    @ray.remote(num_cpus=0)
    class Trainer:
        def train(self):
            until = time.process_time() + 1.0
            while time.process_time() < until:
                pass
            return len(b"x" * size)

    @ray.remote(num_cpus=0)
    def part():
        time.sleep(0.1)
        return len(b"x" * size)

    trainers = [Trainer.remote() for _ in range(2)]
    ray.get([*(each.train.remote() for each in trainers), part.remote()])


@pytest.mark.slow
def test_what_tasks_and_actors_use_is_told_apart(hook):
    record = record_of(hook, start_children, BYTES)
    children = record["children_used"]
    assert children["processes"] == 3
    assert children["memory"] > BYTES
    assert children["cpu_seconds"] > 1.8
    assert record["used"]["memory"] < BYTES


def test_what_a_child_writes_does_not_hide_what_it_uses_after_that(hook):
    def starts_child(size):
        import time

        import ray

        @ray.remote(num_cpus=0)
        class Trainer:
            def train(self):
                time.sleep(READ_SECONDS)
                print("begins")
                # The line is sent meanwhile.
                time.sleep(0.3)
                return len(b"x" * size)

        ray.get(Trainer.remote().train.remote())

    assert record_of(hook, starts_child, BYTES)["children_used"]["memory"] > BYTES


def test_libraries_that_ray_loads_for_the_first_value_are_not_taken_off_the_peak_before(hook):
    def starts_child(size):
        import ray

        @ray.remote(num_cpus=0)
        class Trainer:
            def train(self):
                import time

                time.sleep(READ_SECONDS)
                with open("/proc/self/status") as status:
                    before = next(line.split()[1] for line in status if line.startswith("RssAnon:"))
                b"x" * size
                return int(before) * 1024 + size

        return ray.get(Trainer.remote().train.remote())

    uri = new_uri(hook.ray_conn_id)
    hook.submit(starts_child, BYTES, uri=uri)
    told = hook.wait(uri)["children_used"]["memory"]
    assert told > 0.99 * hook.get(uri)


def test_value_of_a_child_waits_until_what_it_used_was_told(hook):
    def starts_child(size):
        import threading
        import time

        import ray

        @ray.remote(num_cpus=0)
        def part(seconds, size):
            time.sleep(seconds)
            return len(b"x" * size)

        # A process is there for the next one.
        ray.get(part.remote(0, 0))
        (output,) = (each for each in threading.enumerate() if each.name == "airflow-ray-child-output")
        # The word whose child it is waits as long as this is held, and so does what the child tells.
        with output._changed:
            ref = part.remote(READ_SECONDS, size)
            ready, _ = ray.wait([ref], timeout=READ_SECONDS + 2.0)
        ray.get(ref)
        return len(ready)

    uri = new_uri(hook.ray_conn_id)
    hook.submit(starts_child, BYTES, uri=uri)
    assert hook.wait(uri)["children_used"]["memory"] > BYTES
    assert hook.get(uri) == 0


def test_work_without_children_tells_of_none_though_its_process_has_run_other_work(hook):
    record_of(hook, len, [1])
    record = record_of(hook, lambda size: b"x" * size, 1_000_000)
    assert record["children_used"] is None
