"""What a callable's tasks and actors write is in the log of its work: whole, in order, once, at its level."""

from __future__ import annotations

import re
from typing import Any

import pytest

from airflow_ray.hooks.ray import RayHook
from tests.conftest import new_uri

LINES = 20_000


@pytest.fixture(scope="module")
def hook(head):
    with RayHook("ray_gateway").connect() as hook:
        yield hook


def lines_of(hook: RayHook, fn: Any, *args: Any, **options: Any) -> list[tuple[str, str]]:
    """Run a callable and return the level and the text of each line, as somebody gets them who follows it."""
    uri = new_uri(hook.ray_conn_id)
    hook.submit(fn, *args, uri=uri, **options)
    got = []
    for progress in hook.client.follow(uri):
        got += list(zip(progress.levels, progress.lines, strict=True))
    assert progress.state == "SUCCEEDED", progress.record
    return got


def said_by(who: str, lines: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return what one has said, without who it was; ``who`` is a pattern."""
    pattern = re.compile(rf"\({who} pid=\d+ node=[\d.]+\) ?(.*)")
    matches = [(level, pattern.fullmatch(line)) for level, line in lines]
    return [(level, match[1]) for level, match in matches if match]


def test_lines_of_tasks_and_actors_tell_who_has_written_them_and_keep_level_and_order(hook):
    def starts_children():
        import logging
        import sys

        import ray

        @ray.remote(num_cpus=0)
        class Trainer:
            def train(self, epochs):
                for epoch in range(epochs):
                    print("epoch", epoch)
                    logging.getLogger("trainer").warning("slow %d", epoch)
                    print("to stderr", file=sys.stderr)
                    logging.getLogger("trainer").info("done")
                print("no end of line", end="")

        @ray.remote(num_cpus=0)
        def part(number):
            print("part", number)
            logging.error("of part %d", number)

        print("before")
        ray.get(part.remote(1))
        ray.get(Trainer.remote().train.remote(50))
        ray.get(part.remote(2))
        print("after")

    lines = lines_of(hook, starts_children)
    trained = [
        ("I", f"epoch {n}") if k == 0 else ("W", f"WARNING trainer: slow {n}") if k == 1 else ("I", text)
        for n in range(50)
        for k, text in enumerate(("", "", "to stderr", "INFO trainer: done"))
    ]
    assert said_by("actor Trainer", lines) == [*trained, ("I", "no end of line")]
    assert [text.partition("part ")[2] for _, text in said_by("task part", lines)] == ["1", "1", "2", "2"]
    assert [level for level, _ in said_by("task part", lines)] == ["I", "E", "I", "E"]
    # What is awaited has all been said when the callable goes on.
    assert (lines[0], lines[-1]) == (("I", "before"), ("I", "after"))
    assert len(lines) == 2 + 201 + 4


def test_lines_of_what_children_start_are_of_the_same_work(hook):
    def starts_a_tree():
        import ray

        @ray.remote(num_cpus=0)
        class Leaf:
            def say(self):
                print("leaf of an actor")

        @ray.remote(num_cpus=0)
        def leaf():
            print("leaf of a task")

        @ray.remote(num_cpus=0)
        class Branch:
            async def grow(self):
                await Leaf.remote().say.remote()
                print("branch")

        @ray.remote(num_cpus=0)
        def trunk():
            ray.get([leaf.remote(), Branch.remote().grow.remote()])

        ray.get(trunk.remote())

    lines = lines_of(hook, starts_a_tree)
    assert said_by("task leaf", lines) == [("I", "leaf of a task")]
    assert said_by("actor Leaf", lines) == [("I", "leaf of an actor")]
    assert said_by("actor Branch", lines) == [("I", "branch")]
    assert len(lines) == 3


class Talkative:
    """Says something, and stores something, wherever it is unpickled."""

    def __setstate__(self, state):
        import ray

        print("unpickled")
        self.ref = ray.put(state) if ray.is_initialized() else None


def test_line_that_an_input_writes_as_it_is_unpickled_is_one_of_the_work_itself(hook):
    made = new_uri(hook.ray_conn_id)
    hook.submit(Talkative, uri=made)
    hook.wait(made)

    def uses(_talkative):
        print("used")

    # In a process that Ray has just started nobody listens yet.
    assert lines_of(hook, uses, made) in ([("I", "unpickled"), ("I", "used")], [("I", "used")])


def test_lines_of_the_tasks_of_this_package_itself_are_left_out(hook):
    def starts_one_of_its_own():
        import ray

        # As own_task names it, which is not installed there.
        @ray.remote(num_cpus=0, name="airflow-ray:copies")
        def copies():
            print("of the package")

        @ray.remote(num_cpus=0)
        def part():
            print("of the callable")

        ray.get(copies.remote())
        ray.get(part.remote())

    # Nobody tells the owner whose they are: it would let each wait for that before its value leaves.
    assert [text.rpartition(") ")[2] for _, text in lines_of(hook, starts_one_of_its_own)] == ["of the callable"]


@pytest.mark.slow
def test_flood_line_without_end_bytes_and_progress_bar_of_an_actor_are_whole(hook):
    def starts_a_flood():
        import sys

        import ray

        @ray.remote(num_cpus=0)
        class Flood:
            def write(self):
                for number in range(20_000):
                    print(number)
                print("x" * 5_000_000)
                sys.stdout.write("".join(f"\r{percent}%" for percent in range(101)) + "\n")
                print("\x00\x01\x1f")
                print("end")

        ray.get(Flood.remote().write.remote())

    said = [text for _, text in said_by("actor Flood", lines_of(hook, starts_a_flood))]
    assert said[:LINES] == [str(number) for number in range(LINES)]
    assert said[-3:] == ["100%", "\x00\x01\x1f", "end"]
    assert "".join(said[LINES:-3]) == "x" * 5_000_000


def test_processes_that_one_work_after_another_uses_tell_each_its_own(hook):
    def says(word):
        import os

        import ray

        def child(number):
            print(word, number)
            return os.getpid()

        tasks = ray.remote(num_cpus=0)(child)
        return [ray.get(tasks.remote(number)) for number in range(5)]

    for word in ("one", "two", "three"):
        lines = lines_of(hook, says, word)
        assert said_by("task child", lines) == [("I", f"{word} {number}") for number in range(5)]
        assert len(lines) == 5


def test_what_a_task_leaves_behind_that_goes_on_to_write_disturbs_nobody(hook):
    def leaves_a_thread():
        import threading
        import time

        import ray

        @ray.remote(num_cpus=0)
        def child():
            def write():
                for _ in range(20):
                    print("late")
                    time.sleep(0.05)

            threading.Thread(target=write, daemon=True).start()
            print("in time")

        ray.get(child.remote())

    assert ("I", "in time") in said_by("task child", lines_of(hook, leaves_a_thread))
    assert lines_of(hook, lambda: print("next")) == [("I", "next")]


@pytest.mark.slow
def test_lines_of_an_actor_on_another_node_arrive(hook, head):
    def starts_one_there():
        import ray

        @ray.remote(num_cpus=0, resources={"away": 1})
        class There:
            def say(self):
                print("far away on", ray.get_runtime_context().get_node_id())

        ray.get(There.remote().say.remote())

    node = head.add_node(away=1)
    try:
        ((_, line),) = said_by("actor There", lines_of(hook, starts_one_there))
    finally:
        node.kill()
    assert line.startswith("far away on ")


@pytest.mark.slow
def test_lines_of_trials_and_of_blocks_of_a_dataset_arrive(hook):
    def uses_libraries():
        import ray
        from ray import tune

        def block(batch):
            print("rows", len(batch["id"]))
            return batch

        def trial(config):
            import logging

            print("of trial", config["x"])
            logging.getLogger("trial").error("bad %d", config["x"])
            return {"score": config["x"]}

        ray.data.range(10).map_batches(block, batch_size=None).materialize()
        tune.Tuner(trial, param_space={"x": tune.grid_search([1, 2])}).fit()

    lines = lines_of(hook, uses_libraries, num_cpus=0)
    # Python may say something itself while Ray ends the process.
    of_trials = [each for each in said_by("actor trial", lines) if "trial" in each[1]]
    assert sorted(of_trials) == sorted(
        each for x in (1, 2) for each in (("I", f"of trial {x}"), ("E", f"ERROR trial: bad {x}"))
    )
    rows = [int(text.removeprefix("rows ")) for _, text in said_by(".*Map.*", lines) if text.startswith("rows ")]
    assert sum(rows) == 10


@pytest.mark.slow
def test_what_many_say_alike_is_told_once_where_that_is_asked_for(hook):
    def starts_many():
        import ray

        @ray.remote(num_cpus=0)
        class Each:
            def is_there(self):
                return True

            def say(self):
                print("the same of all")

        actors = [Each.remote() for _ in range(4)]
        # What is said some seconds after the others is told by itself.
        ray.get([each.is_there.remote() for each in actors])
        ray.get([each.say.remote() for each in actors])

    environment = {"runtime_env": {"env_vars": {"RAY_DEDUP_LOGS": "1"}}}
    first, others = said_by("actor Each", lines_of(hook, starts_many, num_cpus=0, **environment))
    assert first == ("I", "the same of all")
    assert "[repeated 3x across cluster]" in others[1]
