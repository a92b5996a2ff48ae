"""What a run yields that Ray begins for an output that was lost."""

from __future__ import annotations

import pytest
from ray.exceptions import ObjectLostError

from airflow_ray.cluster.worker.made_again import difference, lost

ERROR = {"kind": "callable", "message": "the file has gone"}


@pytest.mark.parametrize(
    ("keys", "error", "made"),
    [
        pytest.param(["a"], None, None, id="first run"),
        pytest.param([], ERROR, None, id="first run that fails"),
        pytest.param(["b", "a"], None, ["b", "a"], id="the same again"),
        pytest.param(["a"], None, [], id="nobody knows what it was"),
    ],
)
def test_outputs_take_their_places(keys, error, made):
    assert difference(keys, error, made) is None


@pytest.mark.parametrize(
    ("keys", "error", "made", "told"),
    [
        pytest.param([], ERROR, ["a"], "it failed: the file has gone", id="fails"),
        pytest.param([], ERROR, [], "it failed: the file has gone", id="fails and nobody knows what it was"),
        pytest.param(["a"], None, ["a", "b"], "it left ['a'] in place of ['a', 'b']", id="fewer"),
        pytest.param(["a", "b"], None, ["b", "a"], "it left ['a', 'b'] in place of ['b', 'a']", id="in another order"),
    ],
)
def test_outputs_that_are_not_what_they_were_are_told(keys, error, made, told):
    reason = difference(keys, error, made)
    assert reason is not None
    assert reason.endswith(told)


def test_each_output_and_both_headers_are_lost():
    errors = [error.as_instanceof_cause() for error in lost("it failed", 2)]
    assert [isinstance(error, ObjectLostError) for error in errors] == [True] * 4
    assert "it failed" in str(errors[0])
