"""Lineage in the classes of OpenLineage: the only module that needs its provider, which alone has it imported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attr
from airflow.providers.openlineage.extractors import OperatorLineage
from airflow.providers.openlineage.extractors.manager import ExtractorManager
from openlineage.client.event_v2 import InputDataset, OutputDataset
from openlineage.client.facet_v2 import (
    RunFacet,
    input_statistics_input_dataset,
    output_statistics_output_dataset,
    schema_dataset,
    storage_dataset,
    symlinks_dataset,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_ray.client.lineage import Dataset

RESOURCES = "airflowRay_resources"
# Another version for each change of the fields; docs/openlineage has the schema itself.
RESOURCES_SCHEMA = "urn:airflow-ray:openlineage:1-0-0:AirflowRayResourcesRunFacet.json"


@attr.define
class AirflowRayResourcesRunFacet(RunFacet):  # type: ignore[misc]  # it has no types where it is not installed
    """What the work of a task had reserved on the cluster, and what it has used; None is what nobody knows.

    The fields are those of its schema, ``docs/openlineage/AirflowRayResourcesRunFacet.json``.
    """

    state: str
    node: str | None
    requested: dict[str, float]
    queuedSeconds: float | None
    elapsedSeconds: float | None
    cpuSeconds: float | None
    peakMemoryBytes: int | None
    peakGpuMemoryBytes: int | None
    childProcesses: int | None
    childCpuSeconds: float | None
    childPeakMemoryBytes: int | None
    readBytes: int | None
    writtenBytes: int | None
    spilledBytes: int | None

    @staticmethod
    def _get_schema() -> str:
        return f"{RESOURCES_SCHEMA}#/$defs/AirflowRayResourcesRunFacet"


def lineage(
    inputs: Iterable[Dataset],
    outputs: Iterable[Dataset],
    resources: dict[str, Any] | None,
    inlets: Iterable[Any],
    outlets: Iterable[Any],
) -> OperatorLineage:
    """Return what the provider takes.

    :param resources: fields of :class:`AirflowRayResourcesRunFacet`, or None where nothing is known.
    :param inlets: of the task, and so ``outlets``: the provider looks at them only where it is told of nothing else.
    """
    read = {(each.namespace, each.name): _input(each) for each in inputs}
    made = {(each.namespace, each.name): _output(each) for each in outputs}
    for known, declared in ((read, inlets), (made, outlets)):
        for each in filter(None, map(ExtractorManager.convert_to_ol_dataset, declared)):
            known.setdefault((each.namespace, each.name), each)
    facets = {} if resources is None else {RESOURCES: AirflowRayResourcesRunFacet(**resources)}
    return OperatorLineage(inputs=[*read.values()], outputs=[*made.values()], run_facets=facets)


def _input(dataset: Dataset) -> InputDataset:
    facets = {}
    if counts := _counts(dataset):
        facets["inputStatistics"] = input_statistics_input_dataset.InputStatisticsInputDatasetFacet(**counts)
    return InputDataset(dataset.namespace, dataset.name, facets=_facets(dataset), inputFacets=facets)


def _output(dataset: Dataset) -> OutputDataset:
    facets = {}
    if counts := _counts(dataset):
        facets["outputStatistics"] = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(**counts)
    return OutputDataset(dataset.namespace, dataset.name, facets=_facets(dataset), outputFacets=facets)


def _counts(dataset: Dataset) -> dict[str, int]:
    counts = {"rowCount": dataset.rows, "size": dataset.bytes, "fileCount": dataset.files}
    return {name: count for name, count in counts.items() if count is not None}


def _facets(dataset: Dataset) -> dict[str, Any]:
    facets: dict[str, Any] = {}
    if dataset.columns:
        fields = [schema_dataset.SchemaDatasetFacetFields(name=name, type=dtype) for name, dtype in dataset.columns]
        facets["schema"] = schema_dataset.SchemaDatasetFacet(fields=fields)
    if dataset.logical_name is not None:
        same = symlinks_dataset.Identifier(dataset.namespace, dataset.logical_name, "TABLE")
        facets["symlinks"] = symlinks_dataset.SymlinksDatasetFacet(identifiers=[same])
    if dataset.format is not None:
        layer = dataset.namespace.partition(":")[0]
        facets["storage"] = storage_dataset.StorageDatasetFacet(storageLayer=layer, fileFormat=dataset.format)
    return facets
