"""Pickling of what the cluster cannot import."""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import airflow_ray.cluster
from airflow_ray.client.dates import parts_of_dates
from airflow_ray.client.forks import free_in_children
from airflow_ray.client.submission.identity import keep_identities
from airflow_ray.cluster.values.cloudpickles import in_use
from airflow_ray.cluster.values.portable import portable
from airflow_ray.cluster.values.slices import cut_slices

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import ModuleType


_pickling_lock = free_in_children(threading.RLock())


@contextmanager
def pickle_by_value(modules: Iterable[ModuleType]) -> Iterator[None]:
    """Make cloudpickle copy what belongs to ``modules`` instead of naming it: PyPI's, and Ray's where that is loaded.

    The classes among it get the ids that they have in every process, and dates of pendulum become those of the standard
    library.
    """
    keep_identities()
    with _pickling_lock, ExitStack() as stack:
        for cloudpickle in in_use():
            for module in (airflow_ray.cluster, *modules):
                if module.__name__ not in cloudpickle.list_registry_pickle_by_value():
                    cloudpickle.register_pickle_by_value(module)
                    stack.callback(cloudpickle.unregister_pickle_by_value, module)
        stack.enter_context(portable(parts_of_dates()))
        stack.enter_context(cut_slices())
        yield
