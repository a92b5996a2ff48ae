"""Environments of Python with other packages than that of these tests, made once and kept."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from shutil import rmtree

import pytest

BUILD_SECONDS = 900


def python_with(*requirements: str) -> str:
    """Return the interpreter of an environment that has these packages alone; skip the test where none can be made.

    It is kept in the user's folder for caches.
    """
    text = "\n".join([sys.version, *requirements])
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "airflow-ray-tests")
    folder = caches / hashlib.sha256(text.encode()).hexdigest()[:16]
    if not folder.exists():
        caches.mkdir(parents=True, exist_ok=True)
        made = tempfile.mkdtemp(dir=caches)
        try:
            _run(sys.executable, "-m", "venv", made)
            _run(*_installer(made), *requirements)
        except (OSError, subprocess.SubprocessError) as error:
            rmtree(made, ignore_errors=True)
            output = getattr(error, "stderr", None) or b""
            pytest.skip(f"No environment with {', '.join(requirements)}: {error} {output.decode()[-500:]}")
        # Its interpreter finds the packages beside itself, wherever that is. Another process may have been quicker.
        try:
            Path(made).rename(folder)
        except OSError:
            rmtree(made, ignore_errors=True)
    return str(folder / "bin" / "python")


def _installer(folder: str) -> tuple[str, ...]:
    """Return the command that installs packages with their bytecode into an environment: uv, where it is there."""
    uv = Path(sys.executable).with_name("uv")
    if uv.exists():
        return str(uv), "pip", "install", "--quiet", "--compile-bytecode", "--python", folder
    return f"{folder}/bin/python", "-m", "pip", "install", "--quiet", "--compile"


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=BUILD_SECONDS)
