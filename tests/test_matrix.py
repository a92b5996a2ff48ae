"""The lanes of the version matrix cover what they promise."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tools.matrix import PARTS, ROOT, Lane, counts_in, lanes


def release_of(lane: Lane, package: str) -> str:
    """Return the release of a package that a lane has, as far as lanes tell releases apart."""
    if package == "python":
        return lane.python
    wanted = (ROOT / lane.constraints).read_text() if lane.constraints else "\n".join(lane.requirements)
    found = re.search(rf"^{package}(?:==|>=|<)(\S+)", wanted, re.MULTILINE)
    assert found is not None, f"{lane.name} has no {package}"
    if package == "pandas":
        return "2" if found[0] == "pandas<3" else found[1].partition(".")[0]
    return ".".join(found[1].split(".")[:2])


@pytest.mark.parametrize(
    ("package", "releases"),
    [
        ("apache-airflow", {"3.1", "3.2", "3.3", "3.4"}),
        ("ray", {"2.56", "2.58", "2.60"}),
        ("pandas", {"2", "3"}),
        ("python", {"3.10", "3.11", "3.12", "3.13"}),
    ],
)
def test_each_release_is_in_two_lanes_or_more(package: str, releases: set[str]):
    counts = Counter(release_of(lane, package) for lane in lanes().values())
    assert set(counts) == releases
    assert min(counts.values()) >= 2


def test_each_run_tries_the_oldest_and_the_newest_releases():
    tried = [lane for lane in lanes().values() if lane.on_each_run]
    packages = ("python", "apache-airflow", "ray", "pandas")
    assert [[release_of(lane, package) for package in packages] for lane in tried] == [
        ["3.10", "3.1", "2.56", "2"],
        ["3.13", "3.4", "2.60", "3"],
    ]


def test_lane_takes_no_package_that_is_newer_than_its_day_but_those_it_names():
    limits = lanes()["airflow-3.1"].limits
    assert limits[:2] == ["--exclude-newer", lanes()["airflow-3.1"].until]
    assert [each.split("=")[1] for each in limits[2:]] == ["apache-airflow", "ray"]


def test_tests_of_the_matrix_are_there():
    assert {part for lane in lanes().values() for part in lane.on_each_run} <= set(PARTS)
    missing = [test for tests in PARTS.values() for test in tests if not Path(ROOT, test.partition("::")[0]).exists()]
    assert missing == []


def test_errors_count_as_failures():
    assert counts_in('<testsuites><testsuite tests="9" failures="1" errors="2" skipped="1" /></testsuites>') == [
        5,
        3,
        1,
    ]
