"""What is JSON that comes back equal, and what is not."""

from __future__ import annotations

import enum
import json
import math
from collections import OrderedDict, namedtuple
from datetime import date

import numpy as np
import pytest

from airflow_ray.cluster.values.json_values import reason_against_json

Point = namedtuple("Point", "x y")


class Level(enum.IntEnum):
    LOW = 1


def holding_itself():
    value = []
    value.append(value)
    return value


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        None,
        [1, 2.5, "é", True, None, {"a": {"b": []}}],
        -(2**63),
        2**64 - 1,
        OrderedDict(a=1),
        np.float64(1.5),
        Level.LOW,
        {"__version__": 1},
        {"__type": "of the user"},
    ],
    ids=repr,
)
def test_json_that_comes_back_equal_is_taken(value):
    assert reason_against_json(value) is None
    assert json.loads(json.dumps(value)) == value


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ((1, 2), "result is a tuple, which would come back as a list: return a list"),
        ({"a": [0, Point(1, 2)]}, "result['a'][1] is a tuple, which would come back as a list: return a list"),
        ({"a": {1: "b"}}, "result['a'] has the key 1 of type int, and keys of JSON are texts"),
        ({True: 1}, "result has the key True of type bool, and keys of JSON are texts"),
        ({None: 1}, "result has the key None of type NoneType, and keys of JSON are texts"),
        ([math.nan], "result[0] is nan, which JSON does not know"),
        ([np.float64("-inf")], "result[0] is -inf, which JSON does not know"),
        ([2**64], f"result[0] is {2**64:#x}, a whole number of more than 64 bits"),
        (["a\ud800"], "result[0] is a text that is no Unicode at character 1"),
        ({"\ud800": 1}, "the key '\\ud800' of result is a text that is no Unicode at character 0"),
        ({"when": date(2026, 1, 1)}, "result['when'] is of type datetime.date"),
        (np.int64(1), "result is of type numpy.int64"),
        (b"", "result is of type bytes"),
        ({"__classname__": "x"}, "result has the key '__classname__', which Airflow keeps for itself"),
        ([{"__type": 1, "__var": 2}], "result[0] has the key '__type', which Airflow keeps for itself"),
        (holding_itself(), "the result is nested too deep, or holds itself"),
        (nested(100_000), "the result is nested too deep, or holds itself"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_none_or_would_change_is_told_with_its_place(value, reason):
    assert reason_against_json(value) == reason
