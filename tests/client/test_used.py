"""The line that tells what work has used: nothing in it that is not known."""

from __future__ import annotations

import pytest

from airflow_ray.client.used import memory_size, used_text

GiB = 1024**3
USED = {"seconds": 30.2, "cpu_seconds": 41.3, "memory": 6 * GiB // 5, "gpu_memory": None, "gpu_total": None}
RECORD = {"used": USED, "memory": 2 * GiB, "num_cpus": 2, "read_bytes": 640_000_000, "written_bytes": 12_000_000}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        pytest.param(
            {},
            "It used at most 1.2 GiB of the 2 GiB of memory that it had reserved, and 41 s of CPU in 30 s on 2 CPUs; "
            "it read 640 MB and wrote 12 MB in the object store.",
            id="all",
        ),
        pytest.param(
            {"memory": None, "num_cpus": 1, "read_bytes": None},
            "It used at most 1.2 GiB of memory, of which it had reserved none, and 41 s of CPU in 30 s on 1 CPU.",
            id="nothing reserved",
        ),
        pytest.param(
            {"memory": GiB, "num_cpus": 0.5, "read_bytes": 0, "written_bytes": 0},
            "It used at most 1.2 GiB of memory, more than the 1 GiB that it had reserved, and 41 s of CPU in 30 s on "
            "0.5 CPUs.",
            id="more than was reserved",
        ),
        pytest.param(
            {"used": {**USED, "memory": None, "cpu_seconds": 0.0000123, "seconds": 1.5}, "num_cpus": 0},
            "It used under 0.001 s of CPU in 1.5 s, with no CPU reserved; it read 640 MB and wrote 12 MB in the object "
            "store.",
            id="memory not known",
        ),
        pytest.param(
            {"used": {**USED, "gpu_memory": 10 * GiB, "gpu_total": 16 * GiB}, "read_bytes": None},
            "It used at most 1.2 GiB of the 2 GiB of memory that it had reserved, and 41 s of CPU in 30 s on 2 CPUs; "
            "its GPUs held at most 10 GiB of 16 GiB.",
            id="GPU",
        ),
        pytest.param(
            {"children_used": {"processes": 2, "memory": GiB // 2, "cpu_seconds": 120.4}, "written_bytes": 999},
            "It used at most 1.2 GiB of the 2 GiB of memory that it had reserved, and 41 s of CPU in 30 s on 2 CPUs; "
            "its Ray tasks and actors used 120 s of CPU, and at most 512 MiB of memory in each of 2 processes; "
            "it read 640 MB and wrote 999 bytes in the object store.",
            id="children",
        ),
    ],
)
def test_text_tells_what_is_known(changes, text):
    assert used_text({**RECORD, **changes}) == text


@pytest.mark.parametrize("record", [{**RECORD, "used": None}, {"state": "LOST"}], ids=["died", "earlier release"])
def test_work_of_which_nothing_is_known_has_no_text(record):
    assert used_text(record) is None


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1024, "1 KiB"), (1_048_575, "1 MiB"), (10**15, "909 TiB")]
)
def test_memory_is_told_in_powers_of_1024(count, text):
    assert memory_size(count) == text
