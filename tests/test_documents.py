"""What README and docs show is true: each block of Python is Python and runs, samples are what is printed."""

from __future__ import annotations

import ast
import importlib
import io
import json
import logging
import re
import runpy
import shlex
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from airflow_ray.__main__ import main
from airflow_ray._compat import AirflowSkipException
from airflow_ray.client.doctor import diagnose
from airflow_ray.cluster.protocol import State
from airflow_ray.exceptions import RayTaskFailedError
from airflow_ray.hooks.ray import RayHook
from airflow_ray.object_uri import ObjectURI
from airflow_ray.operators.log_lines import show_progress, show_result, show_used
from tests.checkpointing import connection_of
from tests.conftest import new_uri
from tests.ray_head import RayHead
from tools import prose

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = prose.pages()
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = {page: BLOCK.findall(page.read_text()) for page in PAGES if "```python" in page.read_text()}
# What a page takes for granted, for blocks that are no whole file.
GIVEN = {
    "checkpoints.md": "def make(): ...\n",
    "notebook_to_dag.md": "parts = RayPythonOperator(task_id='parts', python_callable=print)\n",
    "tasks.md": "@ray_task\ndef load(): ...\nloaded = RayPythonOperator(task_id='loaded', python_callable=print)\n",
    "troubleshooting.md": "def train(model, host): ...\n",
    "tuning.md": "def train(config): ...\nloaded = load = RayPythonOperator(task_id='loaded', python_callable=print)\n",
}
IMPORTS = (
    "from airflow.sdk import DAG\n"
    "from airflow_ray.decorators import ray_task\n"
    "from airflow_ray.operators.python import RayPythonOperator\n"
    "from airflow_ray.operators.tune import RayTuneOperator\n"
)


def pages(*names: str) -> list[pytest.param]:
    return [
        pytest.param(page, id=str(page.relative_to(ROOT))) for page in BLOCKS if (page.name in names) == bool(names)
    ]


@pytest.mark.parametrize("page", pages())
def test_blocks_are_python(page):
    for block in BLOCKS[page]:
        ast.parse(block)


@pytest.mark.parametrize("page", [page for page in pages() if not page.id.endswith("/hook.md")])
def test_blocks_make_dags(page, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    monkeypatch.delitem(sys.modules, "higgs_steps", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for number, block in enumerate(BLOCKS[page]):
        # Of a page, the blocks before it are known; a DAG of its own keeps their tasks apart.
        before = "".join(each for each in BLOCKS[page][:number] if "DAG(" not in each and "Operator(" not in each)
        text = before + block
        whole = IMPORTS
        if page.name in GIVEN:
            lines = (GIVEN[page.name] + text).splitlines()
            whole += f"with DAG('given_{number}'):\n" + "\n".join(f"    {line}" for line in lines)
        else:
            whole += text
        # The page says that Airflow 3.1 has its exceptions elsewhere.
        whole = whole.replace("airflow.sdk.exceptions", AirflowSkipException.__module__)
        path = tmp_path / f"block_{number}.py"
        path.write_text(whole + "\n")
        runpy.run_path(str(path))


def test_each_example_is_named_on_a_page():
    shown = "".join(page.read_text() for page in PAGES)
    assert [path.name for path in (ROOT / "examples").glob("*.py") if path.name not in shown] == []


def test_links_lead_to_files_that_are_there():
    links = [(page, link) for page in PAGES for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())]
    local = [(page, link) for page, link in links if "://" not in link]
    assert [f"{page.relative_to(ROOT)}: {link}" for page, link in local if not (page.parent / link).exists()] == []


def test_figures_of_the_readme_are_those_that_were_measured():
    measured = {each["name"]: each["value"] for each in json.loads((ROOT / "benchmarks" / "results.json").read_text())}
    rows = {
        "both functions in one Ray driver: the limit": "limit: one Ray driver",
        "airflow-ray": "ours",
        "`ray.get` and `ray.put` in the Airflow task": "ray.get + ray.put",
        "pickle to S3 and back": "pickle to S3",
        "Airflow's object storage XCom backend on S3": "XCom on S3",
    }
    values = [f"{size} MB of floats" for size in ("6.4", "64", "640")] + ["a mixed table of 149 MB"]
    page = (ROOT / "README.md").read_text()
    for row, name in rows.items():
        (line,) = re.findall(rf"^\| {re.escape(row)} \| (.*) \|$", page, re.MULTILINE)
        for value, shown in zip(values, line.split(" | "), strict=True):
            named = f"hand-over of {value}, {name}"
            figure = measured.get(named, measured.get(f"{named}, one run"))
            amount, unit = shown.split()
            assert float(amount) * {"ms": 1, "s": 1000}[unit] == pytest.approx(figure, rel=0.05), named


@pytest.mark.slow
def test_hook_page_prints_what_it_says(head: RayHead, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AIRFLOW_CONN_RAY_DEFAULT", head.client_uri)
    path = tmp_path / "hook.py"
    path.write_text(BLOCKS[DOCS / "how_to" / "hook.md"][0])
    runpy.run_path(str(path))
    assert capsys.readouterr().out.splitlines()[-1] == "[1, 2, 3]"


@pytest.mark.slow
def test_samples_of_commands_are_what_they_print(head: RayHead, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AIRFLOW_CONN_RAY_DEFAULT", head.driver_uri)
    # One of them writes a file into the folder that it runs in.
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "dags"))
    with RayHook().connect() as hook:
        # Tests of another file may have objects of a DAG of that name.
        hook.release(dag_id="sales")
        run_sales(hook)
        # The doctor's is shown on a connection with a path for checkpoints, and those of clusters need Kubernetes.
        for command, shown in [each for each in samples() if not each[0].startswith(("doctor", "clusters"))]:
            if command.startswith("release ray-object"):
                run_sales(hook)
            monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
            capsys.readouterr()
            main(shlex.split(command.partition(" | ")[0]))
            said = capsys.readouterr().out
            if command.endswith("| jq 'map(.bytes // 0) | add'"):
                said = str(sum(each["bytes"] or 0 for each in json.loads(said)))
            assert without_what_varies(said.replace("[y/N] ", "[y/N] y\n")) == without_what_varies(shown), command
        hook.release(dag_id="sales")


def samples() -> list[tuple[str, str]]:
    """Return the commands of the page of the command line, each with what it prints there."""
    page = (DOCS / "reference" / "command_line.md").read_text()
    found = re.findall(r"^    \$ airflow ray (.*)\n((?:(?:    .*)?\n)*)", page, re.MULTILINE)
    return [(command, textwrap.dedent(output)) for command, output in found]


def run_sales(hook: RayHook) -> None:
    """Run the tasks of the DAG run that the page shows, as far as they come."""
    sales = importlib.import_module("sales")
    loaded, divided, trained, evaluated = [
        ObjectURI("ray_default", "sales", "scheduled__2026-05-01", task)
        for task in ("load", "split", "train", "evaluate")
    ]
    hook.submit(sales.load, uri=loaded)
    hook.wait(loaded)
    hook.submit(sales.split, loaded, uri=divided, multiple_outputs=True)
    hook.wait(divided)
    hook.submit(sales.train, divided.with_key("train"), uri=trained)
    with pytest.raises(RayTaskFailedError):
        hook.wait(trained)
    hook.submit(sales.evaluate, divided.with_key("test"), uri=evaluated)
    while hook.status(evaluated) != State.RUNNING:
        time.sleep(0.05)


def without_what_varies(text: str) -> list[str]:
    """Return the lines of a text without the widths of columns, and what differs from one run to the next."""
    text = re.sub(r"\d{4}-\d\d-\d\d [^|]* ago", "a moment", text)
    text = re.sub(r"\b\d+(\.\d+){3}\b", "a node", text)
    text = re.sub(r"\b(under )?[\d.]+ ([kMGT]?i?B|s|min)\b", r"0 \2", text)
    text = re.sub(r"^\d{9}$", "a number of bytes", text.strip())
    text = re.sub(r'File ".*/dags/', 'File "/dags/', text)
    text = re.sub(r"(pid +\|) \d+", r"\1 0", text)
    return [re.sub(r"[ =]+", " ", line).strip() for line in text.splitlines()]


@pytest.mark.slow
def test_sample_of_a_log_is_what_a_task_shows(head: RayHead, caplog):
    page = (DOCS / "how_to" / "tasks.md").read_text()
    (block,) = (each for each in BLOCKS[DOCS / "how_to" / "tasks.md"] if "class Trainer" in each)
    sample = re.search(r"```text\n(.*?)```", page, re.DOTALL)
    made: dict[str, Any] = {"__name__": "sample"}
    exec(block.replace("@ray_task\n", ""), made)
    uri = new_uri("ray_gateway")
    log = logging.getLogger("sample")
    caplog.set_level(logging.INFO, "sample")
    with RayHook("ray_gateway").connect() as hook:
        hook.submit(made["train"], 2, uri=uri)
        progress = show_progress(log, hook.client.follow(uri), fetch_logs=True)
    show_result(log, progress.record["outputs"]["return_value"], progress.record, str(uri))
    show_used(log, progress.record)
    shown = "".join(f"{each.levelname} - {each.getMessage()}\n" for each in caplog.records if each.name == "sample")
    assert without_what_differs(shown) == without_what_differs(sample[1])


def without_what_differs(log: str) -> str:
    """Return a log without processes, nodes, times and object URIs."""
    # On a busy machine the task's process may take long to start.
    log = re.sub(r"^INFO - Waiting for (resources|a process to run in)\b.*\n", "", log, flags=re.MULTILINE)
    log = re.sub(r"(under )?[\d.]+ (s|MiB) ", "", log)
    return re.sub(r"pid=\d+ node=[\d.]+|[\d.]+ s$|ray-object://.*", "", log, flags=re.MULTILINE)


def test_sample_of_the_doctor_is_what_it_says(head: RayHead, tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_RAY_DEFAULT", connection_of(head, "gateway", checkpoint_path=f"file://{tmp_path}"))
    page = (DOCS / "reference" / "command_line.md").read_text()
    sample = re.search(r"\$ airflow ray doctor\n(.*?)\n\n", page, re.DOTALL)
    shown = [line.strip() for line in sample[1].splitlines()]
    said = [f"{each.outcome:8} {each.name:16} {each.text}" for each in diagnose("ray_default")]
    assert [without_amounts(line) for line in said] == [without_amounts(line) for line in shown]


def without_amounts(line: str) -> str:
    """Return a line without what differs from one machine to the next."""
    line = re.sub(r"(\w+)://\S+, credentials: .*", "a path and credentials", line)
    line = re.sub(r"\d+(\.\d+)*(:\d+)? ?([kMGT]?B\b|bytes\b)?", "0 ", line)
    return re.sub(r"objects?\b|nodes?\b|\s+", " ", line).replace(" ,", ",").strip()
