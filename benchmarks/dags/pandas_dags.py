"""One pipeline of three tasks twice: on Ray by ``@ray_task``, and by plain tasks that call Ray Client themselves."""

from __future__ import annotations

import os
import pickle
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.sdk import dag, task

from airflow_ray.decorators import ray_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COLUMNS = 10


def make_frame(megabytes: str) -> Any:
    """Return a frame of random floats."""
    import numpy as np
    import pandas as pd

    rows = int(float(megabytes) * 1_000_000) // (8 * COLUMNS)
    return pd.DataFrame(np.random.default_rng(0).random((rows, COLUMNS)), columns=[f"c{i}" for i in range(COLUMNS)])


def scale(frame: Any) -> Any:
    """Return the frame with each column divided by its largest value."""
    return frame / frame.max()


def summarise(frame: Any) -> dict[str, float]:
    """Return the mean of each column."""
    return {name: float(mean) for name, mean in frame.mean().items()}


@dag(schedule=None)
def by_ray_tasks() -> None:
    """Let the frame stay in Ray."""
    # Airflow's types of a decorator know nothing of templates.
    make: Any = ray_task(make_frame)
    made = make("{{ dag_run.conf['megabytes'] }}")
    ray_task(result="value", multiple_outputs=False)(summarise)(ray_task(scale)(made))


@contextmanager
def ray_client() -> Iterator[None]:
    """Connect to Ray for one task."""
    import ray

    ray.init(os.environ["BENCHMARK_RAY_ADDRESS"], log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


def on_ray(function: Callable[..., Any], value: Any) -> Any:
    """Send a value to Ray, run a function on it there and return what it returns."""
    import ray
    from ray import cloudpickle

    # The cluster has no DAG file to import it from.
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with ray_client():
        return ray.get(ray.remote(function).remote(ray.put(value)))


def bucket() -> Any:
    """Return the folder for the frames, which are too large for XCom, as a filesystem."""
    from pyarrow import fs

    filesystem, path = fs.FileSystem.from_uri(os.environ["BENCHMARK_S3_URI"])
    return fs.SubTreeFileSystem(path, filesystem)


def stored(value: Any, name: str) -> str:
    """Write the pickle of a value to S3 and return its name."""
    with bucket().open_output_stream(name) as stream:
        pickle.dump(value, stream, protocol=5)
    return name


def loaded(name: str) -> Any:
    """Read a value from S3."""
    with bucket().open_input_file(name) as file:
        return pickle.loads(file.read_buffer())


@task
def make_plain(name: str, megabytes: str) -> str:
    """Make the frame on Ray and store it."""
    return stored(on_ray(make_frame, megabytes), name)


@task
def scale_plain(name: str, made: str) -> str:
    """Scale the stored frame on Ray and store the result."""
    return stored(on_ray(scale, loaded(made)), name)


@task
def summarise_plain(scaled: str) -> dict[str, float]:
    """Summarise the stored frame on Ray."""
    summary: dict[str, float] = on_ray(summarise, loaded(scaled))
    return summary


@dag(schedule=None)
def by_plain_tasks() -> None:
    """Let the frame go from Ray to the Airflow worker, to S3, and back, for each task."""
    made: Any = make_plain("{{ run_id }}-made", "{{ dag_run.conf['megabytes'] }}")
    scaled: Any = scale_plain("{{ run_id }}-scaled", made)
    summarise_plain(scaled)


by_ray_tasks()
by_plain_tasks()
