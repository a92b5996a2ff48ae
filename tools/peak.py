"""How far a figure rises while something is done."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SAMPLE_SECONDS = 0.01


class Peak:
    """How much a figure rises above where it is when this is entered, from many samples.

    :param figure: returns it.
    """

    def __init__(self, figure: Callable[[], int]) -> None:
        self._figure = figure
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self.growth = 0

    def __enter__(self) -> Peak:
        self._before = self._figure()
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._watcher.join()

    def _watch(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            self.growth = max(self.growth, self._figure() - self._before)
