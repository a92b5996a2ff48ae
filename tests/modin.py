"""Tests of frames of Modin, which needs pandas 2, are skipped where it is not installed."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

import pytest

needs_modin = pytest.mark.skipif(find_spec("modin") is None, reason="Modin is not installed: it needs pandas 2")


def with_reason(kinds: Iterable[str]) -> list[Any]:
    """Return the kinds of tables as parameters, of which that of Modin is skipped where it cannot be made."""
    return [pytest.param(kind, marks=needs_modin) if kind == "modin" else kind for kind in kinds]
