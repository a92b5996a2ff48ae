"""``python -m airflow_ray``: the commands of ``airflow ray``, which Airflow offers from 3.2 on only."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from airflow_ray.cli import get_cli_commands

if TYPE_CHECKING:
    from airflow.cli.cli_config import GroupCommand


def main(arguments: list[str] | None = None) -> None:
    """Run a command.

    :param arguments: those of the command line if None.
    """
    args = parser_of_commands().parse_args(arguments)
    args.func(args)


def parser_of_commands() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    (group,) = get_cli_commands()
    parser = argparse.ArgumentParser(prog="python -m airflow_ray", description=group.help)
    _add(group, parser)
    return parser


def _add(group: GroupCommand, parser: argparse.ArgumentParser) -> None:
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in group.subcommands:
        subparser = subparsers.add_parser(command.name, help=command.help, description=command.description)
        if hasattr(command, "subcommands"):
            _add(command, subparser)
        else:
            for argument in command.args:
                argument.add_to_parser(subparser)
            subparser.set_defaults(func=command.func)


if __name__ == "__main__":
    main()
