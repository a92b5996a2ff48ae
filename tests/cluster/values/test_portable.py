"""What Ray's pickler cannot copy by itself, and what it is where it arrives."""

from __future__ import annotations

import functools
import inspect
import subprocess
import sys
import types
import weakref
from typing import Any, NewType

import pytest
from ray import cloudpickle

from airflow_ray.client.by_value import pickle_by_value
from tests.known_classes import forget

SOURCE = """
import functools
from typing import NewType

UserId = NewType("UserId", int)

class Shape:
    @functools.cached_property
    def area(self):
        return 4

    @functools.lru_cache(maxsize=3)
    def scaled(self, by):
        return 4 * by

@functools.lru_cache(maxsize=5, typed=True)
def fibonacci(n):
    '''Numbers.'''
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

@functools.singledispatch
def kind_of(value):
    return "another"

@kind_of.register
def _(value: int):
    return "int"

@kind_of.register(Shape)
def _(value):
    return "shape"

def user(number: UserId) -> UserId:
    return UserId(number)
"""


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    module = types.ModuleType("module_of_user")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(SOURCE, "module_of_user.py", "exec", dont_inherit=True), vars(module))
    return module


def arrived(value: Any, module: Any) -> Any:
    """Return what ``value`` is in a process that lacks its module and is served by Ray's own pickler alone."""
    with pickle_by_value([module]):
        pickled = cloudpickle.dumps(value)
    del sys.modules[module.__name__]
    for cls in filter(inspect.isclass, vars(module).values()):
        forget(cls)
    return cloudpickle.loads(cloudpickle.dumps(cloudpickle.loads(pickled)))


def test_cached_property_is_computed_and_kept(module):
    cls = arrived({"of": module.Shape}, module)["of"]
    shape = cls()
    assert (shape.area, vars(shape)) == (4, {"area": 4})


def test_recursive_function_with_a_cache_uses_the_cache(module):
    fibonacci = arrived(module.fibonacci, module)
    assert fibonacci(50) == 12586269025
    assert fibonacci.cache_info().hits > 0


def test_function_with_a_cache_keeps_name_and_parameters(module):
    fibonacci = arrived(module.fibonacci, module)
    assert fibonacci.cache_parameters() == {"maxsize": 5, "typed": True}
    assert (fibonacci.__name__, fibonacci.__doc__) == ("fibonacci", "Numbers.")


def test_method_with_a_cache_is_bound_to_its_object(module):
    assert arrived(module.Shape, module)().scaled(2) == 8


def test_singledispatch_finds_what_was_registered(module):
    kind_of, cls = arrived([module.kind_of, module.Shape], module)
    assert [kind_of(value) for value in (1, cls(), "text")] == ["int", "shape", "another"]


def test_singledispatch_takes_more_where_it_arrives(module):
    kind_of = arrived(module.kind_of, module)
    kind_of.register(str, lambda _: "text")
    assert kind_of("a") == "text"


def test_new_type_in_annotations_arrives(module):
    function = arrived(module.user, module)
    assert (function(1), function.__annotations__["number"].__name__) == (1, "UserId")


@functools.lru_cache
def of_a_module_that_others_have() -> None: ...


Other = NewType("Other", int)


@pytest.mark.parametrize("value", [of_a_module_that_others_have, Other])
def test_what_other_processes_can_import_is_named(value):
    with pickle_by_value([]):
        assert cloudpickle.loads(cloudpickle.dumps(value)) is value


def test_dictionary_with_weak_keys_keeps_its_items():
    with pickle_by_value([]):
        keys, kept = cloudpickle.loads(cloudpickle.dumps(([int, str], weakref.WeakKeyDictionary({int: 1, str: 2}))))
    assert [kept[key] for key in keys] == [1, 2]


def test_pickler_of_this_process_is_as_before_afterwards():
    before = dict(cloudpickle.CloudPickler.dispatch)
    with pickle_by_value([]), pickle_by_value([]):
        pass
    assert dict(cloudpickle.CloudPickler.dispatch) == before


def test_what_arrives_needs_nothing_of_this_package(module, tmp_path):
    with pickle_by_value([module]):
        (tmp_path / "pickled").write_bytes(cloudpickle.dumps([module.fibonacci, module.Shape, module.kind_of]))
    script = (
        "import sys; sys.modules['airflow_ray'] = None\n"
        "from ray import cloudpickle\n"
        f"fibonacci, Shape, kind_of = cloudpickle.loads(open({str(tmp_path / 'pickled')!r}, 'rb').read())\n"
        "print(fibonacci(10), Shape().area, kind_of(Shape()))"
    )
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert finished.stdout.split() == ["55", "4", "shape"]
