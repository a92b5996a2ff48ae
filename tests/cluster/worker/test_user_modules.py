"""Modules that are run from their source on a worker, and the classes that have come in pickles before or after."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

import pytest
from ray import cloudpickle

from airflow_ray.cluster.values import identity
from airflow_ray.cluster.worker.user_modules import importable
from tests.known_classes import forget

SOURCE = """
import functools
from dataclasses import dataclass
from enum import Enum

level = 0

class Base:
    def name(self):
        return "base"

@dataclass(order=True)
class Config(Base):
    rate: float

    class Inner:
        def level(self):
            return level

    def name(self):
        return super().name() + " of config"

    @functools.cached_property
    def level(self):
        return level

class Colour(Enum):
    RED = 1

DEFAULT = Config(0.5)
"""


def sources(text: str = SOURCE) -> dict[str, tuple[str, str, str]]:
    return {"module_of_user": ("/dags/module_of_user.py", text, f"digest of {text}")}


def on_worker(function: Callable[[Any], Any], text: str = SOURCE) -> Any:
    """Return what a callable returns that imports the module."""
    with importable(sources(text)):
        return function(importlib.import_module("module_of_user"))


@pytest.fixture
def pickled() -> bytes:
    """An object of each class, pickled on a worker that nobody else remembers."""
    value = on_worker(lambda module: [module.Config(0.5), module.Colour.RED, module.Config.Inner()])
    copied: bytes = cloudpickle.dumps(value)
    for each in (type(value[0]), *type(value[0]).__mro__, type(value[1]), type(value[2])):
        forget(each)
    return copied


def test_class_of_a_pickle_is_that_of_the_module_imported_later(pickled):
    value = cloudpickle.loads(pickled)
    assert on_worker(lambda module: [isinstance(value[0], module.Config), value[0] == module.Config(0.5)]) == [
        True,
        True,
    ]


def test_enum_of_a_pickle_is_that_of_the_module_imported_later(pickled):
    value = cloudpickle.loads(pickled)
    assert on_worker(lambda module: value[1] is module.Colour.RED)


def test_class_inside_a_class_of_a_pickle_is_that_of_the_module_imported_later(pickled):
    value = cloudpickle.loads(pickled)
    assert on_worker(lambda module: isinstance(value[2], module.Config.Inner))


def test_class_of_a_pickle_is_that_of_the_module_imported_before(pickled):
    assert on_worker(lambda module: isinstance(cloudpickle.loads(pickled)[0], module.Config))


def test_what_a_module_makes_while_it_is_imported_is_of_the_class_of_the_pickle(pickled):
    value = cloudpickle.loads(pickled)
    assert on_worker(lambda module: type(module.DEFAULT) is type(value[0]))


def test_code_of_a_class_of_a_pickle_sees_the_state_of_the_imported_module(pickled):
    value = cloudpickle.loads(pickled)

    def use(module: Any) -> list[int]:
        module.level = 3
        return [value[0].level, value[2].level()]

    assert on_worker(use) == [3, 3]


def test_super_works_in_a_class_of_a_pickle_after_its_module_was_imported(pickled):
    value = cloudpickle.loads(pickled)
    assert on_worker(lambda module: [value[0].name(), module.Config(1).name()]) == 2 * ["base of config"]


def test_module_may_replace_a_class_that_it_has_just_made():
    text = "class Thing:\n    pass\nclass Other:\n    pass\nOther.__qualname__ = 'Thing'\nThing = Other\n"
    assert on_worker(lambda module: module.Thing is module.Other, text)


def test_edited_module_has_other_classes():
    first = on_worker(lambda module: module.Config(0.5))
    assert not on_worker(lambda module: isinstance(first, module.Config), SOURCE + "\n# edited\n")


def test_edited_base_in_another_module_makes_another_subclass():
    child = "from base_of_user import Base\nclass Child(Base):\n    pass\n"
    ids = []
    for base in ("class Base:\n    n = 1\n", "class Base:\n    n = 2\n"):
        texts = {"child_of_user": child, "base_of_user": base}
        both = {name: (f"/dags/{name}.py", text, text) for name, text in texts.items()}
        with importable(both):
            cls = importlib.import_module("child_of_user").Child
            ids.append(identity._base_id(cls))
    assert ids[0] != ids[1]


def test_object_that_the_callable_puts_away_itself_can_be_read_where_there_is_no_such_module():
    copied = on_worker(lambda module: cloudpickle.dumps(module.Config(0.5)))
    assert "module_of_user" not in sys.modules
    assert cloudpickle.loads(copied).rate == 0.5


def test_nothing_of_a_module_is_left_registered_after_the_callable():
    on_worker(lambda module: None)
    assert "module_of_user" not in cloudpickle.list_registry_pickle_by_value()


def test_annotations_are_what_they_are_where_the_module_was_written():
    assert on_worker(lambda module: module.Config.__annotations__["rate"]) is float
