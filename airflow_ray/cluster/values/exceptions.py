"""What a record tells of an exception: read with care, since each part of it may be code of the user's that fails."""

from __future__ import annotations

import os
import traceback
from typing import Any

from airflow_ray.cluster.values.description import type_name

_CLUSTER_CODE = os.path.dirname(os.path.dirname(__file__)) + os.sep


def describe_exception(error: BaseException) -> dict[str, Any]:
    """Return ``error`` as plain data, its traceback without the frames of this package before those of the user.

    Of one that Ray has wrapped, since it comes from another task or an actor, type and message are those of the user's.
    """
    cause = users_error(error)
    return {
        "type": type_name(cause),
        "bases": [f"{cls.__module__}.{cls.__qualname__}" for cls in type(cause).__mro__],
        "message": text_of(cause),
        "traceback": _traceback_of(error),
    }


def users_error(error: BaseException) -> BaseException:
    """Return what was raised in the task or actor that ``error`` comes from, or by an object as it was unpickled.

    It is ``error`` itself where Ray has not wrapped any.
    """
    from ray.exceptions import RaySystemError, RayTaskError

    # Not isinstance, which asks the exception for its class; and that may be the user's, which finds attributes in its
    # own way.
    while issubclass(type(error), (RaySystemError, RayTaskError)):
        name = "cause" if issubclass(type(error), RayTaskError) else "client_exc"
        cause = vars(error).get(name)
        if cause is error or not isinstance(cause, BaseException):
            break
        error = cause
    return error


def text_of(error: BaseException) -> str:
    """Return the message of an exception, or why there is none."""
    try:
        # A class of the user's may be a text too, and would go wherever this goes.
        return str.encode(str(error), errors="backslashreplace").decode()
    # Whatever it is that a user's class does.
    except BaseException as raised:
        return f"<its text cannot be had: {type_name(raised)} in {type_name(error)}.__str__>"


def _traceback_of(error: BaseException) -> str:
    try:
        shown = traceback.TracebackException.from_exception(error)
        while shown.stack and shown.stack[0].filename.startswith(_CLUSTER_CODE):
            shown.stack.pop(0)
        return "".join(shown.format()).rstrip()
    # It asks the exception for its text, its notes and its cause.
    except BaseException:
        lines = traceback.format_tb(error.__traceback__)
        return "".join(["Traceback (most recent call last):\n", *lines, type_name(error)])
