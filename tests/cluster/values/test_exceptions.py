"""An exception becomes plain data, whatever its class does when it is asked."""

from __future__ import annotations

import pickle

import pytest
from ray.exceptions import RaySystemError, RayTaskError

from airflow_ray.cluster.values.exceptions import describe_exception


class Text(str):
    """A text that only this process knows."""


class FailsAsText(Exception):
    def __str__(self):
        raise KeyError("no text")


class ExitsAsText(Exception):
    def __str__(self):
        raise SystemExit


class IsNoText(Exception):
    def __str__(self):
        return 42


class HasText(Exception):
    def __str__(self):
        return Text("its own")


class IsFalse(Exception):
    def __bool__(self):
        raise ValueError("neither")

    def __len__(self):
        raise ValueError("none")

    def __eq__(self, other):
        raise ValueError("no idea")

    __hash__ = None


class HasNoNotes(Exception):
    @property
    def __notes__(self):
        raise ValueError("no notes")


class HasNoCause(Exception):
    @property
    def __cause__(self):
        raise ValueError("no cause")


def described(error):
    try:
        raise error
    except BaseException as raised:
        return describe_exception(raised)


@pytest.mark.parametrize(
    "cls", [FailsAsText, ExitsAsText, IsNoText, HasText, IsFalse, HasNoNotes, HasNoCause], ids=lambda cls: cls.__name__
)
def test_exception_that_fails_when_it_is_asked_is_told_with_type_and_line(cls):
    told = described(cls("text"))
    assert told["type"].endswith(cls.__name__)
    assert "raise error" in told["traceback"]
    assert [type(told[name]) for name in ("type", "message", "traceback")] == [str, str, str]


def test_text_that_cannot_be_had_says_why():
    assert (
        described(FailsAsText())["message"]
        == "<its text cannot be had: KeyError in tests.cluster.values.test_exceptions.FailsAsText.__str__>"
    )


def test_exception_that_is_its_own_cause_is_told():
    error = ValueError("again")
    error.__cause__ = error
    assert described(error)["message"] == "again"


def test_text_that_no_encoding_takes_is_told():
    assert described(ValueError("\ud800"))["message"] == "\\ud800"


@pytest.mark.parametrize("times", [1, 2])
def test_what_was_raised_in_another_task_is_told_and_not_its_wrapping(times):
    error = LookupError("of the user")
    for _ in range(times):
        error = RayTaskError("f", "Traceback\n  line of the user", error, "f", 1, "::1").as_instanceof_cause()
    told = described(error)
    assert (told["type"], told["message"]) == ("LookupError", "of the user")
    assert "line of the user" in told["traceback"]


def test_what_an_object_raises_as_it_is_unpickled_is_told():
    told = described(RaySystemError(LookupError("of the user"), "Traceback\n  line of the user"))
    assert (told["type"], told["message"]) == ("LookupError", "of the user")
    assert "line of the user" in told["traceback"]


def test_bases_are_told_by_name():
    class Own(FailsAsText):
        pass

    bases = described(Own())["bases"]
    assert "tests.cluster.values.test_exceptions.FailsAsText" in bases
    assert pickle.loads(pickle.dumps(bases)) == bases
