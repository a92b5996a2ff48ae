"""Warnings that come from this package's own code."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "airflow_ray"


def warnings_are_errors() -> str:
    """Return what makes them errors in a process of Python, as the value of ``PYTHONWARNINGS``.

    That takes no patterns, so it names each module. They are the same in Ray's processes, which get them by value.
    """
    modules = (path.relative_to(PACKAGE.parent).with_suffix("") for path in PACKAGE.rglob("*.py"))
    names = (".".join(module.parts).removesuffix(".__init__") for module in modules)
    return ",".join(f"error:::{name}" for name in sorted(names))
