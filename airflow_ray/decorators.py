"""``ray_task``: a function becomes a task that runs on Ray."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from airflow_ray._compat import DecoratedOperator, task_decorator_factory
from airflow_ray.client.submission.callables import check_callable
from airflow_ray.operators.python import RayPythonOperator

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from airflow.sdk.bases.decorator import TaskDecorator


class _RayDecoratedOperator(DecoratedOperator, RayPythonOperator):
    """The operator behind :func:`ray_task`."""

    template_fields: Sequence[str] = RayPythonOperator.template_fields
    template_fields_renderers = RayPythonOperator.template_fields_renderers
    custom_operator_name = "@task.ray"

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any],
        op_kwargs: Mapping[str, Any],
        **kwargs: Any,
    ) -> None:
        call: dict[str, Any] = {"python_callable": python_callable, "op_args": op_args, "op_kwargs": op_kwargs}
        super().__init__(kwargs_to_upstream=call, **call, **kwargs)


def ray_task(
    python_callable: Callable[..., Any] | None = None,
    multiple_outputs: bool | None = None,
    **kwargs: Any,
) -> TaskDecorator:
    """Make a function a task that runs on Ray; ``@task.ray`` is the same.

    Used bare or with arguments, with ``.override()``, ``.partial()`` and ``.expand()`` as every Airflow
    task decorator.

    :param python_callable: the function.
    :param multiple_outputs: see :class:`~airflow_ray.operators.python.RayPythonOperator`; by default True
        for a function whose annotation says that it returns a dict, as with ``@task``.
    :param kwargs: further arguments of :class:`~airflow_ray.operators.python.RayPythonOperator`.
    :raises RayConfigurationError: the function is a generator function, or no plain one.

    >>> @ray_task(num_cpus=2)
    ... def train(frame):
    ...     return frame.describe()
    """
    if python_callable is None:
        decorator: TaskDecorator = functools.partial(ray_task, multiple_outputs=multiple_outputs, **kwargs)  # type: ignore[assignment]
        return decorator
    # A mapped task is made when it runs.
    check_callable(python_callable, "The function")
    return task_decorator_factory(
        python_callable=python_callable,
        multiple_outputs=multiple_outputs,
        decorated_operator_class=_RayDecoratedOperator,
        **kwargs,
    )
