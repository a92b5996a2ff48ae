"""Which modules unpickle anything: whoever chooses what they read can run code in their process."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import airflow_ray

PACKAGE = Path(airflow_ray.__file__).parent
UNPICKLING = {
    ("pickle", "load"),
    ("pickle", "loads"),
    ("pickle", "Unpickler"),
    ("cloudpickle", "load"),
    ("cloudpickle", "loads"),
}
# Of this package; a name that is passed on counts as much as a call.
OWN = {"unpickler", "loads", "Unpickler"}


def unpickles(node: ast.AST) -> bool:
    """Return whether a piece of code is the name of what unpickles."""
    match node:
        case ast.Attribute(value=ast.Name(id=module), attr=name):
            return (module, name) in UNPICKLING
        case ast.Name(id=name):
            return name in OWN
    return False


def asks_ray(node: ast.AST) -> bool:
    """Return whether a piece of code has Ray unpickle a value or an answer."""
    match node:
        case ast.Attribute(value=ast.Name(id="ray"), attr="get"):
            return True
    return False


def modules_with(check, part: str) -> list[str]:
    """Return the modules of a part of the package with code that a check is true of."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        if f"{module}.".startswith(f"{part}.") and any(check(node) for node in ast.walk(ast.parse(path.read_text()))):
            found.append(module)
    return found


@pytest.mark.parametrize(
    "part", ["operators", "sensors", "hooks", "triggers", "kuberay_triggers", "xcom", "decorators", "cli", "ui"]
)
def test_what_airflow_knows_by_name_unpickles_nothing_itself(part):
    assert modules_with(unpickles, part) + modules_with(asks_ray, part) == []


def test_airflow_unpickles_of_the_gateway_a_value_alone():
    assert modules_with(unpickles, "client") == ["client.transfer.streams"]


def test_airflow_has_ray_unpickle_answers_in_the_modes_of_ray_and_values():
    assert modules_with(asks_ray, "client") == ["client.connection.ray_session", "client.transfer.values"]


def test_gateway_and_owner_unpickle_nothing_of_a_client():
    assert modules_with(unpickles, "cluster.gateway") + modules_with(unpickles, "cluster.owner") == []
