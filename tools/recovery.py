"""Run the checkpoint example on a real cluster and S3, and take nodes and cluster away under it."""

from __future__ import annotations

import json
import re
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from tools.ray_cluster import RayHead
from tools.s3_server import S3Server
from tools.standalone import StandaloneAirflow, print_table, stop_by_sigterm_as_by_ctrl_c

ROOT = Path(__file__).parent.parent
DAG_ID = "checkpoint_example"
RUN_SECONDS = 400.0
# How long the tasks that lose their node or cluster take on their first try.
TASK_SECONDS = 25


class Cluster:
    """A head without CPUs, as clusters have it, and one worker node at a time."""

    def __init__(self) -> None:
        self._head = RayHead(num_cpus=0)
        self._nodes = [self._head.add_node(num_cpus=2)]

    @property
    def connection(self) -> str:
        """The Airflow connection, which stays the same when the cluster is lost and started again."""
        extra = {"mode": "client", "checkpoint_conn_id": "s3", "connect_timeout": 120}
        return json.dumps({"conn_type": "ray", "host": "127.0.0.1", "port": self._head.ports[1], "extra": extra})

    def replace_node(self) -> None:
        """Start another node and end the one that ran so far, as the loss of its machine does."""
        self._nodes.append(self._head.add_node(num_cpus=2))
        self._nodes.pop(0).kill()

    def lose(self) -> None:
        """End all nodes and the head, and start an empty cluster at the same address."""
        self.kill()
        self._head = RayHead(self._head.ports, num_cpus=0)
        self._nodes = [self._head.add_node(num_cpus=2)]

    def kill(self) -> None:
        """End all processes."""
        for node in self._nodes:
            node.kill()
        self._head.kill()


def main(home: Path) -> int:
    """Run the DAG and print where each task got its input; return the exit status.

    :param home: folder for Airflow.
    """
    with ExitStack() as stack:
        print("Starting a server of the S3 protocol, a Ray cluster with a worker node, and Airflow.")
        server = S3Server()
        stack.callback(server.stop)
        cluster = Cluster()
        stack.callback(cluster.kill)
        environment = {"AIRFLOW_CONN_RAY_DEFAULT": cluster.connection, "AIRFLOW_CONN_S3": server.connection()}
        airflow = stack.enter_context(StandaloneAirflow(home, ROOT / "examples", environment))
        path = f"s3://{server.new_bucket()}/checkpoints"
        conf = {"seconds": TASK_SECONDS, "checkpoint_path": path, "checkpoint_source": "s3"}
        run_id = airflow.trigger(DAG_ID, conf)
        print(f"Running {DAG_ID}: the result of prepare goes to {path} as well.")
        _until_at_work(airflow, run_id, "correlate")
        print("Task correlate runs: its node, which also holds the result of prepare, is killed; another one joins.")
        cluster.replace_node()
        _until_at_work(airflow, run_id, "fit")
        print("Task fit runs: the whole cluster is killed, and an empty one started at the same address.")
        cluster.lose()
        state = airflow.wait(DAG_ID, run_id, RUN_SECONDS)
        _show(airflow, run_id)
        print(f"\nThe run ended in {state}: {airflow.xcoms(DAG_ID, run_id, 'fit').get('return_value')}")
    return 0 if state == "success" else 1


def _until_at_work(airflow: StandaloneAirflow, run_id: str, task_id: str) -> None:
    """Wait until the callable of a task writes its first line."""
    deadline = time.monotonic() + RUN_SECONDS
    while not _is_at_work(airflow, run_id, task_id):
        if time.monotonic() > deadline:
            raise RuntimeError(f"Task {task_id} does not start")
        time.sleep(0.5)


def _is_at_work(airflow: StandaloneAirflow, run_id: str, task_id: str) -> bool:
    states = {each["task_id"]: each["state"] for each in airflow.task_instances(DAG_ID, run_id)}
    return states.get(task_id) == "running" and "working, 1 of" in airflow.log(DAG_ID, run_id, task_id)


def _show(airflow: StandaloneAirflow, run_id: str) -> None:
    rows = [("task", "try", "state", "input from", "because")]
    for instance in airflow.task_instances(DAG_ID, run_id):
        task_id, last = instance["task_id"], instance["try_number"]
        for number in range(1, last + 1):
            log = airflow.log(DAG_ID, run_id, task_id, number)
            source = re.search(r"Inputs: 1 from the (\w+)", log)
            error = re.search(r"^(Ray\w+Error): ([^.:\n]*)", log, re.MULTILINE)
            state = instance["state"] if number == last else "failed"
            rows.append((task_id, str(number), state, source[1] if source else "-", error[0] if error else ""))
    print_table(rows)


if __name__ == "__main__":
    stop_by_sigterm_as_by_ctrl_c()
    try:
        sys.exit(main(ROOT / ".airflow" / "recovery"))
    except KeyboardInterrupt:
        sys.exit(130)
