"""Callables of all kinds on a real Ray head."""

from __future__ import annotations

import asyncio
import functools
import operator

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
        hook.wait(uri, timeout=120)
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
