"""What the commands do."""

from __future__ import annotations

import shutil
import sys
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_ray.cli.framing import command
from airflow_ray.cli.output import object_row, printable, record_rows, say, show, summary
from airflow_ray.client.client import RayClient
from airflow_ray.client.doctor import diagnose, quantity, readable_bytes
from airflow_ray.client.errand import head_of
from airflow_ray.client.errors import exception_for
from airflow_ray.cluster.protocol import State
from airflow_ray.exceptions import RayConfigurationError, RayObjectLostError
from airflow_ray.object_uri import ObjectURI

if TYPE_CHECKING:
    from argparse import Namespace

DEFAULT_WIDTH = 120


@command
def objects(args: Namespace) -> None:
    """List what the cluster holds."""
    found = list(chain.from_iterable(_objects_by_client(RayClient(args.conn_id), args).values()))
    show(found, args.output, list(map(object_row, found)))


@command
def describe(args: Namespace) -> None:
    """Show the record of the work that made an object."""
    uri = ObjectURI.parse(args.uri)
    record = RayClient(*uri.run).describe(uri)
    if record["state"] == State.LOST:
        raise exception_for(uri, record)
    show({"uri": str(uri), **record}, args.output, record_rows(uri, record))
    if args.output in ("table", "plain") and "traceback" in (record["error"] or {}):
        say(record["error"]["traceback"])


@command
def get(args: Namespace) -> None:
    """Show the first rows of an object."""
    uri = ObjectURI.parse(args.uri)
    width = shutil.get_terminal_size((DEFAULT_WIDTH, 0)).columns
    with RayClient(*uri.run).connect() as client:
        head = head_of(client, uri, args.head, width)
        say(summary(client.describe(uri)["outputs"][uri.key]))
    say(head)


@command
def release(args: Namespace) -> None:
    """Free objects by their URIs, or those of a DAG or of a run of it."""
    if bool(args.uri) == bool(args.dag_id) or (args.run_id and not args.dag_id):
        raise RayConfigurationError("Say what to free: either object URIs, or --dag-id with or without --run-id")
    if args.uri:
        _free_named([ObjectURI.parse(text) for text in args.uri])
    else:
        _free_run(args)


@command
def doctor(args: Namespace) -> None:
    """Check a connection."""
    failed = 0
    for finding in diagnose(args.conn_id, args.dag_id, args.run_id):
        say(f"{finding.outcome:<8} {finding.name:<16} {finding.text}")
        if finding.remedy is not None:
            say(f"{'':<25} {finding.remedy}")
            failed += 1
    if failed:
        sys.exit(1)


@command
def bundle(args: Namespace) -> None:
    """Write the file that starts the gateway on a cluster."""
    from airflow_ray.client.connection.bundle import bundle as content

    path = Path(args.path)
    try:
        path.write_bytes(content())
        path.chmod(0o755)
    except OSError as error:
        raise RayConfigurationError(f"{path} cannot be written: {error.strerror}") from None
    say(f"Wrote {path}, {readable_bytes(len(content()))}")


def _objects_by_client(client: RayClient, args: Namespace) -> dict[RayClient, list[dict[str, Any]]]:
    def tell(text: str) -> None:
        print(printable(text), file=sys.stderr)

    return client.ask_each(args.dag_id, args.run_id, lambda each: each.list_objects(args.dag_id, args.run_id), tell)


def _free_named(uris: list[ObjectURI]) -> None:
    clients = {conn_id: RayClient(conn_id) for conn_id in sorted({uri.conn_id for uri in uris})}
    freed: list[dict[str, Any]] = []
    unknown = []
    with ExitStack() as connections:
        for client in clients.values():
            connections.enter_context(client.connect())
        for work, uri in {uri.work: uri for uri in uris}.items():
            client = clients[uri.conn_id].of(uri)
            of_run = client.list_objects(uri.dag_id, uri.run_id)
            entries = [each for each in of_run if each["uri"].startswith(f"{work}/")]
            client.release(uri)
            freed += entries
            if not entries:
                unknown.append(str(uri))
    _print_freed(freed)
    if unknown:
        raise RayObjectLostError(f"Not in the cluster: {', '.join(unknown)}")


def _free_run(args: Namespace) -> None:
    with RayClient(args.conn_id).connect() as connected:
        held = _objects_by_client(connected, args)
        entries = list(chain.from_iterable(held.values()))
        if entries and (args.yes or _user_agrees(entries)):
            for client in held:
                client.release(dag_id=args.dag_id, run_id=args.run_id)
            _print_freed(entries)
        else:
            say("Nothing was freed")


def _user_agrees(entries: list[dict[str, Any]]) -> bool:
    unfinished = [each for each in entries if _is_unfinished(each)]
    cancel = f", and cancel {quantity(len(unfinished), 'task')}" if unfinished else ""
    try:
        return input(f"Free {_total(entries)}{cancel}? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        say()
        return False


def _print_freed(entries: list[dict[str, Any]]) -> None:
    for each in entries:
        size = "no object" if each["bytes"] is None else readable_bytes(each["bytes"])
        say(f"{each['uri']}  {'cancelled' if _is_unfinished(each) else size}")
    say(f"Freed {_total(entries)}")


def _is_unfinished(entry: dict[str, Any]) -> bool:
    return not State(entry["state"]).is_final


def _total(entries: list[dict[str, Any]]) -> str:
    sizes = [each["bytes"] for each in entries if each["bytes"] is not None]
    return f"{quantity(len(sizes), 'object')}, {readable_bytes(sum(sizes))}"
