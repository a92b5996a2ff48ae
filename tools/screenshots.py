"""Make the screenshots of the Ray page in ``docs/images``: a run on a real Airflow and an embedded Ray, in Chromium."""

from __future__ import annotations

import re
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.example import EXAMPLES, ROOT
from tools.standalone import LOCAL_CONNECTION, StandaloneAirflow, stop_by_sigterm_as_by_ctrl_c

if TYPE_CHECKING:
    from collections.abc import Iterator

IMAGES = ROOT / "docs" / "images"
DAG_ID = "xgboost_breast_cancer"
RUN_ID = "manual__2026-11-02"
RUN_SECONDS = 300.0
SEEN_MILLISECONDS = 60_000
WIDTH, HEIGHT = 1280, 720


def main() -> None:
    """Write each page in light and in dark."""
    from playwright.sync_api import sync_playwright

    with (
        tempfile.TemporaryDirectory() as home,
        sync_playwright() as playwright,
        StandaloneAirflow(Path(home), EXAMPLES, {"AIRFLOW_CONN_RAY_DEFAULT": LOCAL_CONNECTION}) as airflow,
    ):
        airflow.wait(DAG_ID, airflow.trigger(DAG_ID, run_id=RUN_ID), RUN_SECONDS)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for theme in ("light", "dark"):
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=theme)
            page.set_default_timeout(SEEN_MILLISECONDS)
            for name in _shown(page, airflow.url):
                path = IMAGES / f"page-{name}-{theme}.png"
                page.screenshot(path=path)
                print(path.relative_to(ROOT))
        browser.close()


def _shown(page: Any, url: str) -> Iterator[str]:
    """Open one page after another, and yield the name of each that is complete."""
    run = f"{url}/dags/{DAG_ID}/runs/{RUN_ID}"
    frame = page.frame_locator("iframe[title=Ray]")
    page.goto(f"{run}/plugin/ray_run")
    frame.get_by_text("In all:").wait_for()
    yield "run"
    page.goto(f"{run}/tasks/split/plugin/ray_task")
    frame.get_by_text("First rows").last.click()
    frame.locator("table.values").wait_for()
    yield "task"
    page.goto(f"{url}/plugin/ray")
    frame.get_by_role("columnheader", name="Free").wait_for()
    yield "clusters"
    page.goto(f"{run}/tasks/load/xcom")
    page.get_by_text("ray_object").first.wait_for()
    page.get_by_role("button", name=re.compile("expand", re.IGNORECASE)).first.click()
    page.get_by_text('"shape"').first.wait_for()
    yield "xcom"


if __name__ == "__main__":
    stop_by_sigterm_as_by_ctrl_c()
    with suppress(KeyboardInterrupt):
        main()
