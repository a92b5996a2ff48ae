"""An environment of Python with all that these tests have, but Ray."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def python_without_ray(folder: Path) -> str:
    """Make such an environment of links in an empty folder, and return its interpreter."""
    interpreter = Path(sys.executable).resolve()
    packages = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    packages.mkdir(parents=True)
    for installed in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(installed).iterdir():
            if entry.name != "ray" and not entry.name.startswith(("ray-", "ray_")):
                (packages / entry.name).symlink_to(entry)
    (folder / "pyvenv.cfg").write_text(f"home = {interpreter.parent}\ninclude-system-site-packages = false\n")
    (folder / "bin").mkdir()
    python = folder / "bin" / "python"
    python.symlink_to(interpreter)
    return str(python)


def told(python: str, *arguments: str, **environment: str) -> Any:
    """Return what a script prints as JSON in its last line."""
    finished = subprocess.run(
        [python, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        text=True,
        timeout=600,
        check=True,
    )
    return json.loads(finished.stdout.splitlines()[-1])
