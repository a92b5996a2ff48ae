"""The operator that runs a Python callable on a Ray cluster."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

from airflow_ray._compat import conf
from airflow_ray.client.submission.callables import check_callable
from airflow_ray.client.submission.rendered import arguments, mapping
from airflow_ray.client.submission.result_policy import check_result
from airflow_ray.client.submission.uri_policy import require_allowed
from airflow_ray.exceptions import RayConfigurationError
from airflow_ray.object_uri import ObjectURI, is_object_uri
from airflow_ray.operators.base import RayOperator
from airflow_ray.operators.log_lines import show_checkpoint, show_result, show_sources
from airflow_ray.operators.remote_call import RemoteCall

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.definitions.mappedoperator import OperatorPartial

    from airflow_ray.client.progress import Progress

SHOWN_OUTPUTS = 20
_PLAIN_CONTEXT_KEYS = frozenset(
    {
        "data_interval_end",
        "data_interval_start",
        "ds",
        "ds_nodash",
        "logical_date",
        "map_index_template",
        "params",
        "partition_date",
        "partition_key",
        "run_id",
        "task_instance_key_str",
        "task_reschedule_count",
        "ts",
        "ts_nodash",
        "ts_nodash_with_tz",
    }
)
# Live objects of the Airflow worker: they mean nothing on the cluster.
_LIVE_CONTEXT_KEYS = frozenset(
    {
        "asset_state_store",
        "conn",
        "dag",
        "dag_run",
        "inlet_events",
        "inlets",
        "macros",
        "outlet_events",
        "outlets",
        "task",
        "task_instance",
        "task_state_store",
        "ti",
        "triggering_asset_events",
        "var",
    }
)


class RayPythonOperator(RayOperator):
    """Runs a callable on a Ray cluster and leaves what it returns in the cluster's object store.

    What is returned to Airflow is the object URI, a text. Pass it on (``.output``, ``xcom_pull``) and the
    next Ray task gets the object itself. What the callable prints or logs appears in the task's log.

    The callable may name plain context variables as parameters (``ds``, ``run_id``, ``logical_date``,
    ``params``, ``conf`` for the run's configuration, …), as with Airflow's PythonOperator.

    :param python_callable: the function, ``async`` or not, or another callable. It need not be installed on the
        cluster, nor need helper modules in the DAG folder. A generator function is refused.
    :param op_args: positional arguments; object URIs in them, however nested, arrive as the objects
        (templated).
    :param op_kwargs: keyword arguments, likewise (templated).
    :param result: ``ref`` returns the object URI; ``value`` returns the value itself, which must be JSON
        of 1 MB at most.
    :param multiple_outputs: the callable returns a dict, each key of which becomes an object, and an
        XCom, of its own.
    :param kwargs: arguments of :class:`~airflow_ray.operators.arguments.RayArguments`: connection, resources,
        checkpoint, deferral.
    :raises RayConfigurationError: an argument is wrong, or the callable names a live context variable.
    """

    template_fields: Sequence[str] = ("op_args", "op_kwargs", *RayOperator.template_fields)
    template_fields_renderers = {"op_args": "py", "op_kwargs": "py", **RayOperator.template_fields_renderers}
    shallow_copy_attrs: Sequence[str] = ("python_callable",)

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        result: Literal["ref", "value"] = "ref",
        multiple_outputs: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_callable(python_callable)
        check_result(result, self.checkpoint)
        _refuse_live_context(python_callable, op_args or (), op_kwargs or {})
        self.python_callable = python_callable
        self.op_args = op_args or ()
        self.op_kwargs = op_kwargs or {}
        self.result = result
        self.multiple_outputs = multiple_outputs

    @classmethod
    def partial(cls, **kwargs: Any) -> OperatorPartial:
        """Return what ``expand()`` maps, as that of every operator.

        :raises RayConfigurationError: the callable cannot run on a cluster; a mapped operator itself is made when it
            runs.
        """
        if "python_callable" in kwargs:
            check_callable(kwargs["python_callable"])
        return super().partial(**kwargs)

    def _remote_call(self, context: Context) -> RemoteCall:
        args = arguments("op_args", self._whole(self.op_args))
        kwargs = mapping("op_kwargs", self._whole(self.op_kwargs))
        return RemoteCall(
            self.python_callable,
            args,
            {**self._context_arguments(context, args, kwargs), **kwargs},
            {
                "result": self.result,
                "multiple_outputs": self.multiple_outputs,
                "max_items": self._max_items(context),
            },
        )

    def _returned(self, uri: ObjectURI, progress: Progress) -> Any:
        record: dict[str, Any] = progress.record or {}
        outputs = record["outputs"]
        shown = [*outputs][:SHOWN_OUTPUTS]
        for key in shown:
            output = outputs[key]
            show_result(self.log, output, record, str(uri.with_key(key)) if self.result == "ref" else None)
            show_checkpoint(self.log, output.get("checkpoint"))
        if len(outputs) > len(shown):
            self.log.info("And %d more results", len(outputs) - len(shown))
        show_sources(self.log, record["inputs"])
        if self.result == "value":
            return progress.value
        if isinstance(progress.value, dict):
            return {name: str(uri.with_key(key)) for name, key in progress.value.items()}
        if isinstance(progress.value, list):
            return [str(uri.with_key(key)) for key in progress.value]
        # A callable that returns a dict may return None, as a plain task may.
        return str(uri) if outputs else None

    def _max_items(self, context: Context) -> int | None:
        """Return how many items the result may have where mapped tasks expand over it: Airflow wants a list then."""
        is_mapped = self._uri_of(context).map_index >= 0
        if self.result != "ref" or self.multiple_outputs or is_mapped or self.get_dag() is None:
            return None
        is_expanded_over = next(iter(self.iter_mapped_dependants()), None) is not None
        return conf.getint("core", "max_map_length", fallback=1024) if is_expanded_over else None

    def _whole(self, given: Any) -> Any:
        """Return all positional or all keyword arguments, which may come from another task in one."""
        if is_object_uri(given):
            return self.client.get(require_allowed(ObjectURI.parse(given)))
        return self.client.plain(given)

    def _context_arguments(self, context: Context, args: Any, kwargs: Any) -> dict[str, Any]:
        """Return the plain context variables that the callable names, or all if it takes ``**kwargs``.

        :param args: what it gets by position, and ``kwargs`` by name.
        """
        available: dict[str, Any] = {key: context[key] for key in _PLAIN_CONTEXT_KEYS if key in context}  # type: ignore[literal-required]
        available["params"] = dict(available.get("params") or {})
        available["conf"] = dict(context["dag_run"].conf or {}) if "dag_run" in context else {}
        loop: Any = context.get("loop")
        if loop is not None:
            available["loop"] = SimpleNamespace(index=loop.index, max_iterations=loop.max_iterations)
        parameters = _parameters(self.python_callable)
        positional = _by_position(parameters)[: len(args)]
        names = available.keys() - positional - kwargs.keys()
        if not any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
            names &= parameters.keys()
        return {key: available[key] for key in names}


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    # Some built-in callables have no signature.
    except (TypeError, ValueError):
        return {}


def _by_position(parameters: Mapping[str, inspect.Parameter]) -> list[str]:
    """Return the names of those that an argument without a name fills, in their order."""
    kinds = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    return [name for name, parameter in parameters.items() if parameter.kind in kinds]


def _refuse_live_context(function: Callable[..., Any], op_args: Any, op_kwargs: Any) -> None:
    if not isinstance(op_args, Sequence) or not isinstance(op_kwargs, Mapping):
        # They come from another task, which may give what is missing here.
        return
    parameters = _parameters(function)
    taken = _by_position(parameters)[: len(op_args)]
    for name in (each for each in parameters if each not in taken):
        has_value = name in op_kwargs or parameters[name].default not in (inspect.Parameter.empty, None)
        if name in _LIVE_CONTEXT_KEYS and not has_value:
            raise RayConfigurationError(
                f"The callable names {name!r}, a live object of the Airflow worker that does not exist on the "
                f"Ray cluster. Name plain variables such as ds, run_id, logical_date, params or conf instead, or "
                f"pass what it needs of it through op_kwargs and a template, like '{{{{ ti.map_index }}}}'."
            )
