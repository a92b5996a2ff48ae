"""What an operator, the decorator and the hook refuse to run, and when."""

from __future__ import annotations

import functools

import pytest
import ray
from airflow.sdk import task

from airflow_ray.client.submission.callables import check_callable
from airflow_ray.decorators import ray_task
from airflow_ray.exceptions import RayConfigurationError
from airflow_ray.hooks.ray import RayHook
from airflow_ray.operators.python import RayPythonOperator
from tests.conftest import new_uri
from tests.dag_runs import new_dag


def numbers(count=3):
    yield from range(count)


async def late_numbers(count=3):
    for number in range(count):
        yield number


class Numbers:
    def __call__(self, count=3):
        yield from range(count)

    def method(self):
        yield from range(3)

    @classmethod
    def of_class(cls):
        yield from range(3)

    @staticmethod
    def static():
        yield from range(3)


def collected(function):
    @functools.wraps(function)
    def inner(*args):
        return list(function(*args))

    return inner


GENERATORS = {
    "function": numbers,
    "asynchronous function": late_numbers,
    "lambda": lambda: (yield),
    "partial": functools.partial(numbers, 2),
    "partial of a partial": functools.partial(functools.partial(numbers), 2),
    "object": Numbers(),
    "partial of an object": functools.partial(Numbers(), 2),
    "bound method": Numbers().method,
    "method of a class": Numbers.of_class,
    "static method": Numbers.static,
    "static method object": staticmethod(numbers),
}
PLAIN = {
    "function": len,
    "generator that is collected": collected(numbers),
    "class": Numbers,
    "partial of a class": functools.partial(Numbers),
    "coroutine function": functools.partial(ray.util.get_node_ip_address),
}


@ray.remote
def remote_function():
    return 1


@ray.remote
class RemoteClass:
    pass


@task
def decorated():
    return 1


@pytest.mark.parametrize("function", GENERATORS.values(), ids=GENERATORS)
def test_generator_function_is_refused(function):
    with pytest.raises(RayConfigurationError, match=r"is a generator function: .* return a list"):
        check_callable(function)


@pytest.mark.parametrize("function", PLAIN.values(), ids=PLAIN)
def test_callable_that_returns_is_taken(function):
    check_callable(function)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (decorated, r"decorated is a task of Airflow\. Name the plain function"),
        (remote_function, r"belongs to Ray, which calls it by \.remote\(\) only"),
        (RemoteClass, r"belongs to Ray"),
        ("text", r"python_callable must be callable, got 'text'"),
    ],
    ids=["task", "remote function", "remote class", "text"],
)
def test_what_others_call_is_refused_by_name(function, reason):
    with pytest.raises(RayConfigurationError, match=reason):
        RayPythonOperator(task_id="task", python_callable=function)


def test_operator_refuses_a_generator_function_when_the_dag_is_parsed():
    with pytest.raises(RayConfigurationError, match="python_callable numbers is a generator function"):
        RayPythonOperator(task_id="task", python_callable=numbers)


def test_mapped_operator_refuses_it_when_the_dag_is_parsed():
    with pytest.raises(RayConfigurationError, match="is a generator function"):
        RayPythonOperator.partial(task_id="task", python_callable=numbers).expand(op_args=[[1], [2]])


def test_mapped_operator_of_another_callable_is_made():
    with new_dag(params={}) as dag:
        RayPythonOperator.partial(task_id="task", python_callable=abs).expand(op_args=[[1], [2]])
    assert dag.task_ids == ["task"]


@pytest.mark.parametrize(
    "decorate", [ray_task, ray_task(num_cpus=0), task.ray, task.ray(num_cpus=0)], ids=["bare", "called", "task", "both"]
)
def test_decorator_refuses_it_before_it_is_mapped(decorate):
    with pytest.raises(RayConfigurationError, match="The function numbers is a generator function"):
        decorate(numbers)


def test_hook_refuses_it_before_it_connects():
    with pytest.raises(RayConfigurationError, match="The callable numbers is a generator function"):
        RayHook("ray_nowhere").submit(numbers, uri=new_uri("ray_nowhere"))
