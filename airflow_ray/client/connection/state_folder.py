"""The folder of this user on this machine, for what its processes have to tell each other."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from airflow_ray._compat import conf
from airflow_ray.client.connection.head_process import is_own_folder
from airflow_ray.exceptions import RayConnectionError


def state_folder() -> Path:
    """Return the folder of the head's address, token, lock and log; only this user can read it.

    It is ``[airflow_ray] local_head_dir``, by default a folder for this user in the system's
    temporary folder.

    :raises RayConnectionError: it is no folder of this user's, or only a link to one.
    """
    default = Path(tempfile.gettempdir(), f"airflow-ray-{os.getuid()}")
    folder = Path(conf.get("airflow_ray", "local_head_dir", fallback=None) or default)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700, parents=True)
    # In a folder where all may write, nobody else can replace what belongs to this user from here on.
    if not is_own_folder(folder):
        raise RayConnectionError(
            f"{folder} is a link, is not a folder, or belongs to another user: set [airflow_ray] local_head_dir to a "
            "folder of your own"
        )
    folder.chmod(0o700)
    return folder
