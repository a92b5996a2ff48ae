"""Where the state of a search lies."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_ray.cluster.failures import WorkFailure
from airflow_ray.cluster.protocol import FailureKind

if TYPE_CHECKING:
    from airflow_ray.cluster.worker.context import RunContext


class Experiment(NamedTuple):
    """Where the state of a search lies: file system, folder around it, own name, and the folder's address."""

    filesystem: Any
    parent: str
    name: str
    parent_address: str

    @property
    def path(self) -> str:
        """Its folder in the file system."""
        return f"{self.parent}/{self.name}"

    def address(self, path: str) -> str:
        """Return the address of a path in the file system."""
        inside = path.startswith(self.parent)
        return self.parent_address + path.removeprefix(self.parent) if inside else path


def open_experiment(context: RunContext, folder: str, name: str) -> Experiment:
    """Return where the experiment lies, when it is sure that it can be written there."""
    from pyarrow import fs

    filesystem, root, address = context.storage() or _local_storage()
    parent = f"{root}/{folder}"
    experiment = Experiment(filesystem, parent, name, f"{address.rstrip('/')}/{folder}")
    probe = f"{experiment.path}/writable"
    try:
        filesystem.create_dir(experiment.path, recursive=True)
        with filesystem.open_output_stream(probe) as stream:
            stream.write(b"yes")
        if filesystem.get_file_info([probe])[0].type != fs.FileType.File:
            raise FileNotFoundError("what was written is not there")
        filesystem.delete_file(probe)
    except OSError as error:
        raise WorkFailure(
            FailureKind.TUNE_STORAGE, where=experiment.address(experiment.path), message=str(error)
        ) from error
    return experiment


def _local_storage() -> tuple[Any, str, str]:
    from pyarrow import fs

    root = os.path.expanduser("~/ray_results")
    return fs.LocalFileSystem(), root, f"file://{root}"


def has_state(experiment: Experiment) -> bool:
    """Whether an earlier search has got so far that it can go on; a try may end before it has written anything."""
    from pyarrow import fs

    found = experiment.filesystem.get_file_info(fs.FileSelector(experiment.path, allow_not_found=True))
    return any(info.base_name.startswith("experiment_state") for info in found)
