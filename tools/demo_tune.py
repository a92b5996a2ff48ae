"""Run the example of a hyper-parameter search on a real Airflow and an embedded Ray, and show what came of it."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from tools.demo import ROOT, RUN_SECONDS, show_failure
from tools.standalone import LOCAL_CONNECTION, StandaloneAirflow, stop_by_sigterm_as_by_ctrl_c

if TYPE_CHECKING:
    from pathlib import Path

DAG_ID = "xgboost_tune_breast_cancer"


def main(home: Path) -> int:
    """Run the DAG and print the best parameters and the accuracy; return the exit status.

    :param home: folder for Airflow, Ray and the report.
    """
    started = time.monotonic()
    report = home / "report.html"
    print("Starting Airflow; the first task starts Ray. No cluster, account or setting is needed.")
    with StandaloneAirflow(home, ROOT / "examples", {"AIRFLOW_CONN_RAY_DEFAULT": LOCAL_CONNECTION}) as airflow:
        print(f"Running {DAG_ID}: the search is one Airflow task, its trials run on Ray.")
        run_id = airflow.trigger(DAG_ID, {"report_path": str(report)})
        if airflow.wait(DAG_ID, run_id, RUN_SECONDS) != "success":
            return show_failure(airflow, DAG_ID, run_id)
        found = airflow.xcoms(DAG_ID, run_id, "tune")["return_value"]
        accuracy = airflow.xcoms(DAG_ID, run_id, "report")["return_value"]
    print(f"\nBest of {found['trials']} trials, {found['errors']} of which failed:")
    for name, value in found["best_config"].items():
        print(f"  {name} = {value:.4g}" if isinstance(value, float) else f"  {name} = {value}")
    print(f"Charts of the search: {report}")
    print(f"\nAccuracy on the held-out quarter: {accuracy:.3f}   ({time.monotonic() - started:.0f} s in all)")
    return 0


if __name__ == "__main__":
    stop_by_sigterm_as_by_ctrl_c()
    try:
        sys.exit(main(ROOT / ".airflow" / "demo-tune"))
    except KeyboardInterrupt:
        sys.exit(130)
