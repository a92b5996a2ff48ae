"""What the package uses of other libraries that their documents do not promise, so that a new release fails here first.

``PARTS`` says of each why it is used, and what is looked at. Another test reads the package's source and tells what is
missing in the table, and what is in it although nobody uses it any more.
"""

from __future__ import annotations

import ast
import dis
import importlib
import inspect
import re
import types
from collections import defaultdict
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import pytest

import airflow_ray
from airflow_ray.client.kuberay.pods import SLOW_STARTS

PACKAGE = Path(airflow_ray.__file__).parent
# Of these, whatever their documents do not list is private too. Of the others, names with a leading underscore are.
WATCHED = ("airflow", "ray")
# A text that may name a module of them, for an import or a process.
MODULE_NAME = re.compile(rf"({'|'.join(WATCHED)})(\.[a-z_]+)+")
# Where documented names are. A module inside one of them is not documented by that.
DOCUMENTED = (
    "airflow.configuration",
    "airflow.plugins_manager",
    "airflow.providers.amazon.aws.hooks.s3",
    "airflow.providers.cncf.kubernetes.hooks.kubernetes",
    "airflow.providers.common.compat.sdk",
    "airflow.sdk",
    "airflow.sdk.bases.xcom",
    "airflow.sdk.log",
    "airflow.triggers.base",
    "ray",
    "ray.exceptions",
    "ray.runtime_env",
    "ray.train",
    "ray.tune",
    "ray.tune.integration.ray_train",
    "ray.util",
    "ray.util.scheduling_strategies",
)
# Documented in spite of the underscore, or names of this package's own that only look like another's.
NOT_PRIVATE = {
    "__type",  # a key of the JSON that Airflow serialises to
    "__var",  # likewise
    "_DYNAMIC_CLASS_TRACKER_",  # how the names begin that are listed
    "_at",  # the end of a column's name
    "_exit",  # of os
    "_generator_backpressure_num_objects",  # an option of tasks that Ray documents
    "_known_by_airflow_ray",  # where this package leaves its own note
    "_link_",  # with what the keys of such links begin
    "_link_RayDashboardLink",  # the key under which Airflow keeps the link of that class
    "_make",  # of a named tuple
    "_not_before",  # a field of a snapshot
    "_ray_internal_airflow_ray_gateway",  # a namespace
    "_ray_pkg_",  # how Ray's Jobs API names a package
    "_replace",  # of a named tuple
    "_used_by_airflow_ray",  # where this package leaves its own note
}


@dataclass(frozen=True)
class Part:
    """A private part, or one that no document lists.

    :param name: the dotted name, as the package comes to it.
    :param why: why it is used in spite of that.
    :param has: names that must be there on it, or in it, separated by blanks.
    :param at: where it is found without a cluster, if ``name`` leads there with a cluster only.
    :param call: a call as the package makes it, given the stand-in for the function: its parameters must bind.
    :param optional: the library that must be installed for it, if the package can do without.
    :param since: from which release of Airflow on it is there.
    :param before: from which release of Airflow on it is not needed any more.
    :param unseen: whether the source does not name it: it is on what something else returns, or inherited.
    """

    name: str
    why: str
    has: str = ""
    at: str = ""
    call: Callable[[Any], Any] | None = None
    optional: str = ""
    since: tuple[int, ...] = ()
    before: tuple[int, ...] = ()
    unseen: bool = False


PARTS = [
    # Airflow: its database and its pages, for the Ray page.
    Part(
        "airflow.api_fastapi.app.get_auth_manager",
        "each question whether somebody may see or do something goes to Airflow's own authorisation",
        has="get_authorized_dag_ids is_authorized_connection is_authorized_dag",
        at="airflow.api_fastapi.auth.managers.base_auth_manager.BaseAuthManager",
    ),
    Part(
        "airflow.api_fastapi.auth.managers.models.resource_details",
        "what is asked of the authorisation",
        has="ConnectionDetails DagAccessEntity DagDetails",
    ),
    Part(
        "airflow.api_fastapi.auth.managers.models.resource_details.DagAccessEntity",
        "the kinds of what a DAG has",
        has="RUN TASK_INSTANCE TASK_LOGS XCOM",
    ),
    Part(
        "airflow.api_fastapi.core_api.security",
        "who asks, from the cookie of Airflow's own pages",
        has="get_user requires_access_dag",
    ),
    Part(
        "airflow.models.connection.Connection",
        "which connections of type ray there are",
        has="conn_id conn_type host get_connection_from_secrets get_team_name",
    ),
    Part("airflow.models.dag.DagModel", "the team of a DAG", has="get_team_name"),
    Part(
        "airflow.models.dagrun.DagRun",
        "whether a run has ended, from a process that runs no task",
        has="dag_id run_id state",
    ),
    Part(
        "airflow.models.renderedtifields.RenderedTaskInstanceFields",
        "the connection that a task has used",
        has="rendered_fields",
    ),
    Part(
        "airflow.models.renderedtifields.RenderedTaskInstanceFields.task_instance_id",
        "likewise: before it, the run is beside the fields",
        since=(3, 4),
    ),
    Part(
        "airflow.models.taskinstance.TaskInstance",
        "the fields and the last lines of the log of a task",
        has="dag_id dag_model dag_run id map_index run_id task_id trigger try_number",
    ),
    Part("airflow.models.trigger.Trigger", "likewise", has="triggerer_job"),
    Part(
        "airflow.jobs.triggerer_job_runner",
        "whether a person is why a trigger is cancelled",
        has="_USER_ACTION_CANCEL_MSG messages",
        since=(3, 3),
    ),
    Part(
        "airflow.jobs.triggerer_job_runner.messages.TriggerStateSync",
        "whether another triggerer may have taken it over",
        has="model_fields",
    ),
    Part("airflow.models.xcom", "the URIs that a run has handed over", has="XComModel"),
    Part(
        "airflow.models.xcom.XComModel",
        "likewise",
        has="get_many value",
        call=lambda f: f.get_many(run_id="", dag_ids="", task_ids=None, map_indexes=None, key=None),
    ),
    Part("airflow.models.xcom.xcom_entity", "likewise, of which of its two tables", since=(3, 4)),
    Part("airflow.utils.log.log_reader.TaskLogReader", "the last lines", has="read_log_chunks"),
    Part("airflow.utils.session.create_session", "a session of Airflow's database"),
    Part("airflow.utils.state.State", "which states end a run", has="unfinished_dr_states"),
    Part("airflow.__version__", "the text for an Airflow that is too old says which one it is"),
    # Airflow: its commands.
    Part(
        "airflow.cli.cli_config",
        "how a provider adds commands",
        has="ARG_OUTPUT ARG_YES ActionCommand Arg GroupCommand lazy_load_command positive_int",
    ),
    Part(
        "airflow.cli.simple_table.AirflowConsole",
        "tables that look as those of Airflow's own commands",
        has="print_as_json print_as_plain_table print_as_table print_as_yaml width",
    ),
    # Airflow: tasks.
    Part(
        "airflow.sdk.execution_time.task_runner",
        "whether this process runs a task, and how many runs there are of a state",
        has="RuntimeTaskInstance SUPERVISOR_COMMS",
    ),
    Part(
        "airflow.sdk.execution_time.task_runner.RuntimeTaskInstance",
        "whether a run has ended, and which task instances there are, from a task",
        has="get_dr_count get_task_states",
        call=lambda f: (
            f.get_dr_count(dag_id="", run_ids=[""], states=[""]),
            f.get_task_states("", map_index=0, task_ids=[""], run_ids=[""]),
        ),
    ),
    Part(
        "airflow.sdk.execution_time.xcom.XCom",
        "an XCom of another task instance",
        has="get_one set",
        call=lambda f: (
            f.get_one(key="", dag_id="", run_id="", task_id="", map_index=-1),
            f.set(key="", value="", dag_id="", run_id="", task_id="", map_index=-1),
        ),
    ),
    Part(
        "airflow.sdk.bases.xcom.BaseXCom",
        "both ways in which backends store and load values",
        has="_load _store",
        since=(3, 4),
    ),
    Part(
        "airflow.sdk.definitions.xcom_arg.MapXComArg",
        "the functions of .map(), which travel by value",
        has="arg callables",
        unseen=True,
    ),
    Part(
        "airflow.sdk.definitions._internal.expandinput.MappedArgument",
        "likewise, in the arguments of a mapped task",
        has="_input",
        unseen=True,
    ),
    Part(
        "airflow.sdk.execution_time.supervisor.ensure_secrets_backend_loaded",
        "commands find connections in the database as Airflow's own do",
        has="_AIRFLOW_PROCESS_CONTEXT",
    ),
    Part(
        "airflow.sdk.definitions._internal.templater.Templater",
        "templates are rendered field by field, with what stays a text",
        has="_do_render_template_fields",
        unseen=True,
    ),
    Part(
        "airflow.sdk.bases.decorator._TaskDecorator",
        "a task in place of a function is refused by its mark",
        has="_airflow_is_task_decorator",
    ),
    Part(
        "airflow.providers.openlineage.extractors.OperatorLineage",
        "what OpenLineage is told of a task",
        has="inputs job_facets outputs run_facets",
        optional="airflow.providers.openlineage",
    ),
    Part(
        "airflow.providers.openlineage.extractors.manager.ExtractorManager",
        "the data sets that inlets and outlets name",
        has="convert_to_ol_dataset",
        optional="airflow.providers.openlineage",
    ),
    Part("airflow.utils.helpers", "where a trigger's log is", has="parse_template_string render_template"),
    Part("airflow.observability.stats", "metrics of the triggerer", has="Stats", since=(3, 2)),
    Part("airflow.sdk.observability.stats", "metrics of tasks", has="Stats", since=(3, 2)),
    Part("airflow.stats", "both", has="Stats", before=(3, 2)),
    Part("airflow.models.variable", "a callable is warned that asks Airflow on the cluster", has="Variable"),
    Part("airflow.sdk.definitions.variable", "likewise", has="Variable"),
    Part("airflow.sdk.definitions.connection", "likewise", has="Connection"),
    Part("airflow.sdk.definitions.context", "likewise", has="get_current_context"),
    Part("airflow.sdk.bases.hook", "likewise", has="BaseHook"),
    # Ray: the process of a driver, worker or actor.
    Part(
        "ray._private.worker",
        "what Ray knows of this process and its cluster",
        has="RayContext _global_node get_dashboard_url global_worker",
    ),
    Part(
        "ray._private.worker.RayContext",
        "what ray.init() returns in a task of a notebook's function",
        call=lambda f: f({}),
    ),
    Part(
        "ray._private.worker._global_node",
        "the log of an environment that is being built",
        at="ray._private.node.Node",
        has="get_logs_dir_path",
    ),
    Part(
        "ray._private.worker.global_worker",
        "what Ray knows of this process",
        at="ray._private.worker.connect",
        has="core_worker gcs_client mode",
    ),
    Part("ray._private.worker.Worker", "likewise", has="function_actor_manager", unseen=True),
    Part(
        "ray._private.worker.global_worker.get_serialization_context",
        "what Ray loads for the first value of a process, before its memory is measured",
        at="ray._private.worker.Worker.get_serialization_context",
        call=lambda f: f(None),
    ),
    Part(
        "ray._private.worker.global_worker.core_worker",
        "the task that runs, its children, and whether an object is an error, without reading it",
        at="ray._raylet.CoreWorker",
        has="get_actor_id get_current_task_id get_current_task_name get_local_actor_state get_objects "
        "get_pending_children_task_ids",
        call=lambda f: f.get_objects(None, [], 100),
    ),
    Part(
        "ray._private.worker.global_worker.function_actor_manager",
        "whether this thread unpickles arguments, when it must not wait",
        at="ray._private.function_manager.FunctionActorManager",
        has="lock",
    ),
    Part(
        "ray._private.worker.global_worker.gcs_client",
        "what waits for resources, the nodes, and a place for code that all processes need",
        at="ray._raylet.InnerGcsClient",
        has="address get_all_node_info get_cluster_resource_state internal_kv_get internal_kv_put",
    ),
    Part(
        "ray._private.function_manager",
        "each function and class that a task exports carries along what takes its output",
        has="pickle_dumps",
    ),
    Part(
        "ray._private.serialization.SerializationContext",
        "output that was written before a value has come before the value",
        has="serialize",
        call=lambda f: f.serialize(None, 1),
    ),
    Part("ray.WORKER_MODE", "a driver that gets such a function writes as ever"),
    Part("ray.remote_function", "likewise for functions", has="RemoteFunction pickle_dumps"),
    Part("ray.remote_function.RemoteFunction", "which tasks a task starts", has="_function _remote"),
    Part("ray.ObjectRefGenerator", "the task behind a generator", has="_generator_ref"),
    Part("ray.actor", "handles and classes of actors", has="ActorClass ActorHandle"),
    Part("ray.actor.ActorClass", "which actors a task starts, to end them with it", has="_default_options _remote"),
    Part(
        "ray.actor.ActorHandle",
        "an actor by its id, and a handle that keeps it not alive",
        has="_actor_id _deserialization_helper _ray_actor_id _serialization_helper",
        call=lambda f: f._deserialization_helper(None, True),
    ),
    # Ray: the cluster.
    Part(
        "ray._private.state.state",
        "what the cluster may grow to, and its tables",
        has="_connect_and_get_accessor get_max_resources_from_cluster_config",
    ),
    Part(
        "ray._private.state.state._connect_and_get_accessor",
        "all actors and placement groups that are left, in one question each",
        at="ray._raylet.GlobalStateAccessor",
        has="get_actor_table get_placement_group_table",
        call=lambda f: f.get_actor_table(None, None, "ALIVE"),
    ),
    Part("ray._private.internal_api.get_memory_info_reply", "how much was spilled to disk", call=lambda f: f(None)),
    Part(
        "ray.experimental",
        "sizes and places of objects, which nothing else tells",
        has="get_local_object_locations get_object_locations",
    ),
    Part(
        "ray._private.grpc_utils.init_grpc_channel",
        "a channel with the cluster's token and certificates",
        call=lambda f: f("", credentials=None),
    ),
    Part(
        "ray._private.authentication.http_token_authentication.get_auth_headers_if_auth_enabled",
        "the agent of a node asks for the cluster's token",
        call=lambda f: f({}),
    ),
    Part(
        "ray.core.generated.autoscaler_pb2.GetClusterResourceStateReply",
        "what waits for resources",
        has="FromString cluster_resource_state",
    ),
    Part(
        "ray.core.generated.autoscaler_pb2.ClusterResourceState",
        "likewise",
        has="node_states pending_gang_resource_requests pending_resource_requests",
        unseen=True,
    ),
    Part(
        "ray.core.generated.autoscaler_pb2.NodeState",
        "likewise",
        has="available_resources node_id status total_resources",
        unseen=True,
    ),
    Part("ray.core.generated.common_pb2", "names in Ray's tables", has="Language PlacementStrategy TaskStatus"),
    Part("ray.core.generated.common_pb2.Language", "whose classes Ray does not load", has="JAVA"),
    Part(
        "ray.core.generated.common_pb2.TaskStatus",
        "the states of a task that may wait",
        has="FAILED FINISHED Name PENDING_ARGS_AVAIL PENDING_NODE_ASSIGNMENT RUNNING RUNNING_IN_RAY_GET "
        "RUNNING_IN_RAY_WAIT",
    ),
    Part("ray.core.generated.core_worker_pb2", "a handle without the class of its actor", has="ActorHandle"),
    Part(
        "ray.core.generated.core_worker_pb2.ActorHandle",
        "likewise",
        has="FromString SerializeToString actor_language",
    ),
    Part("ray.core.generated.gcs_pb2", "rows of Ray's tables", has="ActorTableData PlacementGroupTableData"),
    Part(
        "ray.core.generated.gcs_pb2.ActorTableData",
        "likewise",
        has="DEAD FromString actor_id name parent_id required_resources",
    ),
    Part("ray.core.generated.gcs_pb2.TaskEvents", "likewise", has="state_updates task_id task_info", unseen=True),
    Part(
        "ray.core.generated.gcs_service_pb2",
        "whether a control service answers, and which tasks have not ended",
        has="CheckAliveRequest GetTaskEventsRequest",
    ),
    Part("ray.core.generated.gcs_service_pb2.GetTaskEventsRequest", "likewise", has="Filters filters limit"),
    Part("ray.core.generated.gcs_service_pb2.GetTaskEventsReply", "likewise", has="events_by_task", unseen=True),
    Part("ray.core.generated.gcs_service_pb2_grpc", "likewise", has="NodeInfoGcsServiceStub TaskInfoGcsServiceStub"),
    Part(
        "ray.core.generated.ray_client_pb2",
        "whether a Ray Client server answers, before Ray waits for half a minute",
        has="ClusterInfoRequest ClusterInfoType",
    ),
    Part("ray.core.generated.ray_client_pb2_grpc", "likewise", has="RayletDriverStub"),
    Part(
        "ray.core.generated.runtime_env_agent_pb2",
        "the environments that a node builds",
        has="GetRuntimeEnvsInfoReply GetRuntimeEnvsInfoRequest",
    ),
    # Ray: clients and drivers.
    Part("ray.scripts.scripts", "the command that starts a head of this machine", has="start"),
    Part("ray.util.client.logsclient", "the name of a logger", has="logger"),
    Part(
        "ray.init",
        "the token and the certificates of one connection, instead of those of the process",
        at="ray.client_builder.ClientBuilder",
        has="_credentials _metadata",
    ),
    Part("ray.client_builder.ClientContext", "the connection that was just opened", has="_context_to_restore"),
    Part(
        "ray._private.client_mode_hook",
        "drivers and clients in one process",
        has="_explicitly_disable_client_mode disable_client_hook",
    ),
    Part("ray.util.client", "likewise", has="_all_contexts _lock ray"),
    Part("ray.util.client", "connections that are lost", at="ray.util.client._ClientContext", has="is_connected"),
    Part("ray.util.client.ray", "the connection of this thread", "set_context", at="ray.util.client.RayAPIStub"),
    Part(
        "ray.util.client.common",
        "whether an actor or its class is a client's",
        has="ClientActorClass ClientActorHandle",
    ),
    Part(
        "ray._raylet",
        "values that lie in the store, and the token that a driver sends",
        has="AuthenticationTokenLoader Config SubBuffer",
    ),
    Part("ray._raylet.Config", "likewise", has="initialize"),
    Part("ray._raylet.AuthenticationTokenLoader", "likewise", has="has_token instance reset_cache"),
    Part(
        "ray.shutdown",
        "the end of the process is told from a call of a notebook",
        at="ray._private.worker.shutdown",
        has="_exiting_interpreter",
    ),
    Part(
        "ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy",
        "strategies travel as plain data",
        has="_fail_on_unavailable _spill_on_unavailable",
    ),
    # Ray: lines, GPUs, searches.
    Part(
        "ray._private.ray_logging.LogDeduplicator",
        "lines of children that are alike",
        has="deduplicate flush",
        call=lambda f: f(5, None, None),
    ),
    Part(
        "ray._private.ray_constants",
        "likewise",
        has="RAY_DEDUP_LOGS_AGG_WINDOW_S RAY_DEDUP_LOGS_ALLOW_REGEX RAY_DEDUP_LOGS_SKIP_REGEX",
    ),
    Part(
        "ray._private.thirdparty.pynvml",
        "the memory that is in use on a GPU, by the library that comes with Ray",
        has="nvmlDeviceGetHandleByIndex nvmlDeviceGetHandleByUUID nvmlDeviceGetMemoryInfo nvmlInit",
    ),
    Part("ray.tune.with_resources", "what it has said of a trainable stays when that is wrapped", has="_resources"),
    Part(
        "ray.tune.execution.tune_controller.TrialRunnerWrapper",
        "a snapshot of the search after each trial",
        has="_tune_controller",
    ),
    Part(
        "ray.tune.execution.tune_controller.TuneController",
        "the report that lacks the metric, and snapshots",
        has="_validate_result_metrics checkpoint get_trials",
    ),
    Part(
        "ray.experimental.internal_kv",
        "where Ray Tune keeps trainables by job and name",
        has="_internal_kv_del _internal_kv_get _internal_kv_put",
    ),
    Part(
        "ray.tune.registry",
        "which has those functions by their names",
        has="_internal_kv_del _internal_kv_get _internal_kv_put TRAINABLE_CLASS",
    ),
    Part("ray.tune.result", "which reports are Ray's own", has="AUTO_RESULT_KEYS DEBUG_METRICS DONE"),
    Part(
        "ray.train.v2.api.data_parallel_trainer.DataParallelTrainer",
        "a trainer of Ray Train is copied for each trial",
        has="fit",
    ),
    Part("ray.tune.utils", "nested reports by flat names", has="flatten_dict"),
    # Both cloudpickles.
    Part(
        "ray.cloudpickle",
        "Ray's copy of it, by which its processes read",
        has="__version__ dumps loads register_pickle_by_value unregister_pickle_by_value",
    ),
    Part("ray.cloudpickle.cloudpickle_fast", "pickles of older releases name it"),
    Part(
        "cloudpickle.cloudpickle",
        "classes keep their identity, and what it cannot copy travels too",
        has="_DYNAMIC_CLASS_TRACKER_BY_CLASS _DYNAMIC_CLASS_TRACKER_BY_ID _DYNAMIC_CLASS_TRACKER_LOCK "
        "_PICKLE_BY_VALUE_MODULES _class_setstate _is_registered_pickle_by_value _lookup_module_and_qualname "
        "_make_skeleton_class _make_skeleton_enum",
    ),
    Part(
        "ray.cloudpickle.cloudpickle",
        "likewise, in Ray's copy",
        has="_DYNAMIC_CLASS_TRACKER_BY_CLASS _DYNAMIC_CLASS_TRACKER_BY_ID _DYNAMIC_CLASS_TRACKER_LOCK "
        "_PICKLE_BY_VALUE_MODULES _class_setstate _is_registered_pickle_by_value _lookup_module_and_qualname "
        "_make_skeleton_class _make_skeleton_enum",
    ),
    # Others.
    Part("functools._lru_cache_wrapper", "the type of a cached function"),
    Part("logging._StderrHandler", "a handler of last resort for INFO too"),
    Part("_thread.LockType", "a child of a fork finds it free", has="_at_fork_reinit", unseen=True),
    Part("_thread.RLock", "likewise; whether this thread has it", has="_at_fork_reinit _is_owned", unseen=True),
    Part("pytz._FixedOffset", "a zone without a name", has="_minutes", optional="pytz"),
    Part(
        "modin.pandas.DataFrame",
        "a frame's parts, and a few of its rows as pandas",
        has="_query_compiler _to_pandas",
        optional="modin",
    ),
    Part(
        "kubernetes.client.ApiClient.call_api",
        "plain data instead of the client's classes, within a time",
        has="_preload_content _request_timeout _return_http_data_only",
        optional="kubernetes",
    ),
]
# Numbers that the package compares with, as the protocol of Ray has them.
NUMBERS = [
    ("ray.core.generated.gcs_pb2.GcsNodeInfo.ALIVE", 0, "the nodes that build"),
    ("ray.core.generated.autoscaler_pb2.NodeStatus.RUNNING", 1, "the nodes that live"),
    ("ray.core.generated.autoscaler_pb2.NodeStatus.IDLE", 3, "likewise, without work"),
    ("ray.core.generated.gcs_service_pb2.FilterPredicate.NOT_EQUAL", 1, "unfinished tasks"),
    ("ray.core.generated.common_pb2.TaskType.NORMAL_TASK", 0, "neither of an actor's"),
]


def found(name: str) -> Any:
    """Return what a dotted name leads to, through modules and attributes.

    :raises LookupError: there is nothing of that name, which the text tells.
    """
    parts = name.split(".")
    thing: Any = importlib.import_module(parts[0])
    for number, part in enumerate(parts[1:], 2):
        if isinstance(thing, types.ModuleType) and not hasattr(thing, part):
            try:
                importlib.import_module(".".join(parts[:number]))
            except ModuleNotFoundError as error:
                raise LookupError(f"{'.'.join(parts[:number])} is not there any more") from error
        if not hasattr(thing, part):
            raise LookupError(f"{'.'.join(parts[:number])} is not there any more")
        thing = getattr(thing, part)
    return thing


def names_in(code: types.CodeType) -> set[str]:
    """Return all names and texts that some code, and what is defined in it, knows."""
    texts = {const for const in code.co_consts if isinstance(const, str)}
    inner = [names_in(const) for const in code.co_consts if isinstance(const, types.CodeType)]
    return {*code.co_varnames, *code.co_names, *texts}.union(*inner)


def names_set_in(function: Any) -> set[str]:
    """Return the attributes that a method sets."""
    return {each.argval for each in dis.get_instructions(function) if each.opname == "STORE_ATTR"}


def names_of(thing: Any) -> set[str]:
    """Return the names that something has: its attributes, fields and parameters, and what its methods set."""
    names = set(dir(thing)) | set(getattr(thing, "__annotations__", ()))
    if (descriptor := getattr(thing, "DESCRIPTOR", None)) is not None:
        for kind_of_name in ("fields_by_name", "values_by_name", "enum_values_by_name"):
            names |= set(getattr(descriptor, kind_of_name, ()))
    kinds = thing.__mro__ if isinstance(thing, type) else ()
    for kind in kinds:
        names |= set(vars(kind).get("__annotations__", ()))
    values = [value for kind in kinds for value in vars(kind).values()] or [thing]
    for value in map(inspect.unwrap, (getattr(each, "fget", None) or each for each in values)):
        if inspect.isfunction(value):
            names |= names_set_in(value) if kinds else names_in(value.__code__)
    return names


class Bound:
    """Stands for a function or class in ``Part.call``: its parameters must bind, and nothing is called."""

    def __init__(self, thing: Any) -> None:
        self._thing = thing

    def __getattr__(self, name: str) -> Bound:
        return Bound(getattr(self._thing, name))

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        inspect.signature(self._thing).bind(*args, **kwargs)


def airflow_version() -> tuple[int, ...]:
    from airflow import __version__

    return tuple(map(int, __version__.split(".")[:2]))


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__") and name != "_" and name not in NOT_PRIVATE


class Module:
    """What one module of the package uses of other libraries, by dotted names as far as its source tells them.

    A name without one, such as ``?._lock``, is an attribute, a text or a parameter of something that the source does
    not tell.
    """

    def __init__(self, source: str) -> None:
        self.tree = ast.parse(source)
        skipped = {id(node) for each in ast.walk(self.tree) if _is_for_types(each) for node in ast.walk(each)}
        self.nodes = [node for node in ast.walk(self.tree) if id(node) not in skipped]

    @cached_property
    def own_names(self) -> set[str]:
        """What the module itself defines."""
        names = set()
        for node in ast.walk(self.tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                names.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_own(node.value):
                names.add(node.attr)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                names.add(node.target.id)
            elif isinstance(node, ast.Assign):
                names |= {each.id for each in node.targets if isinstance(each, ast.Name)}
        return names

    def imported(self) -> Iterator[tuple[str, str]]:
        """Yield each import of another library: the name here, and the dotted one."""
        for node in self.nodes:
            if isinstance(node, ast.Import):
                for each in node.names:
                    yield each.asname or each.name.partition(".")[0], each.name
            elif isinstance(node, ast.ImportFrom) and node.module:
                for each in node.names:
                    yield each.asname or each.name, f"{node.module}.{each.name}"

    @cached_property
    def known(self) -> dict[str, str]:
        """The dotted names behind names and attributes of this module."""
        known = {
            here: name if "." not in name or here != name.partition(".")[0] else here
            for here, name in self.imported()
            if not name.startswith("airflow_ray")
        }
        for node in self.nodes:
            value = getattr(node, "value", None)
            targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
            for target in targets:
                pairs = zip(target.elts, value.elts, strict=False) if _are_tuples(target, value) else [(target, value)]
                for each, given in pairs:
                    if isinstance(each, (ast.Name, ast.Attribute)) and (name := self._dotted(given, known)):
                        known.setdefault(ast.unparse(each), name)
        return known

    def _dotted(self, node: Any, known: dict[str, str]) -> str:
        if isinstance(node, (ast.Name, ast.Attribute)) and (name := known.get(ast.unparse(node))):
            return name
        if isinstance(node, ast.Call):
            return self._dotted(node.func, known)
        above = self._dotted(node.value, known) if isinstance(node, ast.Attribute) else ""
        return above and f"{above}.{node.attr}"

    def used(self) -> Iterator[str]:
        """Yield what is used of other libraries."""
        yield from (name for _, name in self.imported() if not name.startswith("airflow_ray"))
        for node in self.nodes:
            if isinstance(node, ast.Attribute):
                yield self._dotted(node, self.known) or f"?.{node.attr}"
            elif isinstance(node, ast.Call):
                for name in (each.arg for each in node.keywords if each.arg and is_private(each.arg)):
                    yield f"{self._dotted(node.func, self.known) or '?'}.{name}"
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                if node.value.isidentifier():
                    yield f"?.{node.value}"
                elif MODULE_NAME.fullmatch(node.value):
                    yield node.value


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def _is_own(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def _are_tuples(*nodes: Any) -> bool:
    return all(isinstance(each, ast.Tuple) for each in nodes)


def is_documented(name: str) -> bool:
    """Whether a name of Airflow or Ray is one that their documents list, or is on something of such a name."""
    namespace = max((each for each in DOCUMENTED if f"{name}.".startswith(f"{each}.")), key=len, default="")
    rest = name.removeprefix(namespace).split(".")[1:]
    if not namespace:
        return False
    try:
        importlib.import_module(namespace)
        return not rest or not isinstance(found(f"{namespace}.{rest[0]}"), types.ModuleType)
    except ImportError:
        # Its library is not installed here.
        return True
    except LookupError:
        # It is of other releases.
        return False


def parts_of(name: str, own: Set[str]) -> list[Part] | None:
    """Return the parts in the table that a use belongs to; None for a private one that is not in it.

    :param own: names that the package itself defines.
    """
    above = [part for part in PARTS if f"{name}.".startswith(f"{part.name}.")]
    nearest = max(above, key=lambda part: len(part.name), default=None)
    first = name.partition(".")[0]
    rest = name.removeprefix(nearest.name if nearest else first).split(".")[1:]
    if nearest is not None and (not rest or not nearest.has or rest[0] in nearest.has.split()):
        # What is on a documented name may be private, and the name is not.
        return [] if nearest.has and not rest and is_documented(name) else above
    if nearest is None and any(part.name.startswith(f"{name}.") for part in PARTS):
        return []
    for each in rest:
        if is_private(each) and (first in WATCHED or each not in own):
            return [part for part in PARTS if each in part.has.split() or part.name.endswith(f".{each}")] or None
    return [] if first not in WATCHED or is_documented(name) else None


@cache
def users() -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Return which modules of the package use each part, and which use what is private and in no part."""
    modules = {path.relative_to(PACKAGE): Module(path.read_text()) for path in PACKAGE.rglob("*.py")}
    own = set().union(*(module.own_names for module in modules.values()))
    of_parts, missing = defaultdict(set), defaultdict(set)
    for path, module in modules.items():
        for name in module.used():
            parts = parts_of(name, own)
            if parts is None:
                missing[name].add(str(path))
            for part in parts or ():
                of_parts[part.name].add(str(path))
    return of_parts, missing


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_part_of_another_library_is_there(part: Part):
    if part.optional:
        pytest.importorskip(part.optional)
    if airflow_version() < part.since or () < part.before <= airflow_version():
        pytest.skip("it is of other releases of Airflow")
    place = part.at or part.name
    thing = found(place)
    missing = sorted(name for name in set(part.has.split()) - names_of(thing) if not hasattr(thing, name))
    assert not missing, f"not in {place} any more: {part.why}, in {users()[0].get(part.name)}"
    if part.call is not None:
        part.call(Bound(thing))


@pytest.mark.parametrize(("name", "number", "what"), NUMBERS, ids=[name for name, *_ in NUMBERS])
def test_number_of_ray_is_the_same(name: str, number: int, what: str):
    assert found(name) == number, what


@pytest.mark.parametrize(("module", "text"), zip(("node", "services"), SLOW_STARTS, strict=True))
def test_ray_says_the_same_of_a_head_that_takes_too_long_to_start(module: str, text: str):
    assert text in inspect.getsource(found(f"ray._private.{module}"))


def test_each_private_part_that_is_used_is_in_the_table():
    assert users()[1] == {}


def test_each_part_in_the_table_is_used():
    assert [part.name for part in PARTS if not part.unseen and part.name not in users()[0]] == []


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import ray\nray._private.worker.blocking_get()", "ray._private.worker.blocking_get"),
        ("from ray._private import services", "ray._private.services"),
        ("from ray.dashboard import consts", "ray.dashboard.consts"),
        ("def f(frame):\n    return frame._manager", "?._manager"),
        ("def f(frame):\n    return getattr(frame, '_mgr')", "?._mgr"),
        ("import ray\nray.init(_temp_dir='/tmp')", "ray.init._temp_dir"),
        ("from ray import _raylet\n_raylet.ObjectRef", "ray._raylet.ObjectRef"),
        ("import importlib\nimportlib.import_module('airflow.jobs.job')", "airflow.jobs.job"),
        (
            "from ray._private.worker import global_worker as w\ncore = w.core_worker\ncore.put_object(1)",
            "ray._private.worker.global_worker.core_worker.put_object",
        ),
    ],
)
def test_private_part_that_is_not_in_the_table_is_found(source: str, name: str):
    assert name in [each for each in Module(source).used() if parts_of(each, set()) is None]
