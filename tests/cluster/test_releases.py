"""Which of two releases counts as the newer one."""

from __future__ import annotations

import pytest

from airflow_ray.cluster.releases import order_of


def test_releases_come_in_the_order_in_which_they_are_made():
    made = [
        "nothing",
        "0.9.0",
        "0.10.0",
        "1.0.0.dev3",
        "1.0.0a2",
        "1.0.0b1",
        "1.0.0rc1",
        "1.0.0rc2",
        "1.0.0rc10",
        "1.0.0",
        "1.0.0.post1",
        "1.0.1",
        "1.1",
        "1.10",
        "2.0.0rc1",
    ]
    assert sorted(reversed(made), key=order_of) == made


@pytest.mark.parametrize(("one", "other"), [("2.56", "2.56.0"), ("1", "1.0.0"), ("2.60.0", "2.60.0+cu12")])
def test_releases_that_are_one_are_in_no_order(one, other):
    assert order_of(one) == order_of(other)
