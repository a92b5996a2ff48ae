"""The events of OpenLineage that the tasks of a DAG run leave, as Airflow's provider writes them to a file."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.ray_head import RayHead

ROOT = Path(__file__).parents[2]
SCRIPT = str(Path(__file__).parent / "run_of_kind.py")
SCHEMA = ROOT / "docs" / "openlineage" / "AirflowRayResourcesRunFacet.json"
RESOURCES = "airflowRay_resources"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("database"),
    pytest.mark.skipif(
        not importlib.util.find_spec("airflow.providers.openlineage"),
        reason="Airflow's provider for OpenLineage is not installed: it is the extra openlineage",
    ),
]


@pytest.fixture(scope="module")
def events(head: RayHead, database: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The events of a DAG run by task and type, with the ids of DAG and run and the test's folder replaced."""
    folder = tmp_path_factory.mktemp("lineage")
    transport = {"type": "file", "log_file_path": f"{folder}/events.json", "append": True}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport)}
    subprocess.run([sys.executable, SCRIPT, str(folder), "traced"], env=environment, check=True)
    lines = (folder / "events.json").read_text()
    dag_run = next(each["run"]["facets"]["airflow"]["dagRun"] for each in map(json.loads, lines.splitlines()))
    for own, name in ((dag_run["dag_id"], "DAG"), (_in_uri(dag_run["run_id"]), "RUN"), (str(folder), "/FOLDER")):
        lines = lines.replace(own, name)
    all_of_them = map(json.loads, lines.splitlines())
    return {f"{each['job']['name']} {each['eventType']}": each for each in all_of_them}


def _in_uri(run_id: str) -> str:
    return run_id.replace(":", "%3A").replace("+", "%2B")


def named(datasets: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(each["namespace"], each["name"]) for each in datasets]


def of_object(name: str) -> tuple[str, str]:
    return "ray-object://ray_gateway", f"DAG/RUN/{name}"


CHECKPOINT = "file", "/FOLDER/checkpoints/ray_gateway/DAG/RUN/make/-1/return_value"


def test_task_tells_its_object_and_its_checkpoint_as_outputs(events):
    outputs = events["DAG.make COMPLETE"]["outputs"]
    assert named(outputs) == [of_object("make/-1/return_value"), CHECKPOINT]
    made, saved = outputs
    assert made["facets"]["schema"]["fields"] == [{"name": "a", "type": "int64", "fields": []}]
    assert saved["facets"]["schema"]["fields"] == made["facets"]["schema"]["fields"]
    assert made["facets"]["symlinks"]["identifiers"] == [
        {"namespace": "ray-object://ray_gateway", "name": "DAG/make/return_value", "type": "TABLE"}
    ]
    assert made["outputFacets"]["outputStatistics"]["rowCount"] == 10
    assert made["outputFacets"]["outputStatistics"]["size"] > 80
    statistics = saved["outputFacets"]["outputStatistics"]
    assert statistics["rowCount"] == 10
    assert statistics["fileCount"] > 0
    assert saved["facets"]["storage"]["storageLayer"] == "file"


def test_task_that_gets_what_was_restored_tells_the_checkpoint_as_input_too(events):
    inputs = events["DAG.split COMPLETE"]["inputs"]
    assert named(inputs) == [of_object("make/-1/return_value"), CHECKPOINT]
    assert inputs[0]["facets"]["schema"]["fields"] == [{"name": "a", "type": "int64", "fields": []}]
    assert inputs[0]["inputFacets"]["inputStatistics"]["rowCount"] == 10
    assert named(events["DAG.split COMPLETE"]["outputs"]) == [of_object("split/-1/first"), of_object("split/-1/second")]


def test_task_tells_what_its_arguments_name_when_it_starts(events):
    assert named(events["DAG.sum START"]["inputs"]) == [of_object("split/-1/second")]
    assert events["DAG.sum START"]["outputs"] == []


def test_task_that_returns_a_value_tells_no_output(events):
    assert named(events["DAG.sum COMPLETE"]["inputs"]) == [of_object("split/-1/second")]
    assert events["DAG.sum COMPLETE"]["outputs"] == []


def test_task_that_fails_tells_its_inputs_and_what_it_took(events):
    failed = events["DAG.fail FAIL"]
    assert named(failed["inputs"]) == [of_object("split/-1/first")]
    assert failed["run"]["facets"][RESOURCES]["state"] == "FAILED"
    assert "5 rows are too few" in failed["run"]["facets"]["errorMessage"]["message"]


def test_resources_are_as_their_schema_says(events):
    schema = json.loads(SCHEMA.read_text())
    facets = [each["run"]["facets"][RESOURCES] for each in events.values() if RESOURCES in each["run"]["facets"]]
    assert len(facets) == 4
    for facet in facets:
        assert facet["_schemaURL"] == f"{schema['$id']}#/$defs/AirflowRayResourcesRunFacet"
        jsonschema.validate(facet, schema["$defs"]["AirflowRayResourcesRunFacet"])
        assert facet["requested"] == {"CPU": 1}
        assert facet["queuedSeconds"] >= 0
        assert facet["peakMemoryBytes"] > 0
