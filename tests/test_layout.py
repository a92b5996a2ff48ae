"""The rooms of the package: what imports what, how long a module is, where states and kinds of failure are named."""

from __future__ import annotations

import ast
import graphlib
import json
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import airflow_ray
from airflow_ray.cluster.protocol import FailureKind, State

PACKAGE = Path(airflow_ray.__file__).parent
PROTOCOL = "airflow_ray.cluster.protocol"
MAX_LINES = 300
MAX_MEDIAN_LINES = 130
T = TypeVar("T", bound=ast.AST)


def name_of(path: Path) -> str:
    """Return the name by which a module of the package is imported."""
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


PATHS = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text()) for name, path in PATHS.items()}

# What each part may import of the package, besides itself. Those in front of the client know the protocol of the two
# halves, and nothing else of the cluster's half.
IN_FRONT = ["client", "cluster.protocol", "object_uri", "exceptions", "_compat"]
ALLOWED = {
    # What a callable may import of the package itself, on the cluster too.
    "": ["cluster.airflow_exceptions"],
    "operators": ["hooks", "triggers", "kuberay_triggers", "xcom", *IN_FRONT],
    "sensors": ["hooks", "triggers", "xcom", *IN_FRONT],
    "cli": ["hooks", "triggers", "xcom", *IN_FRONT],
    "ui": ["hooks", "triggers", "xcom", *IN_FRONT],
    "decorators": ["operators", "client", "_compat"],
    "__main__": ["cli"],
    "hooks": ["provider_info", *IN_FRONT],
    "triggers": IN_FRONT,
    "kuberay_triggers": ["triggers", *IN_FRONT],
    "xcom": IN_FRONT,
    "client": ["cluster", "object_uri", "exceptions", "_compat"],
    "cluster": [],
    "object_uri": ["exceptions"],
    "exceptions": ["_compat"],
    "_compat": [],
    "provider_info": [],
}


def nodes_of(kind: type[T]) -> list[tuple[str, T]]:
    """Return all nodes of a kind, with the names of their modules."""
    nodes = [(module, node) for module, tree in TREES.items() for node in ast.walk(tree)]
    return [(module, node) for module, node in nodes if isinstance(node, kind)]


def imports_of(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Yield the modules that ``import`` and ``from … import`` name; of the latter, each name that is a module too."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            submodules = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from [each for each in submodules if each in PATHS] or [node.module]


def at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes but those that only a type checker sees."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        yield from at_run_time(child)


def output_of(script: str) -> str:
    command = [sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def is_of(module: str, parts: Iterable[str]) -> bool:
    return any(f"{module}.".startswith(f"airflow_ray.{part}.") for part in parts)


def test_imports_point_one_way():
    wrong = []
    for module, tree in TREES.items():
        part = module.partition(".")[2].partition(".")[0]
        allowed = [part, *ALLOWED.get(part, [])]
        # Whoever imports the package itself asks for its version.
        ours = [name for name in imports_of(ast.walk(tree)) if name.startswith("airflow_ray.")]
        wrong += [f"{module} imports {name}" for name in ours if not is_of(name, allowed)]
    assert wrong == []


def test_no_module_imports_itself_through_others_not_even_inside_a_function():
    graph = {name: set(imports_of(at_run_time(tree))) & PATHS.keys() - {name} for name, tree in TREES.items()}
    graphlib.TopologicalSorter(graph).prepare()


def test_cluster_code_imports_nothing_but_ray_the_standard_library_and_what_values_are_made_of():
    trees = [tree for name, tree in TREES.items() if name.startswith("airflow_ray.cluster")]
    names = {name.partition(".")[0] for tree in trees for name in imports_of(ast.walk(tree))}
    values = {"msgpack", "pyarrow", "numpy", "pandas", "polars", "pytz", "xgboost"}
    assert names - sys.stdlib_module_names - values - {"ray", "airflow_ray"} == set()


def test_names_that_begin_with_an_underscore_stay_in_their_module():
    froms = nodes_of(ast.ImportFrom)
    ours = [(module, node) for module, node in froms if (node.module or "").startswith("airflow_ray.")]
    names = [(module, alias.name) for module, node in ours for alias in node.names]
    assert [f"{module} imports {name}" for module, name in names if name.startswith("_")] == []


def test_importing_what_a_dag_file_names_loads_nothing_heavy():
    script = (
        "import sys, json\n"
        "import airflow_ray.operators.python, airflow_ray.operators.tune, airflow_ray.operators.release\n"
        "import airflow_ray.operators.job, airflow_ray.operators.kuberay, airflow_ray.hooks.kuberay\n"
        "import airflow_ray.decorators, airflow_ray.sensors.object, airflow_ray.hooks.ray\n"
        "heavy = ('ray', 'boto3', 'kubernetes', 'pandas', 'numpy', 'pyarrow', 'polars', 'openlineage')\n"
        "print(json.dumps([name for name in heavy if name in sys.modules]))\n"
    )
    assert json.loads(output_of(script).splitlines()[-1]) == []


def test_no_module_is_long():
    lengths = {name: len(path.read_text().splitlines()) for name, path in PATHS.items()}
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}
    assert statistics.median(lengths.values()) < MAX_MEDIAN_LINES


def test_states_are_named_by_their_enum():
    # Ray calls some states of its trials and jobs as work calls its own.
    exempt = (PROTOCOL, "airflow_ray.cluster.tuning.progress", "airflow_ray.client.connection.dashboard")
    texts = {state.value for state in State}
    written = [(module, node) for module, node in nodes_of(ast.Constant) if node.value in texts]
    assert [f"{module}:{node.lineno}: {node.value}" for module, node in written if module not in exempt] == []


def kinds_in(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what stands where a kind of failure does: beside the key ``kind``, or in ``failure(…)``."""
    if isinstance(node, ast.Dict):
        yield from (value for key, value in zip(node.keys, node.values, strict=True) if is_kind(key))
    elif isinstance(node, ast.Compare) and isinstance(node.left, ast.Subscript) and is_kind(node.left.slice):
        yield from node.comparators
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "failure":
        yield from node.args[:1]


def is_kind(key: ast.AST | None) -> bool:
    return isinstance(key, ast.Constant) and key.value == "kind"


def test_kinds_of_failure_are_named_by_their_enum():
    kinds = [(module, kind) for module, node in nodes_of(ast.AST) for kind in kinds_in(node)]
    texts = {kind.value for kind in FailureKind}
    written = [(module, node) for module, node in kinds if isinstance(node, ast.Constant) and node.value in texts]
    assert [f"{module}:{node.lineno}: {node.value}" for module, node in written] == []
