"""Stub."""

from __future__ import annotations
from typing import Any


def require_token(settings: Any) -> None: ...
def ensure_started(settings: Any, deadline: float) -> None: ...
