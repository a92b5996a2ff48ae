"""What all commands have around them."""

from __future__ import annotations

import functools
import logging
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_ray._compat import AirflowException, connections_of_database
from airflow_ray.cli.output import printable
from airflow_ray.client.doctor import first_lines

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterator


def command(function: Callable[[Namespace], None]) -> Callable[[Namespace], None]:
    """Tell errors in one line and by exit status 1."""

    @functools.wraps(function)
    def run(args: Namespace) -> None:
        try:
            with connections_of_database(), _errors_only():
                function(args)
        except AirflowException as error:
            raise SystemExit(printable(first_lines(error))) from error
        except KeyboardInterrupt:
            raise SystemExit(130) from None

    return run


@contextmanager
def _errors_only() -> Iterator[None]:
    """Keep what Airflow logs, on stdout, out of the output."""
    import structlog

    earlier = structlog.get_config()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handlers = [(handler, handler.level) for handler in logging.getLogger().handlers]
    for handler, _ in handlers:
        handler.setLevel(logging.ERROR)
    try:
        yield
    finally:
        structlog.configure(**earlier)
        for handler, level in handlers:
            handler.setLevel(level)
