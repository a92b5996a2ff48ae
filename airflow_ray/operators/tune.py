"""The operator that searches hyper-parameters with Ray Tune."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Literal

from airflow_ray._compat import bundle_folders
from airflow_ray.client.submission.rendered import limit, mapping, value_or_none, whole_limit
from airflow_ray.client.tuning import (
    algorithm,
    check_space,
    is_plain,
    sample_count,
    trial_resources,
    values_of_templates,
)
from airflow_ray.exceptions import RayConfigurationError
from airflow_ray.operators.base import RayOperator
from airflow_ray.operators.log_lines import show_checkpoint, show_sources
from airflow_ray.operators.remote_call import RemoteCall
from airflow_ray.operators.tries import generation, task_try

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow.sdk import Context

    from airflow_ray.client.progress import Progress
    from airflow_ray.object_uri import ObjectURI


class RayTuneOperator(RayOperator):
    """Searches hyper-parameters on a Ray cluster with Ray Tune, as one Airflow task.

    Returned to Airflow, and as an XCom for each key, is plain JSON:

    - ``best_config``, ``best_metrics``, ``best_trial``: of the trial whose last report was best.
    - ``best_checkpoint``: address of its last checkpoint, or None.
    - ``best_object``: with ``load_best_checkpoint``, the object URI of what that holds.
    - ``table``: object URI of a DataFrame with a row for each trial.
    - ``trials``, ``errors``: how many there were, and how many of them failed.
    - ``experiment``: address of the folder with the state of the search.
    - ``report``: with ``report_path``, where the report is, or None if it could not be written.
    - ``seconds``: how long the search took, or its last try.

    A retry goes on with the search where it was, when the worker, the cluster or anything between has died: trials
    that had ended are not repeated, others go on from their last checkpoint. A cleared task searches anew, and so does
    a try whose trainable or search space is another one.

    :param trainable: a function ``(config)`` or ``(config, **data)`` that calls ``ray.tune.report``, a class
        ``ray.tune.Trainable``, or a trainer of Ray Train, whose ``train_loop_config`` each trial updates.
    :param param_space: mapping of constants and search spaces, or its text (templated). A search space is what
        ``ray.tune`` makes, or as JSON ``{"loguniform": [0.0001, 0.1]}``: the name of its function and the arguments.
        A template arrives as the number, list or mapping it renders to.
    :param metric: what is optimised, as the trainable reports it.
    :param mode: ``min`` or ``max``.
    :param data: further arguments of the trainable; object URIs in them, however nested, arrive as the objects, which
        all trials of a node share (templated).
    :param num_samples: number of trials, or repetitions of a grid; -1 for as many as ``time_budget_s`` has room for
        (templated).
    :param scheduler: one of Ray Tune's, its name, such as ``asha``, or ``{"asha": {"max_t": 50}}`` (templated).
    :param search_alg: one of Ray Tune's, its name, such as ``optuna``, or its name with arguments (templated).
    :param resources_per_trial: ``{"cpu": 2, "gpu": 0.5}``; None reserves a CPU (templated).
    :param max_concurrent_trials: how many run at the same time; None for as many as the cluster has room for
        (templated).
    :param time_budget_s: seconds after which the search ends with what it has (templated).
    :param stop: when a trial ends: a mapping of a metric to a value, a function or a ``ray.tune.Stopper``.
    :param callbacks: further ``ray.tune.Callback`` objects, or a function that returns them: it is called on the
        cluster, so that the DAG file need not import Ray.
    :param load_best_checkpoint: make what the best checkpoint holds an object: True for an XGBoost model, or a
        function that gets the folder of the checkpoint and returns the object.
    :param storage_path: where the state of the search and the checkpoints of the trials lie, ``s3://bucket/prefix``,
        ``gs://bucket/prefix``, ``file:///folder`` or a folder that all nodes see (templated). None takes the path for
        checkpoints that the connection or Airflow's configuration sets, or else a folder of the node that searches,
        which is enough for a cluster of one node.
    :param storage_conn_id: AWS connection with the credentials for it (templated).
    :param report_path: where to write a page with charts of the search, ``s3://bucket/name.html``, with the
        credentials of ``storage_conn_id``, or a file of the Airflow worker (templated).
    :param num_cpus: CPUs to reserve for the search itself, besides its trials.
    :param kwargs: arguments of :class:`~airflow_ray.operators.arguments.RayArguments`: connection, resources of the
        search itself, checkpoint of its outputs, deferral.
    :raises RayConfigurationError: an argument is wrong.
    :raises RaySearchSpaceError: a search space is misspelt, or its arguments make no sense.
    """

    template_fields: Sequence[str] = (
        "param_space",
        "data",
        "num_samples",
        "scheduler",
        "search_alg",
        "resources_per_trial",
        "max_concurrent_trials",
        "time_budget_s",
        "storage_path",
        "storage_conn_id",
        "report_path",
        *RayOperator.template_fields,
    )
    template_fields_renderers = {"param_space": "json", "data": "py", **RayOperator.template_fields_renderers}
    shallow_copy_attrs: Sequence[str] = ("trainable", "stop", "callbacks", "load_best_checkpoint")

    def __init__(
        self,
        *,
        trainable: Any,
        param_space: Mapping[str, Any] | str,
        metric: str,
        mode: Literal["min", "max"],
        data: Mapping[str, Any] | None = None,
        num_samples: int | str = 1,
        scheduler: Any = None,
        search_alg: Any = None,
        resources_per_trial: Mapping[str, float | str] | str | None = None,
        max_concurrent_trials: int | str | None = None,
        time_budget_s: float | str | None = None,
        stop: Any = None,
        callbacks: Sequence[Any] | Callable[[], Sequence[Any]] = (),
        load_best_checkpoint: bool | Callable[[str], Any] = False,
        storage_path: str | None = None,
        storage_conn_id: str | None = None,
        report_path: str | None = None,
        num_cpus: float | str = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_cpus=num_cpus, **kwargs)
        if not callable(trainable) and not callable(getattr(trainable, "fit", None)):
            raise RayConfigurationError(
                f"trainable must be a function, a class or a trainer of Ray Train, got {trainable!r}"
            )
        if not isinstance(metric, str) or not metric:
            raise RayConfigurationError(f"metric must be the name of what the trainable reports, got {metric!r}")
        if mode not in ("min", "max"):
            raise RayConfigurationError(f"mode must be 'min' or 'max', got {mode!r}")
        self.trainable = trainable
        self.param_space = param_space
        self.metric = metric
        self.mode = mode
        self.data = data or {}
        self.num_samples = num_samples
        self.scheduler = scheduler
        self.search_alg = search_alg
        self.resources_per_trial = resources_per_trial
        self.max_concurrent_trials = max_concurrent_trials
        self.time_budget_s = time_budget_s
        self.stop = stop
        self.callbacks = callbacks
        self.load_best_checkpoint = load_best_checkpoint
        self.storage_path = storage_path
        self.storage_conn_id = storage_conn_id
        self.report_path = report_path
        # Airflow makes an XCom of each key of what is returned.
        self.multiple_outputs = True
        # What rendering replaces: only what was a template becomes a number again.
        self._templates = {"param_space": param_space, "scheduler": scheduler, "search_alg": search_alg}
        if is_plain(param_space):
            check_space(param_space)

    def _remote_call(self, context: Context) -> RemoteCall:
        from airflow_ray.client.submission.payload import search
        from airflow_ray.client.tuning.report import report_location

        if report_path := value_or_none(self.report_path):
            report_location(report_path, value_or_none(self.storage_conn_id))
        space = self.client.plain(self._value_of_template("param_space"))
        check_space(space)
        storage = self._storage_location() or {}
        order = {
            "trainable": self.trainable,
            "param_space": space,
            "metric": self.metric,
            "mode": self.mode,
            "data": mapping("data", self.data),
            "num_samples": sample_count(self.num_samples),
            "scheduler": algorithm("scheduler", self._value_of_template("scheduler")),
            "search_alg": algorithm("search_alg", self._value_of_template("search_alg")),
            "resources_per_trial": trial_resources(self.resources_per_trial),
            "scheduling_timeout": self.scheduling_timeout,
            "max_concurrent_trials": whole_limit("max_concurrent_trials", self.max_concurrent_trials),
            "time_budget_s": limit("time_budget_s", self.time_budget_s),
            "stop": self.stop,
            "callbacks": self.callbacks,
            "load_best_checkpoint": self.load_best_checkpoint,
            "with_history": report_path is not None,
            **self._experiment(space, context),
        }
        options = {"multiple_outputs": True, "storage_path": storage.get("path")}
        options["storage_conn_id"] = storage.get("aws_conn_id")
        return RemoteCall(search, (order,), {}, options, code=_code_of(self.trainable))

    def _experiment(self, space: Any, context: Context) -> dict[str, str]:
        """Return folder and name of the experiment: the same for each try that may go on with it."""
        from airflow_ray.client.submission.fingerprint import experiment_name

        same = [space, self.metric, self.mode, task_try(self, context, self._holder)["run"]]
        folders = bundle_folders(context)
        name = experiment_name(_code_of(self.trainable), same, folders, generation(context))
        return {"folder": self._uri_of(context).record_id, "name": name}

    def _storage_location(self) -> dict[str, str | None] | None:
        from airflow_ray.client.checkpoints import find_storage

        path, conn_id = map(value_or_none, (self.storage_path, self.storage_conn_id))
        location = find_storage(self.client.settings, path, conn_id)
        return None if location is None else location.as_xcom()

    def _returned(self, uri: ObjectURI, progress: Progress) -> dict[str, Any]:
        record: dict[str, Any] = progress.record or {}
        summary: dict[str, Any] = self.client.get(uri.with_key("summary"))
        self.log.info(
            "Best of %d trials, %d of which failed: %s=%s with %s",
            summary["trials"],
            summary["errors"],
            self.metric,
            summary["best_metrics"][self.metric],
            summary["best_config"],
        )
        for output in record["outputs"].values():
            show_checkpoint(self.log, output.get("checkpoint"))
        show_sources(self.log, record["inputs"])
        returned = {**summary, "table": str(uri.with_key("trials"))}
        if "best_object" in record["outputs"]:
            returned["best_object"] = str(uri.with_key("best_object"))
        if report_path := value_or_none(self.report_path):
            returned["report"] = self._write_report(report_path, uri, summary)
        return returned

    def _write_report(self, path: str, uri: ObjectURI, summary: dict[str, Any]) -> str | None:
        from airflow_ray.client.tuning.report import write_report

        try:
            trials, history = (self.client.get(uri.with_key(key)) for key in ("trials", "history"))
            where = write_report(
                path,
                value_or_none(self.storage_conn_id),
                title=f"{uri.dag_id}: {uri.task_id}",
                trials=trials,
                history=history,
                metric=self.metric,
                mode=self.mode,
                best_trial=summary["best_trial"],
            )
        # Whatever goes wrong with a picture, it is not worth a search that has succeeded.
        except Exception:
            self.log.exception("No report could be written at %s", path)
            return None
        self.log.info("Report: %s", where)
        return where

    def _value_of_template(self, field: str) -> Any:
        return values_of_templates(self._templates[field], getattr(self, field))


def _code_of(trainable: Any) -> Callable[..., Any]:
    """Return the function or class of the user's that tells a trainable."""
    loop = getattr(trainable, "train_loop_per_worker", trainable)
    tells = inspect.isroutine(loop) or inspect.isclass(loop) or isinstance(loop, functools.partial)
    return loop if tells else type(loop)
