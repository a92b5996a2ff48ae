"""Which cloudpickle a process uses: PyPI's pickles in Airflow, and Ray's own copy of it on the cluster.

Their pickles are the same but for the name of the module whose functions they call, and either reads both.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

OF_PYPI = "cloudpickle.cloudpickle"
OF_RAY = "ray.cloudpickle.cloudpickle"
# Under which names a pickle may have their functions, those of older releases too.
NAMES = frozenset(f"{package}cloudpickle{inner}" for package in ("", "ray.") for inner in ("", ".cloudpickle")) | {
    "cloudpickle.cloudpickle_fast",
    "ray.cloudpickle.cloudpickle_fast",
}
# What is set of PyPI's where this package uses it.
_MARK = "_used_by_airflow_ray"


def of_airflow() -> ModuleType:
    """Return what pickles calls in Airflow, whether Ray is loaded there or not."""
    return import_module(OF_PYPI)


def of_process() -> ModuleType:
    """Return what pickles and unpickles values in this process: Ray's copy where Ray is loaded."""
    return import_module(OF_RAY) if OF_RAY in sys.modules else of_airflow()


def in_use() -> list[ModuleType]:
    """Return those that pickle or unpickle for this package in this process.

    On the cluster, PyPI's is none of them: a callable may use it in its own way.
    """
    of_pypi = sys.modules.get(OF_PYPI)
    used = [of_process()]
    # Not kept in a variable, which would travel to the cluster with the functions of this module.
    if of_pypi is not None and of_pypi not in used and hasattr(of_pypi, _MARK):
        used.append(of_pypi)
    return used


def use_of_airflow() -> None:
    """Let this process be one of Airflow's, which pickles calls."""
    setattr(of_airflow(), _MARK, True)


def release_of_airflow() -> str:
    """Return the release of what :func:`of_airflow` returns."""
    return str(import_module("cloudpickle").__version__)


def difference(own: str, of_cluster: str) -> str | None:
    """Return in words why the pickles of one release may not be readable by the other; None where they are.

    All releases 3 write pickles that call the same functions with the same arguments.

    :param own: the release of cloudpickle in this process.
    :param of_cluster: that of Ray's copy on the cluster, ``ray.cloudpickle.__version__``.
    """
    if own.partition(".")[0] == of_cluster.partition(".")[0]:
        return None
    return (
        f"cloudpickle {own} is installed here, and the Ray of the cluster has cloudpickle {of_cluster}: a callable "
        f"that is pickled by the one cannot be read by the other. Install cloudpickle {of_cluster} in Airflow's "
        "environment."
    )
