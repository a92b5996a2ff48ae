"""What a child of a fork finds free that a thread of its parent held."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from airflow_ray.client.forks import cached_property, free_in_children

SECONDS = 20


class Computing:
    def __init__(self, gate: threading.Event) -> None:
        self.is_computing = threading.Event()
        self._gate = gate

    @cached_property
    def value(self) -> object:
        self.is_computing.set()
        assert self._gate.wait(SECONDS)
        return object()


@contextmanager
def computing() -> Iterator[tuple[Computing, list[object]]]:
    """Yield one whose value a thread computes until the context ends, and where the thread leaves it then."""
    gate, found = threading.Event(), []
    one = Computing(gate)
    thread = threading.Thread(target=lambda: found.append(one.value))
    thread.start()
    assert one.is_computing.wait(SECONDS)
    try:
        yield one, found
    finally:
        gate.set()
        thread.join()


def ends_in_child(function: Callable[[], object]) -> bool:
    """Return whether a function comes to its end in a child of a fork."""
    child = multiprocessing.get_context("fork").Process(target=function)
    child.start()
    child.join(SECONDS)
    child.kill()
    child.join()
    return child.exitcode == 0


def test_child_computes_a_property_while_a_thread_of_its_parent_computes_that_of_another_object():
    is_open = threading.Event()
    is_open.set()
    with computing():
        assert ends_in_child(lambda: Computing(is_open).value)


def test_two_threads_that_compute_a_property_at_once_get_the_same():
    with computing() as (one, of_thread):
        vars(one)["value"] = first = object()
    assert of_thread == [first]


def test_child_finds_a_lock_free_that_a_thread_of_its_parent_holds():
    lock, is_held, gate = free_in_children(threading.RLock()), threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            is_held.set()
            gate.wait(SECONDS)

    thread = threading.Thread(target=hold)
    thread.start()
    assert is_held.wait(SECONDS)
    try:
        assert ends_in_child(lock.acquire)
    finally:
        gate.set()
        thread.join()


def test_property_of_a_class_is_the_property_itself():
    assert isinstance(Computing.value, cached_property)
