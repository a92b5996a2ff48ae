"""Run Airflow's user interface with the examples and the connection in place."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import suppress

from tools.example import EXAMPLES, ROOT, XCOM_BACKEND, write_higgs_file
from tools.standalone import LOCAL_CONNECTION, StandaloneAirflow, stop_by_sigterm_as_by_ctrl_c

HIGGS_ROWS = 20_000


def main() -> None:
    """Serve until Ctrl-C or SIGTERM."""
    write_higgs_file(None, HIGGS_ROWS)
    with StandaloneAirflow(ROOT / ".airflow" / "ui", EXAMPLES, XCOM_BACKEND) as airflow:
        _add_connection(airflow)
        print(f"Open {airflow.url} (no login) and trigger xgboost_breast_cancer.")
        print("The connection is under Admin, Connections: ray_default. Ctrl-C stops Airflow and Ray.")
        signal.pause()


def _add_connection(airflow: StandaloneAirflow) -> None:
    """Store the connection in the database, where the UI shows it; one that is there stays as it is."""
    extra = json.dumps(json.loads(LOCAL_CONNECTION)["extra"])
    # Airflow's Test button wants a port in the database; 0 stands for the usual one, and is lost in JSON.
    fields = ["--conn-type", "ray", "--conn-port", "0", "--conn-extra", extra]
    command = [sys.executable, "-m", "airflow", "connections", "add", "ray_default", *fields]
    subprocess.run(command, env=airflow.environment, capture_output=True, check=False)


if __name__ == "__main__":
    stop_by_sigterm_as_by_ctrl_c()
    with suppress(KeyboardInterrupt):
        main()
