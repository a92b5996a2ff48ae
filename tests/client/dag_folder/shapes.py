"""A helper module: bases of the classes of the DAG file, and kinds of code that has no copy of its own."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from typing import NewType

Metres = NewType("Metres", int)


class Shape(ABC):
    @abstractmethod
    def area(self): ...

    def doubled(self):
        return 2 * self.area()


class Square(Shape):
    def __init__(self, side: Metres):
        self.side = side

    def area(self):
        return self.side**2

    @functools.cached_property
    def diagonal(self):
        return self.side * 2**0.5

    @functools.lru_cache  # noqa: B019
    def scaled(self, by):
        return Square(self.side * by)


@functools.cache
def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


@functools.singledispatch
def kind_of(value):
    return "another"


@kind_of.register
def _(value: Shape):
    return "shape"
