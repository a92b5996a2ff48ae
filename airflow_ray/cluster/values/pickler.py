"""Stub until the real one comes."""

from __future__ import annotations

import pickle
from typing import Any


def pickler(file: Any, buffer_callback: Any = None) -> Any:
    from ray import cloudpickle

    return cloudpickle.CloudPickler(file, protocol=5, buffer_callback=buffer_callback)


def unpickler(file: Any, buffers: Any = None) -> Any:
    return pickle.Unpickler(file, buffers=buffers)
