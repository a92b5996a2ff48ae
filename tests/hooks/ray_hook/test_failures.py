"""What a user is told whose code fails around the callable: in its errors, inputs and results, and in nested tasks."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_ray import skip
from airflow_ray._compat import AirflowFailException, AirflowSkipException
from airflow_ray.exceptions import RayPicklingError, RayResultError, RayTaskFailedError
from tests.conftest import new_uri
from tests.hooks.ray_hook.test_verbs import run

TESTS = Path(__file__).parents[2]
# Airflow finds this package as a provider, and can be imported only where that can.
WITH_AIRFLOW = {"env_vars": {"PYTHONPATH": str(TESTS.parent)}}
WITHOUT_AIRFLOW = {"env_vars": {"PYTHONPATH": str(TESTS / "without_airflow")}}


class NoTextError(Exception):
    def __str__(self):
        raise KeyError("no text")


class UnreadableError(Exception):
    """Needs an argument that its pickle does not have."""

    def __init__(self, first, second):
        super().__init__(first)


class Unreadable:
    def __reduce__(self):
        return _refuse, ()


def _refuse():
    raise LookupError("not today")  # the line of the input


class Unpicklable:
    def __init__(self, error):
        self.error = error

    def __reduce__(self):
        raise self.error  # the line of the result


class NoNews(AirflowSkipException):
    """Of a user."""


# Errors of the callable


def test_exception_whose_text_fails_is_told_with_type_and_line(hook, uri):
    def fail():
        raise NoTextError  # this line

    with pytest.raises(RayTaskFailedError) as caught:
        run(hook, uri, fail)
    assert caught.value.exception_type.endswith("NoTextError")
    assert "raise NoTextError  # this line" in str(caught.value)


def test_exception_of_a_nested_task_is_told_and_not_its_wrapping(hook, uri):
    def fail():
        import ray

        @ray.remote
        def inner():
            raise ZeroDivisionError("inside")  # the inner line

        ray.get(inner.remote())

    with pytest.raises(RayTaskFailedError) as caught:
        run(hook, uri, fail)
    assert (caught.value.exception_type, caught.value.exception_message) == ("ZeroDivisionError", "inside")
    assert "# the inner line" in str(caught.value)


@pytest.mark.slow
def test_exception_of_an_actor_is_told_and_not_its_wrapping(hook, uri):
    def fail():
        import ray

        @ray.remote
        class Inner:
            def fail(self):
                raise ZeroDivisionError("inside")  # the inner line

        ray.get(Inner.remote().fail.remote())

    with pytest.raises(RayTaskFailedError, match="# the inner line") as caught:
        run(hook, uri, fail)
    assert caught.value.exception_type == "ZeroDivisionError"


@pytest.mark.slow
def test_exception_of_a_nested_task_that_cannot_be_unpickled_is_named(hook, uri):
    def fail():
        import ray

        @ray.remote
        def inner():
            raise UnreadableError("one", "two")  # the inner line

        ray.get(inner.remote())

    with pytest.raises(RayTaskFailedError, match="UnreadableError"):
        run(hook, uri, fail)


# Inputs and results


def test_input_that_cannot_be_unpickled_is_named_with_type_and_line(hook, uri):
    bad = new_uri(hook.ray_conn_id, "bad")
    run(hook, uri, lambda: "fine")
    run(hook, bad, Unreadable)
    with pytest.raises(RayPicklingError) as caught:
        run(hook, new_uri(hook.ray_conn_id), print, uri, bad)
    text = str(caught.value)
    assert f"The input {bad} cannot be unpickled on the Ray cluster: LookupError: not today." in text
    assert "# the line of the input" in text


@pytest.mark.slow
def test_input_that_only_its_own_environment_can_unpickle_is_named(hook, uri, tmp_path):
    (tmp_path / "only_there.py").write_text("class Thing:\n    pass\n")

    def make():
        import only_there

        return only_there.Thing()

    run(hook, uri, make, runtime_env={"env_vars": {"PYTHONPATH": str(tmp_path)}})
    with pytest.raises(RayPicklingError, match=f"The input {uri} cannot .*ModuleNotFoundError.*only_there"):
        run(hook, new_uri(hook.ray_conn_id), print, uri)


def test_result_that_cannot_be_pickled_is_told_with_type_and_line(hook, uri):
    with pytest.raises(RayResultError, match=r"cannot be pickled.*LookupError: not today") as caught:
        run(hook, uri, lambda: Unpicklable(LookupError("not today")))
    assert "# the line of the result" in str(caught.value)


def test_one_of_several_results_that_cannot_be_pickled_is_named(hook, uri):
    with pytest.raises(RayResultError, match="TypeError: output 'bad': cannot pickle 'generator'"):
        run(hook, uri, lambda: {"good": 1, "bad": (each for each in "ab")}, multiple_outputs=True)


@pytest.mark.slow
@pytest.mark.parametrize("error", [SystemExit(1), NoTextError()], ids=["exit", "no text"])
def test_result_whose_pickling_ends_the_process_is_told_and_made_once(hook, uri, tmp_path, error):
    runs = tmp_path / "runs"

    def make():
        with runs.open("a") as file:
            file.write("x")
        return Unpicklable(error)

    with pytest.raises(RayResultError, match="cannot be pickled"):
        run(hook, uri, make)
    assert runs.read_text() == "x"


# What Airflow understands


def nested(function):
    def outer():
        import ray

        ray.get(ray.remote(function).remote())

    return outer


def skips():
    raise NoNews("nothing new")


def gives_up():
    raise AirflowFailException("for good")


def skips_by_function():
    skip("nothing new")


def skips_by_import():
    from airflow_ray import skip

    skip("nothing new")


@pytest.mark.parametrize(
    ("function", "cls"),
    [
        (skips, AirflowSkipException),
        (nested(skips), AirflowSkipException),
        pytest.param(gives_up, AirflowFailException, marks=pytest.mark.slow),
        pytest.param(nested(gives_up), AirflowFailException, marks=pytest.mark.slow),
        (skips_by_function, AirflowSkipException),
        pytest.param(nested(skips_by_function), AirflowSkipException, marks=pytest.mark.slow),
        (skips_by_import, AirflowSkipException),
    ],
    ids=["subclass", "nested subclass", "fail", "nested fail", "skip", "nested skip", "imported skip"],
)
@pytest.mark.parametrize(
    "env", [pytest.param(WITH_AIRFLOW, marks=pytest.mark.slow), WITHOUT_AIRFLOW], ids=["airflow", "none"]
)
def test_what_airflow_understands_reaches_it(hook, uri, function, cls, env):
    with pytest.raises(cls, match=r"nothing new|for good") as caught:
        run(hook, uri, function, runtime_env=env)
    assert type(caught.value) is cls
