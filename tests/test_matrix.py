"""The lanes of the version matrix cover what they promise, and the page keeps their results."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tools.matrix import BEGIN, COLUMNS, END, PARTS, ROOT, Lane, lanes, with_row


def release_of(lane: Lane, package: str) -> str:
    """Return the release of a package that a lane has, as far as lanes tell releases apart."""
    wanted = " ".join(lane.requirements)
    if lane.constraints:
        wanted = (ROOT / lane.constraints).read_text()
    found = re.search(rf"^{package}(?:==|>=|<)(\S+)", wanted.replace(" ", "\n"), re.MULTILINE)
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
    counts = Counter(lane.python if package == "python" else release_of(lane, package) for lane in lanes().values())
    assert set(counts) == releases
    assert min(counts.values()) >= 2


@pytest.mark.parametrize(
    ("lane", "python", "airflow", "ray"), [("oldest", "3.10", "3.1", "2.56"), ("newest", "3.13", "3.4", "2.60")]
)
def test_corners_are_lanes(lane: str, python: str, airflow: str, ray: str):
    corner = lanes()[lane]
    assert (corner.python, release_of(corner, "apache-airflow"), release_of(corner, "ray")) == (python, airflow, ray)


def test_lane_takes_no_package_that_is_newer_than_its_day_but_those_it_names():
    limits = lanes()["airflow-3.1"].limits
    assert limits[:2] == ["--exclude-newer", lanes()["airflow-3.1"].until]
    assert [each.split("=")[1] for each in limits[2:]] == ["apache-airflow", "ray"]


def row(lane: str, part: str, passed: str) -> dict[str, str]:
    return dict.fromkeys(COLUMNS, "1") | {"lane": lane, "tests": part, "passed": passed}


def test_result_takes_the_place_of_the_earlier_one_of_the_same_tests():
    page = f"above\n{BEGIN}\n{END}\nbelow\n"
    for each in (row("newest", "quick", "1"), row("oldest", "quick", "2"), row("newest", "quick", "3")):
        page = with_row(page, each)
    lines = page.splitlines()
    assert (lines[0], lines[1], *lines[-2:]) == ("above", BEGIN, END, "below")
    rows = [[cell.strip() for cell in line.split("|")] for line in lines[4:-2]]
    assert [(cells[1], cells[8]) for cells in rows] == [("oldest", "2"), ("newest", "3")]


def test_parts_of_the_matrix_are_there():
    listed = (ROOT / "tests" / "on_each_version.txt").read_text().split()
    for name in [*listed, *(each for part in PARTS.values() for each in part)]:
        assert Path(ROOT, name.removeprefix("@").partition("::")[0]).exists()
