"""What Airflow's OpenLineage provider asks of each operator that runs something on a Ray cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_ray.client.lineage import inputs_of, named_in, outputs_of, resources_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_ray.object_uri import ObjectURI


class TellsLineage:
    """Tells what a task reads and makes, in the process that runs it, and from what that knows already.

    The provider calls these methods, in a process that it forks off for each event: no connection of the task may be
    used there. Without the provider nobody calls them, and nothing of it is imported.
    """

    template_fields: Sequence[str]
    inlets: list[Any]
    outlets: list[Any]
    # What the cluster has told of the work when that had ended, and its URI.
    _ended: tuple[ObjectURI, dict[str, Any]] | None = None

    def get_openlineage_facets_on_start(self) -> OperatorLineage:
        """Return the objects that the rendered arguments name."""
        from airflow_ray.operators.openlineage_facets import lineage

        arguments = [getattr(self, field, None) for field in self.template_fields]
        return lineage(named_in(arguments), [], None, self.inlets, self.outlets)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage:
        """Return the objects and checkpoints that were read and made, with their columns and sizes, and what it took.

        :param task_instance: of the task, as Airflow's process for tasks has it.
        """
        from airflow_ray.operators.openlineage_facets import lineage

        # A job whose result nobody wants has no record, and work that could not be submitted has none either.
        if self._ended is None:
            return self.get_openlineage_facets_on_start()
        uri, record = self._ended
        datasets = inputs_of(uri.conn_id, record), outputs_of(uri, record)
        return lineage(*datasets, resources_of(record), self.inlets, self.outlets)

    def get_openlineage_facets_on_failure(self, task_instance: Any) -> OperatorLineage:
        """Return what was read, and what it took until the work failed.

        :param task_instance: as for :meth:`get_openlineage_facets_on_complete`.
        """
        return self.get_openlineage_facets_on_complete(task_instance)
