"""What the owner knows of a node whose memory was full: what Ray's page tells, and its own records."""

from __future__ import annotations

from airflow_ray.cluster.failures import failure
from airflow_ray.cluster.owner.out_of_memory import with_surroundings
from airflow_ray.cluster.owner.record import Record
from airflow_ray.cluster.protocol import FailureKind, State

GiB = 1024**3
PAGE = """1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 10.0.0.7, ID: 5a2a03) \
was 6.50GB used / 24.00GB limit (0.270833)
Considered workers: [
Selected to kill: (Task: job ID=02000000, lease ID=0100, task name=run, required resources={memory: 1e+09, CPU: 1}, \
pid=130, actual memory used=1.75GB, worker ID=6af9)
(Task: job ID=02000000, lease ID=0101, task name=run, required resources={CPU: 1}, pid=131, actual memory used=0.25GB, \
worker ID=6afa)
(Actor(fc5e): job ID=02000000, lease ID=0102, task name=Trainer.__init__, required resources={}, pid=126, \
actual memory used=0.50GB, worker ID=7059)
]
Top 10 memory users: PID\tMEM(GB)\tCOMMAND
130\t1.83\tray::run
667\t0.50\t/usr/bin/python -m another
126\t0.51\tray::Trainer.train
Refer to the documentation on how to address the out of memory issue."""


def record(name: str, pid: int, state: State, **more: object) -> Record:
    made = Record(name, attempt=name, options={"memory": GiB})
    made.node, made.pid, made.state = "10.0.0.7", pid, state
    for field, value in more.items():
        setattr(made, field, value)
    return made


def test_page_of_rays_and_records_are_put_together():
    own, other = record("d/r/own/-1", 130, State.RUNNING), record("d/r/other/-1", 131, State.RUNNING)
    elsewhere = record("d/r/elsewhere/-1", 667, State.RUNNING, node="10.0.0.8")
    done, waits = record("d/r/done/-1", 131, State.SUCCEEDED), record("d/r/waits/-1", 131, State.PENDING)
    told = with_surroundings(
        failure(FailureKind.OUT_OF_MEMORY, message=PAGE), own, [own, other, elsewhere, done, waits]
    )
    assert (told["node"], told["node_used"], told["node_has"]) == ("10.0.0.7", 6.5 * GiB, 24 * GiB)
    assert (told["reserved"], told["used"]) == (GiB, 1.75 * GiB)
    assert told["works"] == [{"record_id": "d/r/other/-1", "reserved": GiB, "used": GiB // 4}]
    assert told["processes"] == [
        {"name": "/usr/bin/python -m another", "used": GiB // 2},
        {"name": "Trainer.__init__", "used": GiB // 2},
    ]


def test_work_that_was_ended_at_the_same_time_was_there():
    own, other = record("d/r/own/-1", 130, State.RUNNING), record("d/r/other/-1", 131, State.RUNNING)
    other.finish(State.FAILED, failure(FailureKind.OUT_OF_MEMORY))
    told = with_surroundings(failure(FailureKind.OUT_OF_MEMORY, message=PAGE), own, [own, other])
    assert [each["record_id"] for each in told["works"]] == ["d/r/other/-1"]
    other.finished_at = 1.0
    told = with_surroundings(failure(FailureKind.OUT_OF_MEMORY, message=PAGE), own, [own, other])
    assert told["works"] == []


def test_without_a_page_the_records_tell():
    own, other = record("d/r/own/-1", 130, State.RUNNING), record("d/r/other/-1", 131, State.RUNNING)
    told = with_surroundings(failure(FailureKind.OUT_OF_MEMORY, starts=2), own, [own, other])
    assert (told["node"], told["used"], told["processes"]) == ("10.0.0.7", None, [])
    assert told["works"] == [{"record_id": "d/r/other/-1", "reserved": GiB, "used": None}]


def test_other_failures_stay_as_they_are():
    error = failure(FailureKind.WORKER_CRASHED, message=PAGE)
    assert with_surroundings(error, record("d/r/own/-1", 130, State.RUNNING), []) is error
