"""What operators tell Airflow's OpenLineage provider, without a cluster and without a DAG run."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest

from airflow_ray.decorators import ray_task
from airflow_ray.object_uri import ObjectURI
from airflow_ray.operators.job import RaySubmitJobOperator
from airflow_ray.operators.python import RayPythonOperator

RUN = "manual__2026-01-01T00:00:00+00:00"
GIVEN = ObjectURI("ray_default", "sales", RUN, "load")
MADE = ObjectURI("ray_default", "sales", RUN, "per_shop")
TABLE = {"type": "pandas.DataFrame", "shape": [200_000, 3], "bytes": 4_800_132}
SAVED = {"path": f"s3://lake/ray/{MADE.conn_id}/{MADE.record_id}/return_value", "format": "pandas"}
RECORD = {
    "state": "SUCCEEDED",
    "node": "10.0.0.7",
    "submitted_at": 100.0,
    "started_at": 102.5,
    "finished_at": 104.25,
    "asked": {"CPU": 2},
    "used": {"seconds": 1.7, "cpu_seconds": 1.6, "memory": 512_000_000, "gpu_memory": None, "gpu_total": None},
    "read_bytes": 4_800_132,
    "written_bytes": 4_210,
    "spilled_bytes": 0,
    "inputs": [
        {
            "record_id": GIVEN.record_id,
            "key": "return_value",
            "source": "store",
            "output": {**TABLE, "columns": [["shop", "object"], ["day", "datetime64[ns]"], ["sum", "int64"]]},
        }
    ],
    "outputs": {
        "return_value": {
            "type": "pandas.DataFrame",
            "shape": [120, 2],
            "bytes": 4_210,
            "columns": [["shop", "object"], ["sum", "int64"]],
            "checkpoint": {**SAVED, "bytes": 3_904, "files": 2, "rows": 120, "error": None},
        }
    },
}

pytestmark = pytest.mark.skipif(
    not importlib.util.find_spec("airflow.providers.openlineage"),
    reason="Airflow's provider for OpenLineage is not installed: it is the extra openlineage",
)


def operator(**arguments: Any) -> RayPythonOperator:
    return RayPythonOperator(task_id="per_shop", python_callable=len, op_args=[str(GIVEN)], **arguments)


def told(lineage: Any) -> dict[str, Any]:
    """Return what an event holds of it."""
    from openlineage.client.serde import Serde

    return {
        "inputs": [Serde.to_dict(each) for each in lineage.inputs],
        "outputs": [Serde.to_dict(each) for each in lineage.outputs],
        "facets": {name: Serde.to_dict(each) for name, each in lineage.run_facets.items()},
    }


def without_marks(part: Any) -> Any:
    """Return a part of an event without what each facet of OpenLineage's own tells of its producer and schema."""
    if isinstance(part, dict):
        return {name: without_marks(each) for name, each in part.items() if not is_mark(name, each)}
    return [without_marks(each) for each in part] if isinstance(part, list) else part


def is_mark(name: str, value: Any) -> bool:
    return (
        name == "_producer" or (name == "_schemaURL" and "openlineage.io" in value) or (name, value) == ("fields", [])
    )


def names(datasets: list[Any]) -> list[tuple[str, str]]:
    return [(each.namespace, each.name) for each in datasets]


def test_page_shows_the_event_as_it_is():
    page = (Path(__file__).parents[2] / "docs" / "how_to" / "lineage.md").read_text()
    sample = json.loads(re.search(r"^```json\n(.*?)^```", page, re.MULTILINE | re.DOTALL).group(1))
    task = operator()
    task._ended = MADE, RECORD
    event = without_marks(told(task.get_openlineage_facets_on_complete(None)))
    assert sample["inputs"] == event["inputs"]
    assert sample["outputs"] == event["outputs"]
    assert sample["run"]["facets"] == event["facets"]


def test_task_that_starts_tells_what_its_arguments_name():
    lineage = operator().get_openlineage_facets_on_start()
    assert names(lineage.inputs) == [("ray-object://ray_default", f"{GIVEN.record_id}/return_value")]
    assert (lineage.outputs, lineage.run_facets) == ([], {})


def test_decorated_task_tells_the_same():
    task = ray_task(lambda frame: len(frame), task_id="per_shop")(str(GIVEN)).operator
    assert names(task.get_openlineage_facets_on_start().inputs) == names(
        operator().get_openlineage_facets_on_start().inputs
    )


def test_task_that_was_never_submitted_tells_what_its_arguments_name_when_it_fails():
    lineage = operator().get_openlineage_facets_on_failure(None)
    assert names(lineage.inputs) == [("ray-object://ray_default", f"{GIVEN.record_id}/return_value")]
    assert (lineage.outputs, lineage.run_facets) == ([], {})


def test_job_without_a_result_tells_no_object():
    lineage = RaySubmitJobOperator(task_id="job", entrypoint="true").get_openlineage_facets_on_complete(None)
    assert (lineage.inputs, lineage.outputs, lineage.run_facets) == ([], [], {})


def test_declared_inlets_and_outlets_stay_beside_the_objects():
    from airflow.providers.common.compat.lineage.entities import File
    from airflow.sdk import Asset, AssetAlias

    inlets, outlets = [File(url="s3://raw/sales.csv")], [Asset("s3://lake/sums"), AssetAlias("later")]
    task = operator(inlets=inlets, outlets=outlets)
    task._ended = MADE, RECORD
    lineage = task.get_openlineage_facets_on_complete(None)
    assert ("s3://raw", "sales.csv") in names(lineage.inputs)
    assert ("s3://lake", "sums") in names(lineage.outputs)
    assert len(lineage.inputs) == 2
    assert len(lineage.outputs) == 3
