"""Run the example of a hyper-parameter search on a real Airflow and an embedded Ray, and show what came of it."""

from __future__ import annotations

import time

from tools.example import ROOT, example_run, run_as_command

DAG_ID = "xgboost_tune_breast_cancer"


def main() -> None:
    """Run the DAG and print the best parameters and the accuracy."""
    started = time.monotonic()
    home = ROOT / ".airflow" / "demo-tune"
    report = home / "report.html"
    explanation = "the search is one Airflow task, its trials run on Ray."
    with example_run(home, DAG_ID, explanation, {"report_path": str(report)}) as run:
        found, accuracy = run.returned("tune"), run.returned("report")
    print(f"\nBest of {found['trials']} trials, {found['errors']} of which failed:")
    for name, value in found["best_config"].items():
        print(f"  {name} = {value:.4g}" if isinstance(value, float) else f"  {name} = {value}")
    print(f"Charts of the search: {report}")
    print(f"\nAccuracy on the held-out quarter: {accuracy:.3f}   ({time.monotonic() - started:.0f} s in all)")


if __name__ == "__main__":
    run_as_command(main)
