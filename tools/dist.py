"""Build sdist and wheel, look at both, and run README's first DAG with the wheel in an environment of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
from configparser import ConfigParser
from pathlib import Path

from tools.example import ROOT, run_as_command
from tools.standalone import LOCAL_CONNECTION

DIST = ROOT / "dist"
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
# Besides what the repository holds, an sdist has what setuptools makes.
MADE = re.compile(r"PKG-INFO|setup\.cfg|airflow_ray\.egg-info/.*")
DAG_ID = "sums"


def main() -> None:
    """Do all of it; the argument is a file or an address of constraints.

    :raises SystemExit: something of it failed.
    """
    constraints = sys.argv[1] if len(sys.argv) > 1 else "constraints.txt"
    sdist, wheel = build()
    print("Looking at them.")
    run(sys.executable, "-m", "twine", "check", "--strict", str(sdist), str(wheel))
    run(str(Path(sys.executable).with_name("check-wheel-contents")), str(wheel))
    check_sdist(sdist)
    for python in PYTHONS:
        check_extras(wheel, python)
    with tempfile.TemporaryDirectory(prefix="airflow-ray-dist-") as folder:
        python_of_wheel = install(wheel, constraints, Path(folder) / "environment")
        check_environment(python_of_wheel)
        run_readme_dag(python_of_wheel, Path(folder))
    print(f"\nGood: {sdist.relative_to(ROOT)} and {wheel.relative_to(ROOT)}")


def run(*command: str, environment: dict[str, str] | None = None, folder: Path = ROOT) -> None:
    """Run a command, and end with it if it fails.

    :raises SystemExit: it failed.
    """
    if subprocess.run(command, env=environment, cwd=folder, check=False).returncode:
        raise SystemExit(f"Failed: {' '.join(command)}")


def build() -> tuple[Path, Path]:
    """Return the sdist, and the wheel that is built from it."""
    print("Building sdist and wheel.")
    shutil.rmtree(DIST, ignore_errors=True)
    with tempfile.TemporaryFile() as log:
        command = [sys.executable, "-m", "build", "--outdir", str(DIST), str(ROOT)]
        if subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode:
            log.seek(0)
            raise SystemExit(log.read().decode())
    (sdist,), (wheel,) = DIST.glob("*.tar.gz"), DIST.glob("*.whl")
    return sdist, wheel


def check_sdist(sdist: Path) -> None:
    """Look whether an sdist holds what the repository does, and no file that lies about in the folder.

    :raises SystemExit: it holds another one.
    """
    kept = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    strange = [name for name in files_of(sdist) if name not in kept and not MADE.fullmatch(name)]
    if strange:
        raise SystemExit(f"{sdist.name} holds files that are not in the repository: {', '.join(strange)}")


def files_of(sdist: Path) -> list[str]:
    """Return the names of the files in an sdist, in its folder."""
    with tarfile.open(sdist) as archive:
        return [each.name.partition("/")[2] for each in archive.getmembers() if each.isfile()]


def extras() -> list[str]:
    """Return the names of all extras but ``docs``, whose pins are those of ``constraints-docs.txt``."""
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    return [name for name in config["options.extras_require"] if name != "docs"]


def check_extras(wheel: Path, python: str) -> None:
    """Look whether the wheel with all extras can be installed with a Python that need not be here.

    With the constraints there is one release of each package: so each extra resolves that does with all others.

    :raises SystemExit: it cannot.
    """
    print(f"Resolving all extras for Python {python}.")
    wanted = f"airflow-ray[{','.join(extras())}] @ {wheel.as_uri()}"
    command = [uv(), "pip", "compile", "--quiet", "--python-version", python, "--python-platform", "linux"]
    command += ["--constraints", str(ROOT / "constraints.txt"), "-"]
    if subprocess.run(command, input=wanted, stdout=subprocess.DEVNULL, text=True, check=False).returncode:
        raise SystemExit(f"The extras cannot be installed with Python {python}")


def install(wheel: Path, constraints: str, folder: Path) -> str:
    """Return the Python of a new environment with the wheel, and with pandas, which README's first DAG imports."""
    print(f"Installing the wheel into an environment of its own, with {constraints}.")
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    run(uv(), "pip", "install", "--quiet", "--python", python, "--constraints", constraints, str(wheel), "pandas")
    return python


def uv() -> str:
    """Return the path of uv in the environment of this Python."""
    return str(Path(sys.executable).with_name("uv"))


def check_environment(python: str) -> None:
    """Look whether what is installed fits together.

    :raises SystemExit: it does not.
    """
    run(python, "-m", "pip", "check")


def run_readme_dag(python: str, folder: Path) -> None:
    """Run README's first DAG against an embedded head, which ends with it.

    :param python: of the environment with the wheel.
    :param folder: for the DAG, Airflow and Ray.
    :raises SystemExit: the DAG failed.
    """
    print("Running README's first DAG there.")
    (folder / "dags").mkdir()
    (folder / "dags" / "readme.py").write_text(readme_dag())
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTHON", "RAY_"))},
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__AIRFLOW_RAY__LOCAL_HEAD_DIR": str(folder / "ray"),
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "AIRFLOW_CONN_RAY_DEFAULT": LOCAL_CONNECTION,
        "PATH": f"{Path(python).parent}:{os.environ['PATH']}",
    }
    try:
        # In the folder, where this checkout cannot come before what is installed.
        run(python, "-m", "airflow", "db", "migrate", environment=environment, folder=folder)
        run(python, "-m", "airflow", "dags", "test", DAG_ID, environment=environment, folder=folder)
    finally:
        run(python, "-m", "airflow_ray.hooks.local_head", "stop", environment=environment, folder=folder)


def readme_dag() -> str:
    """Return the first DAG file that README shows."""
    found = re.search(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    if found is None:
        raise SystemExit("README shows no DAG")
    return found[1]


if __name__ == "__main__":
    run_as_command(main)
