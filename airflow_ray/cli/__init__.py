"""The commands of ``airflow ray``, the same as those of ``python -m airflow_ray``.

Every call of ``airflow`` imports this module: what the commands do is in :mod:`airflow_ray.cli.commands`.
"""

# Airflow's classes for command lines have no types.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_ray.cluster.protocol import BUNDLE_NAME

if TYPE_CHECKING:
    from airflow.cli.cli_config import GroupCommand


def get_cli_commands() -> list[GroupCommand]:
    """Return the group of commands; named by the provider's metadata, which Airflow reads from 3.2 on."""
    from airflow.cli.cli_config import (
        ARG_OUTPUT,
        ARG_YES,
        ActionCommand,
        Arg,
        GroupCommand,
        lazy_load_command,
        positive_int,
    )

    conn_id = Arg(("--conn-id",), default="ray_default", help="Airflow connection of the cluster (ray_default)")
    dag_id = Arg(("--dag-id",), help="Only objects of this DAG")
    run_id = Arg(("--run-id",), help="Only objects of this DAG run")
    of_cluster = (
        Arg(("--dag-id",), help="The DAG of the cluster, where each DAG, or each run, has one of its own"),
        Arg(("--run-id",), help="The DAG run of the cluster, where each has one of its own"),
    )
    uri = Arg(("uri",), metavar="URI", help="Object URI, ray-object://…")
    uris = Arg(("uri",), metavar="URI", nargs="*", help="Object URIs, ray-object://…")
    head = Arg(("--head",), metavar="ROWS", type=positive_int(allow_zero=False), default=5, help="How many rows (5)")

    path = Arg(("path",), metavar="PATH", nargs="?", default=BUNDLE_NAME, help=f"Where it goes ({BUNDLE_NAME})")

    of_kubernetes = (
        Arg(("--kubernetes-conn-id",), default="kubernetes_default", help="Airflow connection (kubernetes_default)"),
        Arg(("--namespace",), help="Namespace of the clusters (that of the connection, or else default)"),
        Arg(("--older-than",), metavar="HOURS", type=float, help="Nobody needs a cluster of this age either"),
    )

    def command(name: str, text: str, *args: Arg, more: str = "", function: str = "") -> ActionCommand:
        does = lazy_load_command(f"airflow_ray.cli.{function or f'commands.{name}'}")
        return ActionCommand(name, text, does, args, description=f"{text}. {more}".strip())

    gateway = (
        command(
            "bundle",
            "Write the file that starts the gateway on a cluster",
            path,
            more="It needs Ray and pyarrow where it runs: python airflow_ray_gateway.pyz start --help",
        ),
    )
    clusters = (
        command(
            "list",
            "List the clusters of this Airflow",
            *of_kubernetes,
            ARG_OUTPUT,
            function="clusters.list_clusters",
        ),
        command(
            "prune",
            "Delete the clusters of this Airflow that nobody needs any more",
            *of_kubernetes,
            ARG_YES,
            more="Nobody needs one whose DAG run has ended, or is not there any more. One that several runs share is "
            "deleted by its age alone.",
            function="clusters.prune",
        ),
    )
    commands: tuple[ActionCommand | GroupCommand, ...] = (
        command("objects", "List the objects in the cluster", conn_id, dag_id, run_id, ARG_OUTPUT),
        command("describe", "Show all that is known of an object and the work that made it", uri, ARG_OUTPUT),
        command(
            "get",
            "Show the first rows of an object",
            uri,
            head,
            more="They are taken on the cluster, and only they are transferred.",
        ),
        command(
            "release",
            "Free objects",
            uris,
            conn_id,
            dag_id,
            run_id,
            ARG_YES,
            more="Either those named, with all other outputs of the same tasks, or those of a DAG or a DAG run. Work "
            "that has not ended is cancelled. Checkpoints stay.",
        ),
        GroupCommand("gateway", "The gateway of a cluster, for those who start it with the cluster", gateway),
        GroupCommand("clusters", "The Ray clusters on Kubernetes that DAG runs have made", clusters),
        command("doctor", "Find out step by step whether a connection works", conn_id, *of_cluster),
    )
    return [GroupCommand("ray", "See and free what tasks have left on a Ray cluster", commands)]
