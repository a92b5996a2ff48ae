"""Callables of all kinds on a real Ray head."""

from __future__ import annotations

import asyncio
import functools
import operator
import subprocess
import sys

import pytest

from tests.conftest import new_uri
from tests.hooks.ray_hook.test_verbs import run


async def later(value):
    await asyncio.sleep(0)
    return value


class Adder:
    def __init__(self, start):
        self.start = start

    def __call__(self, value):
        return self.start + value

    def method(self, value):
        return self.start + value

    async def later(self, value):
        return await later(self.start + value)

    @classmethod
    def of_class(cls, value):
        return cls(40).method(value)

    @staticmethod
    def static(value):
        return 40 + value


class Later:
    async def __call__(self, value):
        return await later(40 + value)


def traced(function):
    @functools.wraps(function)
    def inner(*args):
        return function(*args)

    return inner


@traced
def wrapped(value):
    return 40 + value


@traced
async def wrapped_later(value):
    return await later(40 + value)


@functools.lru_cache
def cached(value):
    return 40 + value


@functools.singledispatch
def dispatched(value):
    raise TypeError(value)


@dispatched.register
def _(value: int):
    return 40 + value


# Each is called with 2 and returns 42.
KINDS = {
    "function": wrapped,
    "lambda": lambda value: 40 + value,
    "built-in": functools.partial(operator.add, 40),
    "method caller": operator.methodcaller("__add__", 40),
    "bound method": Adder(40).method,
    "method of a class": Adder.of_class,
    "static method": Adder.static,
    "object": Adder(40),
    "partial": functools.partial(Adder.method, Adder(40)),
    "cached function": cached,
    "dispatched function": dispatched,
    "coroutine function": functools.partial(Adder.later, Adder(40)),
    "wrapped coroutine function": wrapped_later,
    "coroutine method": Adder(40).later,
    "coroutine object": Later(),
    "partial of a coroutine object": functools.partial(Later()),
}


def test_callable_of_each_kind_runs(hook):
    uris = {kind: new_uri(hook.ray_conn_id) for kind in KINDS}
    for kind, uri in uris.items():
        hook.submit(KINDS[kind], 2, uri=uri, num_cpus=0)
    for uri in uris.values():
        hook.wait(uri)
    assert {kind: hook.get(uri) for kind, uri in uris.items()} == dict.fromkeys(KINDS, 42)


def test_error_of_a_coroutine_is_that_of_the_callable(hook, uri):
    async def fail():
        await asyncio.sleep(0)
        raise ValueError("of a coroutine")

    with pytest.raises(Exception, match="The callable raised ValueError on the Ray cluster: of a coroutine"):
        run(hook, uri, fail)


@pytest.mark.slow
def test_ref_of_ray_is_returned_and_not_awaited(hook, uri):
    def make():
        import ray

        return ray.put(42)

    run(hook, uri, make)
    after = new_uri(hook.ray_conn_id)

    def use(ref):
        import ray

        return ray.get(ref)

    run(hook, after, use, uri)
    assert hook.get(after) == 42


SCRIPT = """
import functools
from airflow_ray.hooks.ray import RayHook
from airflow_ray.object_uri import ObjectURI

@functools.lru_cache
def cached(value):
    return value if value < 2 else cached(value - 1) + cached(value - 2)

@functools.singledispatch
def dispatched(value):
    return "something"

class Own:
    pass

@dispatched.register
def of_own(value: Own):
    return "own"

def both(value):
    return cached(value), dispatched(Own())

def given(function, value):
    return function(value)

uri, placed = (ObjectURI("ray_client", "script", "run", task_id) for task_id in ("task", "placed"))

def result_of(hook, *call):
    hook.submit(*call, uri=uri, generation="first")
    hook.wait(uri)
    return hook.get(uri)

with RayHook("ray_client").connect() as hook:
    hook.put([cached, dispatched], uri=placed)
    print("got", result_of(hook, cached, 10), result_of(hook, dispatched, Own()), result_of(hook, both, 10))
    print("got", result_of(hook, given, cached, 10), result_of(hook, given, dispatched, Own()))
    of_both = result_of(hook, lambda functions: [functions[0](10), functions[1](1)], placed)
    print("got", of_both, hook.get(placed)[0](10))
"""


@pytest.mark.slow
@pytest.mark.parametrize("way", ["file", "input"])
def test_cached_and_dispatched_functions_of_a_script_run(head, tmp_path, way):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, script if way == "file" else "-"]
    finished = subprocess.run(command, input=SCRIPT, capture_output=True, text=True)
    results = [line for line in finished.stdout.splitlines() if line.startswith("got")]
    assert results == ["got 55 own (55, 'own')", "got 55 own", "got [55, 'something'] 55"], finished.stderr
