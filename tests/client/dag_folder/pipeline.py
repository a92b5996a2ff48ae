"""A DAG file: the cluster, which lacks this package, cannot import it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import attr
import pandas as pd
import shapes
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import make_pipeline

from airflow_ray.decorators import ray_task  # noqa: F401


@dataclass(order=True)
class Config:
    rate: float


class Colour(Enum):
    RED = 1


class Point(NamedTuple):
    x: int


@attr.s(auto_attribs=True, slots=True)
class Job:
    name: str


class Scaler(TransformerMixin, BaseEstimator):
    def __init__(self, factor=1):
        self.factor = factor

    def __sklearn_is_fitted__(self):
        return True

    def fit(self, values, _=None):
        return self

    def transform(self, values):
        return [self.factor * value for value in values]


class Tile(shapes.Square):
    class Edge:
        pass

    def area(self):
        return super().area() + 1

    @functools.cached_property
    def edge(self):
        return self.Edge()


class Counted:
    made = 0


def late_basket():
    from late import Basket, Fruit

    return Basket(Fruit.APPLE)


def check_late(got):
    import late

    late.limit = 1
    return {
        "class": isinstance(got, late.Basket),
        "enum": got.fruit is late.Fruit.APPLE,
        "object of the import": isinstance(late.EMPTY, type(got)),
        "state of the module": got.is_within_limit(),
    }


def check_late_cube(got):
    import late

    return {"class": isinstance(got, late.Cube), "super": got.area() == 24 and late.Cube(1).area() == 6}


def late_cube():
    from late import Cube

    return Cube(2)


MAKERS = {
    "list": lambda: [Config(0.5), Colour.RED, Point(1), Job("a")],
    "pipeline": lambda: make_pipeline(Scaler(2), Scaler(3)),
    "frame": lambda: pd.DataFrame({"config": [Config(0.5), Config(0.7)], "n": [1, 2]}),
    "shapes": lambda: {"tile": Tile(2), "square": shapes.Square(3), "edge": Tile(1).edge},
    "late": late_basket,
    "late_cube": late_cube,
}
CHECKS = {
    "list": lambda got: {
        "dataclass": isinstance(got[0], Config),
        "equal": got[0] == Config(0.5),
        "enum": got[1] is Colour.RED,
        "tuple": isinstance(got[2], Point),
        "attrs": got[3] == Job("a"),
    },
    "pipeline": lambda got: {
        "class": all(isinstance(step, Scaler) for _, step in got.steps),
        "result": got.transform([1]) == [6],
    },
    "frame": lambda got: {"class": isinstance(got["config"][1], Config), "equal": got["config"][0] == Config(0.5)},
    "shapes": lambda got: {
        "subclass": isinstance(got["tile"], Tile),
        "base": isinstance(got["tile"], shapes.Shape),
        "super": got["tile"].area() == 5,
        "inner": isinstance(got["edge"], Tile.Edge),
        "cached_property": got["square"].diagonal == 3 * 2**0.5,
        "lru_cache of a method": got["square"].scaled(2).side == 6,
        "lru_cache": shapes.fibonacci(50) == 12586269025,
        "singledispatch": [shapes.kind_of(got["tile"]), shapes.kind_of(1)] == ["shape", "another"],
    },
    "late": check_late,
    "late_cube": check_late_cube,
}


def count_through_a_pickle():
    from ray import cloudpickle

    pickled = cloudpickle.dumps(Counted())
    Counted.made = 7
    cloudpickle.loads(pickled)
    return Counted.made


def two_of_one_name():
    def make(number):
        class Local:
            def value(self):
                return number

        return Local

    first, second = make(1), make(2)
    return [first(), second()]
