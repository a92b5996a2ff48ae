"""The page with charts of a search, in a browser."""

from __future__ import annotations

import shutil
import subprocess

import pandas as pd
import pytest

from airflow_ray.client.tuning.report import write_report
from airflow_ray.exceptions import RayTuneStorageError

CHROMIUM = shutil.which("chromium")

TRIALS = pd.DataFrame(
    {
        "trial_id": ["a", "b", "c"],
        "loss": [0.3, 0.1, None],
        "trial_error": [None, None, "ValueError: <b>broken</b>"],
        "config/eta": [0.001, 0.1, 0.5],
        "config/booster": ["gbtree", "dart", "dart"],
        "config/metrics": [["auc"], ["auc"], ["auc"]],
    }
)
HISTORY = {"a": {"iteration": [1, 2], "value": [0.4, 0.3]}, "b": {"iteration": [1], "value": [0.1]}}


def write(path, trials=TRIALS, history=HISTORY):
    return write_report(
        str(path), None, title="dag: <tune>", trials=trials, history=history, metric="loss", mode="min", best_trial="b"
    )


def opened(path, folder):
    """Return what Chromium makes of a page, and what it says of it."""
    command = [
        str(CHROMIUM),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--enable-logging=stderr",
    ]
    command += [
        "--disable-background-networking",
        f"--user-data-dir={folder}",
        "--virtual-time-budget=8000",
        "--dump-dom",
    ]
    finished = subprocess.run([*command, f"file://{path}"], capture_output=True, text=True, check=True)
    return finished.stdout, [line for line in finished.stderr.splitlines() if ":CONSOLE" in line]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_page_draws_its_charts_without_an_error(tmp_path):
    write(tmp_path / "report.html")
    page, said = opened(tmp_path / "report.html", tmp_path / "profile")
    assert page.count('class="plot-container') == 3
    assert [line for line in said if "Uncaught" in line or "error" in line.lower()] == []


def test_page_names_the_best_trial_and_what_varied(tmp_path):
    write(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "3 trials, 1 of which failed. Best loss: 0.1 by trial b with eta=0.1, booster=dart." in page
    assert "<title>dag: &lt;tune&gt;</title>" in page


def test_text_of_a_trial_is_no_markup_of_the_page(tmp_path):
    evil = "</script><img src=x onerror=alert(1)>"
    trials = TRIALS.assign(**{"config/booster": [evil, "dart", "gbtree"], "trial_error": [evil, None, None]})
    write(tmp_path / "report.html", trials, {evil: HISTORY["a"], "b": HISTORY["b"]})
    assert "<img" not in (tmp_path / "report.html").read_text()


def test_page_of_a_search_without_variation_has_no_scatter(tmp_path):
    write(tmp_path / "report.html", TRIALS[["trial_id", "loss", "trial_error"]])
    assert "Each parameter against" not in (tmp_path / "report.html").read_text()


def test_page_that_cannot_be_written_is_an_error():
    with pytest.raises(RayTuneStorageError, match=r"report cannot be written at file:///proc/nowhere/report.html"):
        write("/proc/nowhere/report.html")
