"""Run the example on the HIGGS data on a real Airflow and an embedded Ray, and show what came of it."""

from __future__ import annotations

import time

from tools.example import ROOT, example_run, run_as_command, write_higgs_file

DAG_ID = "higgs_xgboost_modin"
ROWS = 200_000


def main() -> None:
    """Generate the data, run the DAG and print its outputs."""
    started = time.monotonic()
    path = write_higgs_file(ROOT / ".airflow" / "higgs.csv", ROWS)
    print(f"{ROWS:,} rows of the shape of the HIGGS data are in {path}.")
    explanation = "functions of a notebook; the frames are Modin's, in parts in Ray."
    with example_run(ROOT / ".airflow" / "demo-higgs", DAG_ID, explanation, {"path": str(path)}) as run:
        run.show_outputs()
        quality = run.returned("validate")
    print(f"\nAUC on {quality['rows']:,} rows held out: {quality['auc']:.3f}", end="")
    print(f"   accuracy: {quality['accuracy']:.3f}   ({time.monotonic() - started:.0f} s in all)")


if __name__ == "__main__":
    run_as_command(main)
