"""What a function of this package learns, on a worker, of the work that it does."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow_ray.cluster.checkpoints import open_filesystem, scheme_and_root
from airflow_ray.cluster.protocol import REFRESH_SECONDS
from airflow_ray.cluster.worker.owner_calls import begin_call

if TYPE_CHECKING:
    from airflow_ray.cluster.protocol import Sources


class RunContext:
    """One attempt of a piece of work, as its runner knows it.

    :param owner_name: the name of the owner.
    :param record_id: what the owner knows it by.
    :param attempt: tells it from earlier ones of that record.
    :param sources: module name to file name and source text of the user's own modules.
    """

    def __init__(self, owner_name: str, record_id: str, attempt: str, sources: Sources) -> None:
        import ray

        self.sources = sources
        self._credentials = _Credentials(ray.get_runtime_context().namespace, owner_name, record_id, attempt)

    def storage(self) -> tuple[Any, str, str] | None:
        """Return file system, path in it and address of the folder that the work may write to, if it has one."""
        settings = self._credentials.settings()
        if settings is None:
            return None
        scheme, root = scheme_and_root(settings["path"])
        # On a disk there are no credentials to renew.
        filesystem = open_filesystem(settings) if scheme == "file" else _refreshed_filesystem(self._credentials)
        return filesystem, root, settings["path"]


class _Credentials:
    """Asks the owner for the storage of one attempt: what is pickled, into a bucket too, holds no secret."""

    def __init__(self, namespace: str, owner_name: str, record_id: str, attempt: str) -> None:
        self._name = namespace, owner_name, record_id, attempt
        self._opened: tuple[Any, float] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_name": self._name, "_opened": None}

    def settings(self) -> dict[str, Any] | None:
        """Return the arguments of :class:`~airflow_ray.cluster.checkpoints.storage.Storage`."""
        import ray

        namespace, owner_name, record_id, attempt = self._name
        owner = ray.get_actor(owner_name, namespace=namespace)
        settings: dict[str, Any] | None = ray.get(begin_call(owner, "storage_settings", record_id, attempt))
        return settings

    def filesystem(self) -> Any:
        """Return the file system, with credentials that are not old."""
        if self._opened is None or time.monotonic() - self._opened[1] > REFRESH_SECONDS:
            settings = self.settings()
            if settings is None:
                raise PermissionError("The work that had the credentials for this storage has ended")
            self._opened = open_filesystem(settings), time.monotonic()
        return self._opened[0]


# A class of pyarrow's can only be derived from where pyarrow is: not in the owner, which is to stay small.
def _refreshed_filesystem(credentials: _Credentials) -> Any:  # noqa: C901
    """Return a file system whose credentials are renewed, and are no part of its pickle."""
    from pyarrow import fs

    class Handler(fs.FileSystemHandler):  # type: ignore[misc]  # pyarrow has no types
        def __init__(self, credentials: _Credentials) -> None:
            self._credentials = credentials

        def get_type_name(self) -> str:
            return str(self._credentials.filesystem().type_name)

        def normalize_path(self, path: str) -> Any:
            return self._credentials.filesystem().normalize_path(path)

        def get_file_info(self, paths: list[str]) -> Any:
            return self._credentials.filesystem().get_file_info(paths)

        def get_file_info_selector(self, selector: Any) -> Any:
            return self._credentials.filesystem().get_file_info(selector)

        def create_dir(self, path: str, recursive: bool) -> None:
            self._credentials.filesystem().create_dir(path, recursive=recursive)

        def delete_dir(self, path: str) -> None:
            self._credentials.filesystem().delete_dir(path)

        def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> None:
            self._credentials.filesystem().delete_dir_contents(path, missing_dir_ok=missing_dir_ok)

        def delete_root_dir_contents(self) -> None:
            raise PermissionError("The whole of a storage is not this package's to delete")

        def delete_file(self, path: str) -> None:
            self._credentials.filesystem().delete_file(path)

        def move(self, src: str, dest: str) -> None:
            self._credentials.filesystem().move(src, dest)

        def copy_file(self, src: str, dest: str) -> None:
            self._credentials.filesystem().copy_file(src, dest)

        def open_input_stream(self, path: str) -> Any:
            return self._credentials.filesystem().open_input_stream(path)

        def open_input_file(self, path: str) -> Any:
            return self._credentials.filesystem().open_input_file(path)

        def open_output_stream(self, path: str, metadata: Any) -> Any:
            return self._credentials.filesystem().open_output_stream(path, metadata=metadata)

        def open_append_stream(self, path: str, metadata: Any) -> Any:
            return self._credentials.filesystem().open_append_stream(path, metadata=metadata)

    return fs.PyFileSystem(Handler(credentials))
