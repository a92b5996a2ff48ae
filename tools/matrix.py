"""Run the tests on other releases of Airflow, Ray, Python and pandas, and write down what came of it.

``python -m tools.matrix [lane …] [--quick] [--part PART …]``. The lanes are in ``tools/matrix.cfg``; each has an
environment of its own under ``.venv-matrix``, which is made with uv when it is needed first.
"""

from __future__ import annotations

import argparse
import configparser
import contextlib
import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parent.parent
LANES = ROOT / "tools" / "matrix.cfg"
PAGE = ROOT / "docs" / "compatibility.md"
BEGIN, END = "<!-- matrix: begin -->", "<!-- matrix: end -->"
ENVIRONMENTS = ROOT / ".venv-matrix"
# Neither the making of an environment nor a part of the tests takes longer.
PART_SECONDS = 900
# For pytest to end what its fixtures have started.
GOODBYE_SECONDS = 60
# After any upload: a release that a lane names is taken whenever it was uploaded.
ALWAYS = "2100-01-01"
QUICK = "quick"
PARTS = {
    QUICK: ["@tests/on_each_version.txt"],
    "client": ["tests/client"],
    "cluster": ["tests/cluster"],
    "operators": ["tests/operators", "tests/sensors", "tests/test_triggers.py", "tests/test_xcom.py"],
    "hooks": ["tests/hooks", "tests/cli", "tests/ui", "tests/test_documents.py", "tests/test_private_parts.py"],
    "safety": ["tests/safety", "tests/kubernetes"],
    "end_to_end": ["tests/end_to_end", "tests/examples"],
}
COLUMNS = ("lane", "Python", "Airflow", "Ray", "pandas", "pyarrow", "tests", "passed", "failed", "skipped", "when")
PACKAGES = ("apache-airflow", "ray", "pandas", "pyarrow")
VERSIONS = f"""
import json, platform
from importlib.metadata import version
print(json.dumps([platform.python_version(), *map(version, {PACKAGES})]))
"""


@dataclass(frozen=True)
class Lane:
    """A set of releases that are tried with each other.

    :param name: of its section in ``tools/matrix.cfg``, which tells the other fields.
    """

    name: str
    python: str
    until: str
    constraints: str
    requirements: tuple[str, ...]
    extras: str

    @property
    def folder(self) -> Path:
        """Where its environment is."""
        return ENVIRONMENTS / self.name

    @property
    def interpreter(self) -> Path:
        """The Python of its environment."""
        return self.folder / "bin" / "python"

    @property
    def limits(self) -> list[str]:
        """What keeps newer packages away, as arguments of uv."""
        if self.constraints:
            return ["--constraints", self.constraints]
        names = [requirement.partition("==")[0] for requirement in self.requirements if "==" in requirement]
        return ["--exclude-newer", self.until, *(f"--exclude-newer-package={name}={ALWAYS}" for name in names)]


def lanes() -> dict[str, Lane]:
    """Return all lanes by their names."""
    parser = configparser.ConfigParser()
    parser.read_string(LANES.read_text())
    return {
        name: Lane(
            name,
            section["python"],
            section.get("until", ""),
            section.get("constraints", ""),
            tuple(section.get("requirements", "").split()),
            section["extras"],
        )
        for name, section in parser.items()
        if name != parser.default_section
    }


def main() -> None:
    """Run what the command line names, one lane after the other."""
    known = lanes()
    parser = argparse.ArgumentParser(prog="python -m tools.matrix", description="Tests on other releases.")
    parser.add_argument("lanes", nargs="*", metavar="lane", help=f"of {', '.join(known)}; all if none is named")
    parser.add_argument("--quick", action="store_true", help="only what breaks first with another release")
    parser.add_argument("--part", action="append", choices=list(PARTS), help="only that part of the tests")
    args = parser.parse_args()
    if unknown := set(args.lanes) - set(known):
        parser.error(f"no such lane: {', '.join(sorted(unknown))}")
    parts = [QUICK] if args.quick else args.part or [part for part in PARTS if part != QUICK]
    has_failed = False
    for name in args.lanes or known:
        make_environment(known[name])
        for part in parts:
            row, told = run_part(known[name], part)
            PAGE.write_text(with_row(PAGE.read_text(), row))
            print("\n".join([" ".join(row.values()), *(f"  {each}" for each in told)]), flush=True)
            has_failed = has_failed or row["failed"] != "0"
    sys.exit(has_failed)


def make_environment(lane: Lane) -> None:
    """Make the environment of a lane, unless it is there and nothing has changed since."""
    files = [ROOT / "setup.cfg", *([ROOT / lane.constraints] if lane.constraints else [])]
    content = repr(lane).encode() + b"".join(file.read_bytes() for file in files)
    digest, stamp = hashlib.sha256(content).hexdigest(), lane.folder / "installed"
    if stamp.exists() and stamp.read_text() == digest:
        return
    uv = _uv()
    _run(uv, "venv", "--quiet", "--clear", "--python", _interpreter(lane.python), str(lane.folder))
    package = [*lane.limits, "--editable", f".[{lane.extras}]", *lane.requirements]
    _run(uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(lane.folder), *package)
    stamp.write_text(digest)


def _uv() -> str:
    folder = ENVIRONMENTS / "uv"
    if not (folder / "bin" / "uv").exists():
        _run(sys.executable, "-m", "venv", str(folder))
        _run(str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "uv")
    return str(folder / "bin" / "uv")


def _interpreter(version: str) -> str:
    """Return an interpreter of that release of Python: of pyenv, or from the path."""
    of_pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    found = str(of_pyenv[-1]) if of_pyenv else shutil.which(f"python{version}")
    if found is None:
        sys.exit(f"There is no Python {version}: neither under ~/.pyenv/versions nor as python{version} on the path.")
    return found


def _run(*command: str) -> None:
    try:
        subprocess.run(command, check=True, cwd=ROOT, timeout=PART_SECONDS)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        sys.exit(f"{shlex.join(command)}: {error}")


def run_part(lane: Lane, part: str) -> tuple[dict[str, str], list[str]]:
    """Run a part of the tests in the environment of a lane.

    :return: its row in the table, and the tests that have failed.
    """
    versions = json.loads(subprocess.check_output([lane.interpreter, "-c", VERSIONS], text=True))
    report = lane.folder / f"{part}.xml"
    report.unlink(missing_ok=True)
    options = [
        "-q",
        "-n",
        "2",
        "--dist",
        "loadfile",
        "-m",
        "not slow",
        "-p",
        "no:cacheprovider",
        f"--junitxml={report}",
    ]
    is_whole = _run_tests([str(lane.interpreter), "-m", "pytest", *options, *PARTS[part]], lane)
    counts, told = _counts(report)
    if not is_whole:
        told.insert(0, f"stopped after {PART_SECONDS // 60} minutes")
        counts["failed"] = f"{counts['failed']}, stopped"
    row = dict(zip(COLUMNS, [lane.name, *versions, part, *counts.values(), time.strftime("%Y-%m-%d")], strict=True))
    return row, told


def _run_tests(command: list[str], lane: Lane) -> bool:
    """Return whether the tests have ended by themselves."""
    home = ROOT / ".airflow" / "matrix" / lane.name
    environment = {**os.environ, "AIRFLOW_HOME": str(home), "PATH": f"{lane.folder / 'bin'}:{os.environ['PATH']}"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True)
    try:
        process.wait(PART_SECONDS)
        return True
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GOODBYE_SECONDS)
        return False
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _counts(report: Path) -> tuple[dict[str, str], list[str]]:
    """Return how many tests passed, failed and were skipped, and the names of those that failed."""
    cases = list(ElementTree.parse(report).iter("testcase")) if report.exists() else []
    failed = [case for case in cases if any(case.find(kind) is not None for kind in ("failure", "error"))]
    skipped = [case for case in cases if case.find("skipped") is not None]
    names = sorted({f"{case.get('classname')}::{case.get('name')}" for case in failed})
    passed = len(cases) - len(failed) - len(skipped)
    return {"passed": str(passed), "failed": str(len(names)), "skipped": str(len(skipped))}, names


def with_row(page: str, row: dict[str, str]) -> str:
    """Return the page with that row in its table, in place of the one of the same lane and part."""
    before, _, rest = page.partition(BEGIN)
    table, _, after = rest.partition(END)
    rows = [dict(zip(COLUMNS, cells, strict=True)) for cells in map(_cells, table.splitlines()) if cells]
    rows = [each for each in rows[1:] if (each["lane"], each["tests"]) != (row["lane"], row["tests"])] + [row]
    order = [*lanes()]
    rows = [each for each in rows if each["lane"] in order]
    rows.sort(key=lambda each: (order.index(each["lane"]), [*PARTS].index(each["tests"])))
    lines = [COLUMNS, ["---"] * len(COLUMNS), *(each.values() for each in rows)]
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def _cells(line: str) -> list[str]:
    is_row = line.startswith("|") and not line.startswith("| ---")
    return [cell.strip() for cell in line.strip("|").split("|")] if is_row else []


if __name__ == "__main__":
    main()
