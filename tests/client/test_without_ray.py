"""Processes of Airflow that have no Ray: what they pack runs on the cluster, and they read what it returns."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from airflow_ray.cluster.messages import packed, unpacked
from airflow_ray.cluster.values.pickler import loads, pickler
from airflow_ray.hooks.ray import RayHook
from airflow_ray.hooks.s3_checkpoint import S3CheckpointHook
from airflow_ray.object_uri import ObjectURI
from tests.conftest import new_uri
from tests.ray_head import RayHead
from tests.without_ray import python_without_ray, told

FOLDER = str(Path(__file__).parent / "dag_folder")
SCRIPT = f"{FOLDER}/packs.py"
VALUES = ("list", "pipeline", "frame", "shapes", "late", "late_cube")
RETURNED = {
    "lambda": 4,
    "partial": [2, 1],
    "async": 2,
    "subclass": 5,
    "cached_property": 3 * 2**0.5,
    "lru_cache": 12586269025,
    "NewType": 4,
    "slices": [100, 100, 100, 100],
    "dates": [
        "datetime.datetime 2026-03-29 01:30:00+01:00",
        "datetime.date 2026-03-29",
        "datetime.time 01:30:00",
        "datetime.timedelta 2 days, 0:00:00",
        "datetime.timezone UTC",
    ],
    "pandas": 3,
    "time zone": ["datetime.datetime 2026-01-01 00:00:00+09:00"],
}
SMALL_BYTES = 100_000


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    return python_without_ray(tmp_path_factory.mktemp("without_ray"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the processes leave what they pack."""
    return tmp_path_factory.mktemp("packed")


@pytest.fixture(scope="module")
def produced(python: str, folder: Path) -> dict[str, Any]:
    """What a first task has packed."""
    produced: dict[str, Any] = told(python, SCRIPT, "produce", str(folder))
    return produced


@pytest.fixture(scope="module")
def hook(head: RayHead) -> Any:
    with RayHook("ray_client").connect() as hook:
        yield hook


def begun(hook: RayHook, folder: Path, name: str, *inputs: ObjectURI, ends_process: bool = False) -> ObjectURI:
    """Have a packed call run on a worker, and return the name of what it returns."""
    call = unpacked((folder / name).read_bytes())
    uri = new_uri(hook.ray_conn_id)
    slots = [[each.record_id, each.key, "store"] for each in inputs]
    options = {"num_cpus": 0, "max_retries": 0}
    answer = hook.client.link.call(
        "submit", uri.record_id, call["pickled"], call["sources"], slots, options, ends_process=ends_process
    )
    assert "error" not in answer
    return uri


def name_of(value: str) -> str:
    return f"ray-object://ray_client/tests/run/{value}/-1/return_value"


def departed(value: Any) -> dict[str, Any]:
    """Return a value as it leaves the cluster."""
    file, buffers = io.BytesIO(), []
    pickler(file, buffers.append).dump(value)
    return {"pickled": file.getvalue(), "buffers": [bytes(buffer.raw()) for buffer in buffers]}


@pytest.fixture(scope="module")
def seen(hook: RayHook, python: str, folder: Path, produced: dict[str, Any]) -> dict[str, Any]:
    """What a second task sees of the values of the first one: on workers, and in its own process."""
    # No other work comes to the processes that make them.
    made = {name: begun(hook, folder, f"make {name}", ends_process=True) for name in VALUES}
    told(python, SCRIPT, "consume", str(folder))
    for uri in made.values():
        hook.wait(uri)
    checked = {name: begun(hook, folder, f"check {name}", made[name]) for name in VALUES}
    checkpoints = S3CheckpointHook(path=f"file://{folder}/of_worker")
    for name in VALUES:
        leaving = new_uri("ray_client")
        hook.submit(departed, made[name], uri=leaving)
        hook.wait(leaving)
        (folder / f"value {name}").write_bytes(packed(hook.get(leaving)))
        checkpoints.save(name_of(name), hook.get(made[name]))
    seen = told(python, SCRIPT, "read", str(folder))
    for name, uri in checked.items():
        seen[f"returned {name}"] = value_of(hook, uri)
    return seen


def value_of(hook: RayHook, uri: ObjectURI) -> Any:
    hook.wait(uri)
    return hook.get(uri)


def test_process_that_packs_has_no_ray(produced):
    assert produced["has ray"] is False


@pytest.mark.slow
def test_process_that_reads_has_no_ray(seen):
    assert seen["has ray"] is False


@pytest.mark.parametrize("name", RETURNED)
def test_call_that_was_packed_without_ray_runs_on_the_cluster(hook, folder, produced, name):
    assert value_of(hook, begun(hook, folder, name)) == RETURNED[name]


def test_slices_are_packed_as_small_as_they_are(produced):
    assert produced["sizes"]["slices"] < SMALL_BYTES


@pytest.mark.slow
@pytest.mark.parametrize("way", ["returned", "fetched", "loaded"])
@pytest.mark.parametrize("name", VALUES)
def test_types_of_a_value_are_those_of_the_next_task(seen, way, name):
    assert [what for what, holds in seen[f"{way} {name}"].items() if not holds] == []


def test_value_that_was_pickled_without_ray_is_read_by_rays_copy(folder, produced):
    value = loads((folder / "put shapes").read_bytes())
    assert [value["tile"].area(), value["square"].diagonal] == [5, 3 * 2**0.5]


def test_checkpoint_that_was_written_without_ray_is_read_by_rays_copy(folder, produced):
    value = S3CheckpointHook(path=f"file://{folder}").load(name_of("pipeline"))
    assert value.transform([1]) == [6]


@pytest.mark.slow
def test_fingerprint_is_the_same_where_ray_is_loaded(folder, produced, tmp_path):
    script = f"import ray, runpy, sys; sys.argv[1:] = ['produce', {str(tmp_path)!r}]; sys.path.insert(0, {FOLDER!r})"
    told(sys.executable, "-c", f"{script}; runpy.run_path({SCRIPT!r}, run_name='__main__')")
    with_ray, without = (unpacked((each / "dates").read_bytes())["fingerprint"] for each in (tmp_path, folder))
    assert with_ray == without


def test_all_that_airflow_uses_is_imported_without_ray(python):
    script = (
        "import importlib, json, pkgutil, sys, airflow_ray\n"
        "names = [each.name for each in pkgutil.walk_packages(airflow_ray.__path__, 'airflow_ray.')]\n"
        # The last is imported by a provider that may not be installed.
        "apart = '.__main__', '.openlineage_facets'\n"
        "for name in names:\n"
        "    if not name.endswith(apart):\n"
        "        importlib.import_module(name)\n"
        "print(json.dumps([len(names) > 100, 'ray' in sys.modules]))\n"
    )
    assert told(python, "-c", script) == [True, False]
