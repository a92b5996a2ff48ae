"""Run tests on other releases of Airflow, Ray, Python and pandas, and tell in a table what came of it.

``python -m tools.matrix [--on-each-run] [lane …]``. The lanes are in ``tools/matrix.cfg``; each has an environment of
its own under ``.venv-matrix``, which uv makes when it is needed first.
"""

from __future__ import annotations

import argparse
import configparser
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from tools.dist import uv

ROOT = Path(__file__).parent.parent
LANES = ROOT / "tools" / "matrix.cfg"
ENVIRONMENTS = ROOT / ".venv-matrix"
# Neither the making of an environment nor the tests of a lane take longer.
LIMIT_SECONDS = 900
# For pytest to end what its fixtures have started.
GOODBYE_SECONDS = 60
# After any upload.
ALWAYS = "2100-01-01"
PARTS = {
    # What breaks first with another release: private parts that are used, DAG runs, Airflow's exceptions, form and
    # commands, what the documents show, checkpoints and kinds of values.
    "first": [
        "tests/test_private_parts.py",
        "tests/end_to_end/test_dags.py",
        "tests/hooks/test_connection_form.py",
        "tests/cli",
        "tests/test_documents.py",
        "tests/client/kuberay/test_api.py",
        "tests/cluster/checkpoints",
        "tests/cluster/values",
        "tests/operators/test_python.py::test_decorated_task_may_skip_and_give_up",
        "tests/operators/test_python.py::test_output_of_one_task_is_the_input_of_the_next",
    ],
    # How Ray, pyarrow and gRPC are reached, and what is said when that fails.
    "ways-in": [
        "tests/client/connection/test_as_driver.py",
        "tests/client/connection/test_authentication.py",
        "tests/hooks/ray_hook/test_failures.py",
    ],
}
COUNTS = ("passed", "failed", "skipped")
COLUMNS = ("lane", "Python", "Airflow", "Ray", "pandas", "pyarrow", "tests", *COUNTS, "seconds", "when")
VERSIONS = """
import json, platform
from importlib.metadata import version
print(json.dumps([platform.python_version(), *map(version, ("apache-airflow-core", "ray", "pandas", "pyarrow"))]))
"""


@dataclass(frozen=True)
class Lane:
    """A set of releases that are tried with each other, as ``tools/matrix.cfg`` tells them.

    :param name: of its section there.
    :param on_each_run: the parts of the tests that each run of CI tries on it.
    """

    name: str
    python: str
    extras: str
    until: str
    constraints: str
    requirements: tuple[str, ...]
    on_each_run: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """Where its environment is."""
        return ENVIRONMENTS / self.name

    @property
    def limits(self) -> list[str]:
        """What keeps newer packages away, as arguments of uv."""
        if self.constraints:
            return ["--constraints", self.constraints]
        named = [requirement.partition("==")[0] for requirement in self.requirements if "==" in requirement]
        return ["--exclude-newer", self.until, *(f"--exclude-newer-package={name}={ALWAYS}" for name in named)]


def lanes() -> dict[str, Lane]:
    """Return all lanes by their names."""
    parser = configparser.ConfigParser()
    parser.read(LANES)
    return {
        name: Lane(
            name,
            python=section["python"],
            extras=section["extras"],
            until=section["until"],
            constraints=section["constraints"],
            requirements=tuple(section["requirements"].split()),
            on_each_run=tuple(section["on_each_run"].split()),
        )
        for name, section in parser.items()
        if name != parser.default_section
    }


def main() -> None:
    """Run what the command line names, one lane after the other."""
    known = lanes()
    parser = argparse.ArgumentParser(prog="python -m tools.matrix", description="Tests on other releases.")
    parser.add_argument("lanes", nargs="*", metavar="lane", help=f"of {', '.join(known)}; all if none is named")
    parser.add_argument("--on-each-run", action="store_true", help="only what each run of CI tries")
    args = parser.parse_args()
    if unknown := set(args.lanes) - set(known):
        parser.error(f"no such lane: {', '.join(sorted(unknown))}")
    rows = []
    for lane in map(known.__getitem__, args.lanes or known):
        if parts := lane.on_each_run if args.on_each_run else tuple(PARTS):
            make_environment(lane)
            rows.append(run_tests(lane, parts))
    for cells in (COLUMNS, ["---"] * len(COLUMNS), *rows):
        print(f"| {' | '.join(map(str, cells))} |")
    sys.exit(any(row[COLUMNS.index("failed")] for row in rows))


def make_environment(lane: Lane) -> None:
    """Make the environment of a lane, unless it is there and nothing has changed since."""
    files = [ROOT / name for name in ("setup.cfg", lane.constraints) if name]
    digest = hashlib.sha256(repr(lane).encode() + b"".join(file.read_bytes() for file in files)).hexdigest()
    stamp = lane.folder / "installed"
    if stamp.exists() and stamp.read_text() == digest:
        return
    _run(uv(), "venv", "--quiet", "--clear", "--python", _interpreter(lane.python), str(lane.folder))
    package = [*lane.limits, "--editable", f".[{lane.extras}]", *lane.requirements]
    _run(uv(), "pip", "install", "--quiet", "--compile-bytecode", "--python", str(lane.folder), *package)
    stamp.write_text(digest)


def _interpreter(version: str) -> str:
    """Return an interpreter of that release of Python: of pyenv, or from the path; or else the one that runs this."""
    of_pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    found = str(of_pyenv[-1]) if of_pyenv else shutil.which(f"python{version}")
    if found is None:
        print(f"There is no Python {version} here: {sys.executable} takes its place.", flush=True)
    return found or sys.executable


def _run(*command: str) -> None:
    subprocess.run(command, check=True, cwd=ROOT, timeout=LIMIT_SECONDS)


def run_tests(lane: Lane, parts: tuple[str, ...]) -> list[str | int]:
    """Run some parts of the tests in the environment of a lane, and return its row of the table."""
    binaries, report = lane.folder / "bin", lane.folder / "report.xml"
    versions = json.loads(subprocess.check_output([binaries / "python", "-c", VERSIONS]))
    # Whoever starts this in the background may have it ignore that signal.
    limit = f"env --default-signal=INT timeout --signal=INT --kill-after={GOODBYE_SECONDS} {LIMIT_SECONDS}".split()
    options = ["-m", "not slow", *f"-q -n 3 --dist loadfile -p no:cacheprovider --junitxml={report}".split()]
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(ROOT / ".airflow" / lane.name),
        "PATH": f"{binaries}:{os.environ['PATH']}",
    }
    begin = time.monotonic()
    name = " and ".join(parts)
    print(f"{lane.name}: {name}", flush=True)
    command = [
        *limit,
        str(binaries / "python"),
        "-m",
        "pytest",
        *options,
        *(test for part in parts for test in PARTS[part]),
    ]
    ended = subprocess.run(command, cwd=ROOT, env=environment, check=False)
    # Other codes than these, of tests that passed and that failed, tell that not all of them have run.
    if ended.returncode not in (0, 1):
        sys.exit(f"{lane.name}: the tests did not run to their end, code {ended.returncode}")
    counts = counts_in(report.read_text())
    return [lane.name, *versions, name, *counts, round(time.monotonic() - begin), time.strftime("%Y-%m-%d")]


def counts_in(report: str) -> list[int]:
    """Return how many tests passed, failed and were skipped, of a report in the format of JUnit."""
    (suite,) = ElementTree.fromstring(report).iter("testsuite")
    total, failures, errors, skipped = (int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped"))
    return [total - failures - errors - skipped, failures + errors, skipped]


if __name__ == "__main__":
    main()
