"""Pipes between two threads, without a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest

from airflow_ray.cluster.gateway.pipes import MIN_BATCH_BYTES, PIPE_BYTES, Pipe, PipeBrokenError, Pipes

FULL = PIPE_BYTES


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as threads:
        yield threads


def full_pipe(pipe: Pipe) -> Pipe:
    pipe.put("first", FULL)
    return pipe


def is_waiting(call: Future[object]) -> bool:
    """Whether a call has begun and not ended; it had time to."""
    try:
        call.exception(0.3)
    except TimeoutError:
        return True
    return False


def test_batches_come_in_their_order(threads: ThreadPoolExecutor) -> None:
    pipe = Pipe()
    taken = threads.submit(lambda: list(pipe.batches()))
    for number in range(1000):
        pipe.put(number, PIPE_BYTES // 3)
    pipe.end()
    assert taken.result() == list(range(1000))


def test_all_that_was_put_before_the_end_arrives_though_an_end_has_gone() -> None:
    pipe = full_pipe(Pipe())
    pipe.end()
    pipe.break_off("gone")
    assert list(pipe.batches()) == ["first"]


def test_a_full_pipe_lets_the_sender_wait(threads: ThreadPoolExecutor) -> None:
    pipe = full_pipe(Pipe())
    second = threads.submit(pipe.put, "second", 1)
    assert is_waiting(second)
    assert next(pipe.batches()) == "first"
    second.result(300)


def test_batches_without_bytes_are_bounded_too() -> None:
    pipe = Pipe()
    for number in range(PIPE_BYTES // MIN_BATCH_BYTES):
        pipe.put(number, 0)
    with pytest.raises(PipeBrokenError):
        pipe.put("another", 0, patience=0.01)


def test_sender_is_told_that_nothing_is_taken() -> None:
    with pytest.raises(PipeBrokenError, match="took nothing"):
        full_pipe(Pipe()).put("second", 1, patience=0.01)


def test_receiver_is_told_that_nothing_comes() -> None:
    with pytest.raises(PipeBrokenError, match="sent nothing"):
        next(Pipe().batches(patience=0.01))


def test_receiver_gets_signs_while_nothing_comes() -> None:
    assert next(Pipe().batches(signs=0.01)) is None


def test_both_ends_that_wait_are_told_that_it_broke(threads: ThreadPoolExecutor) -> None:
    empty, full = Pipe(), full_pipe(Pipe())
    receiver = threads.submit(lambda: next(empty.batches()))
    sender = threads.submit(full.put, "second", 1)
    for pipe in (empty, full):
        pipe.break_off("gone")
    for call in (receiver, sender):
        assert str(call.exception(10)) == "gone"


def test_the_first_reason_stays() -> None:
    pipe = Pipe()
    pipe.break_off("first")
    pipe.break_off("second")
    with pytest.raises(PipeBrokenError, match="first"):
        pipe.put("batch", 1)


def test_a_broken_pipe_keeps_nothing() -> None:
    pipe = full_pipe(Pipe())
    pipe.break_off("gone")
    with pytest.raises(PipeBrokenError):
        next(pipe.batches())


def test_a_pipe_is_known_by_its_name_while_it_is_open() -> None:
    pipes = Pipes()
    with pipes.open("a") as pipe:
        assert pipes.get("a") is pipe
    assert pipes.get("a") is None


def test_another_one_of_its_name_is_refused() -> None:
    pipes = Pipes()
    with pipes.open("a") as pipe, pytest.raises(PipeBrokenError, match="that name"), pipes.open("a"):
        pass
    assert pipes.get("a") is None
    with pytest.raises(PipeBrokenError, match="other end"):
        pipe.put("batch", 1)


@contextmanager
def opened(pipes: Pipes, name: str) -> Iterator[Pipe]:
    """Open a pipe and wait for its turn."""
    with pipes.open(name) as pipe:
        for _ in pipes.wait_for_turn(pipe, signs=0.05):
            pass
        yield pipe


def test_a_further_one_waits_for_its_turn_with_signs() -> None:
    pipes = Pipes(at_most=1)
    with opened(pipes, "a"), pipes.open("b") as second:
        assert next(pipes.wait_for_turn(second, signs=0.01)) is None
    with opened(pipes, "c"):
        pass


def test_the_first_that_was_opened_comes_first() -> None:
    pipes = Pipes(at_most=1)
    with pipes.open("second to wait"), pipes.open("third") as third:
        assert next(pipes.wait_for_turn(third, signs=0.01)) is None


def test_one_that_is_given_up_while_it_waits_keeps_nobody_waiting() -> None:
    pipes = Pipes(at_most=1)
    with opened(pipes, "a"), pipes.open("b"):
        pass
    with opened(pipes, "c"):
        pass


def test_one_whose_receiver_takes_nothing_loses_its_turn() -> None:
    pipes = Pipes(at_most=1, patience=0.05)
    with opened(pipes, "a") as stuck:
        for batch in ("first", "second"):
            stuck.put(batch, 1)
        next(stuck.batches())
        with opened(pipes, "b") as other:
            assert pipes.get("b") is other
        with pytest.raises(PipeBrokenError, match="took nothing"):
            next(stuck.batches())


def test_one_that_is_whole_and_not_taken_loses_its_turn() -> None:
    pipes = Pipes(at_most=1, patience=0.05)
    with opened(pipes, "a") as stuck:
        for batch in ("first", "second"):
            stuck.put(batch, 1)
        stuck.end()
        next(stuck.batches())
        with opened(pipes, "b"):
            pass


def test_one_that_is_broken_loses_its_turn_while_its_thread_still_waits() -> None:
    pipes = Pipes(at_most=1, patience=30)
    with opened(pipes, "a") as stuck:
        stuck.break_off("the sending end sent nothing")
        with opened(pipes, "b"):
            pass


def test_one_whose_receiver_has_not_begun_keeps_its_turn() -> None:
    pipes = Pipes(at_most=1, patience=0.05)
    with opened(pipes, "a") as pipe, pipes.open("b") as other:
        full_pipe(pipe)
        waiting = pipes.wait_for_turn(other, signs=0.1)
        assert [next(waiting), next(waiting)] == [None, None]
        assert next(pipe.batches()) == "first"


def test_all_turns_come_back(threads: ThreadPoolExecutor) -> None:
    pipes = Pipes(at_most=2, patience=30)
    for _ in range(3):
        with ExitStack() as stack:
            for name in ("a", "b"):
                stack.enter_context(opened(pipes, name))
