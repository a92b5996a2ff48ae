"""The command line of the gateway: for a job, for the start command of a cluster, and by hand.

It needs Ray, pyarrow and what the cluster's half of this package brings. It prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import re
import socket
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.gateway.files import GatewayError, ask_to_stop, note_of, noted_process
from airflow_ray.cluster.gateway.keeping import check_requirements
from airflow_ray.cluster.gateway.settings import PORT, TOKEN_VARIABLE, GatewaySettings, default_folder, sum_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MIN_TOKEN_LENGTH = 16
PROBE_SECONDS = 5.0
DEFAULT_NAMESPACE = "airflow"
#: What the line of JSON begins with, among others that Ray may print.
MARK = '{"airflow_ray_gateway": '
# What a job of Ray's tells its driver, and with it the environment of the job, which what is started here outlives.
JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"


def main(arguments: list[str] | None = None) -> None:
    """Do what the command line says, and exit: 0, 1 after an error or if no gateway runs, or 2 for wrong arguments.

    :param arguments: those of the command line if None.
    """
    args = _parser().parse_args(arguments)
    try:
        answer = args.command(args)
    except (GatewayError, RuntimeError, ConnectionError, ValueError) as error:
        told = error if isinstance(error, GatewayError) else GatewayError(str(error) or type(error).__name__)
        _say(told.answer)
        sys.exit(1)
    _say(answer)
    sys.exit(0 if answer else 1)


def answer_in(output: str) -> dict[str, Any] | None:
    """Return what the command has answered, in all that it has printed; None if it has not come to that."""
    for line in reversed(output.splitlines()):
        if line.startswith(MARK):
            answer: dict[str, Any] | None = json.loads(line)["airflow_ray_gateway"]
            return answer
    return None


def _say(answer: Any) -> None:
    print(json.dumps({"airflow_ray_gateway": answer}), flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="airflow_ray_gateway",
        description="The gateway through which Airflow reaches a Ray cluster: an Arrow Flight server on its head",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, function, text in (
        ("start", _start, "Start the gateway of a cluster, unless it runs, and say where it is"),
        ("status", _status, "Say where the gateway is, or null if none runs"),
        ("stop", _stop, "End the gateway; work and objects stay"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(command=function)
        command.add_argument("--address", help="of the control service (RAY_ADDRESS, or that of this machine)")
        command.add_argument("--folder", help="of the gateway's files on the head (one in its temporary folder)")
        if function is _start:
            _add_options(command)
    return parser


def _add_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--namespace", default=DEFAULT_NAMESPACE, help=f"of the objects ({DEFAULT_NAMESPACE})")
    place = command.add_mutually_exclusive_group()
    place.add_argument("--host", default="0.0.0.0", help="address of the head to listen on (all: 0.0.0.0)")
    place.add_argument("--socket-only", action="store_true", help="Listen on a Unix socket alone")
    command.add_argument("--port", type=_port, default=PORT, help=f"to listen on ({PORT})")
    command.add_argument(
        "--token-sha256",
        type=_sum,
        action="append",
        default=[],
        metavar="SUM",
        help="SHA-256 of a token that is let in, instead of those before; may be given several times. A token "
        f"itself is only read from the environment variable {TOKEN_VARIABLE}",
    )


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65_536:
        raise argparse.ArgumentTypeError("a number from 1 to 65535")
    return int(text)


def _sum(text: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise argparse.ArgumentTypeError("64 hexadecimal digits, as sha256sum prints them. Is it the token itself?")
    return text.lower()


def _start(args: argparse.Namespace) -> dict[str, Any]:
    check_requirements()
    sums = list(args.token_sha256)
    # One that is named counts alone: that of the environment may be the one that it replaces.
    if not sums and (token := os.environ.get(TOKEN_VARIABLE)):
        if len(token) < MIN_TOKEN_LENGTH:
            raise ValueError(f"The token in {TOKEN_VARIABLE} has fewer than {MIN_TOKEN_LENGTH} characters")
        sums.append(sum_of(token))
    with _cluster(args):
        import ray

        from airflow_ray.cluster.build import own_build
        from airflow_ray.cluster.gateway.starting import start

        host = None if args.socket_only else args.host
        note = start(args.namespace, own_build(), _by_value, sums, args.folder, host, args.port)
        return {**note, "namespace": args.namespace, "python": platform.python_version(), "ray": ray.__version__}


def _status(args: argparse.Namespace) -> Any:
    def note(folder: str) -> dict[str, Any] | None:
        settings = GatewaySettings(folder)
        return note_of(settings, noted_process(settings))

    return _on_head(args, note)


def _stop(args: argparse.Namespace) -> Any:
    return _on_head(args, lambda folder: {"stopped": True} if ask_to_stop(GatewaySettings(folder)) else None)


def _on_head(args: argparse.Namespace, function: Callable[[str], Any]) -> Any:
    """Call a function with the folder of the gateway's files, where that is."""

    def call(folder: str | None) -> Any:
        import ray

        return function(folder or default_folder(ray.get_runtime_context().gcs_address))

    with _cluster(args):
        import ray

        from airflow_ray.cluster.owner.keeper import ON_HEAD

        with _by_value():
            answer = ray.remote(call).options(**ON_HEAD).remote(args.folder)
        return ray.get(answer)


@contextmanager
def _cluster(args: argparse.Namespace) -> Iterator[None]:
    """Join the cluster as a driver."""
    import ray

    os.environ.pop(JOB_VARIABLE, None)
    namespace = getattr(args, "namespace", DEFAULT_NAMESPACE)
    address = args.address or os.environ.get("RAY_ADDRESS") or "auto"
    _check(address)
    ray.init(address, namespace=namespace, log_to_driver=False, logging_level=logging.WARNING)
    try:
        yield
    finally:
        ray.shutdown()


def _check(address: str) -> None:
    """Look whether the control service answers, for which Ray itself waits for minutes.

    :raises ConnectionError: it does not.
    """
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host.strip("[]"), int(port)), PROBE_SECONDS).close()
        except OSError as error:
            reason = error.strerror or error
            raise ConnectionError(
                f"The control service of the Ray cluster at {address} does not answer: {reason}"
            ) from None


@contextmanager
def _by_value() -> Iterator[None]:
    """Make Ray's pickler copy this package, which the cluster's other processes do not have."""
    from ray import cloudpickle

    import airflow_ray.cluster
    from airflow_ray.cluster.values.portable import portable

    cloudpickle.register_pickle_by_value(airflow_ray.cluster)
    try:
        with portable({}):
            yield
    finally:
        cloudpickle.unregister_pickle_by_value(airflow_ray.cluster)
