"""The memory of the GPUs that Ray has given to a task, as Nvidia's library tells it where there is one."""

from __future__ import annotations

from contextlib import suppress
from typing import Any


class GpuMemory:
    """Looks at all GPUs of the task together; they may hold what others have put there.

    :param names: by which Ray knows them.

    ``peak`` is the most that was in use at one look, ``total`` what they have, in bytes; None where nothing is known.
    """

    def __init__(self, names: list[str]) -> None:
        self.peak: int | None = None
        self.total: int | None = None
        self._library: Any = None
        self._names = names
        self._devices: list[Any] = []

    def look(self) -> None:
        """Take note of what is in use now."""
        # No GPU, no driver, or a library of another release: then there is no figure.
        with suppress(Exception):
            names, self._names = self._names, []
            if names:
                self._open(names)
            if self._devices:
                told = [self._library.nvmlDeviceGetMemoryInfo(device) for device in self._devices]
                self.peak = max(self.peak or 0, sum(int(each.used) for each in told))
                self.total = sum(int(each.total) for each in told)

    def _open(self, names: list[str]) -> None:
        # It comes with Ray.
        from ray._private.thirdparty import pynvml

        pynvml.nvmlInit()
        self._library = pynvml
        self._devices = [_device(pynvml, name) for name in names]


def _device(library: Any, name: str) -> Any:
    """Return the handle of a GPU that Ray knows by its number or by its own id."""
    if name.isdecimal():
        return library.nvmlDeviceGetHandleByIndex(int(name))
    return library.nvmlDeviceGetHandleByUUID(name)
