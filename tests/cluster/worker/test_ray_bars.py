"""Progress bars that Ray's libraries write as JSON are lines for a person."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_ray.cluster.worker.line_assembler import LineAssembler
from airflow_ray.cluster.worker.ray_bars import RayBars


def state(x: int, **more: Any) -> bytes:
    bar = {"x": x, "pos": 0, "desc": "Map", "total": 4, "unit": " row", "uuid": "a", "closed": False}
    return json.dumps({"__magic_token__": "__ray_tqdm_magic_token__", **bar, **more}).encode()


def test_bar_shows_its_first_state_and_its_last_one_and_few_between():
    bars = RayBars(60.0)
    shown = [bars.shown(line) for line in (*map(state, range(5)), state(4, closed=True))]
    assert [each for each in shown if each is not None] == [b"Map: 0/4 row", b"Map: 4/4 row"]


def test_bar_goes_on_to_be_shown_and_not_twice_in_one_state():
    bars = RayBars(0.0)
    shown = [bars.shown(line) for line in (state(1), state(1), state(2), state(2, closed=True))]
    assert shown == [b"Map: 1/4 row", None, b"Map: 2/4 row", None]


def test_each_bar_is_one_of_its_own_and_the_total_may_be_unknown():
    bars = RayBars(60.0)
    assert bars.shown(state(1)) == b"Map: 1/4 row"
    assert bars.shown(state(1, uuid="b", total=None, unit="")) == b"Map: 1"


@pytest.mark.parametrize(
    "line",
    [b"plain", b"said __ray_tqdm_magic_token__", b'{"__magic_token__": "__ray_tqdm_magic_token__"}', b'"x"'],
)
def test_what_is_no_bar_is_shown_as_it_is(line):
    assert RayBars(60.0).shown(line) == line


def test_bars_are_lines_among_others():
    lines = LineAssembler([])
    lines.take(b"before\n" + b"\n".join(map(state, range(3))) + b"\nafter\n")
    assert lines.pop() == (["before", "Map: 0/4 row", "after"], "III")
