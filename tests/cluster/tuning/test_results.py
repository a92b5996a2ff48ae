"""What a search returns of its trials, without a search."""

from __future__ import annotations

from types import SimpleNamespace

from airflow_ray.cluster.tuning.results import table_of


def result_of(config, **metrics):
    return SimpleNamespace(config=config, metrics={**metrics, "config": config}, path="/tmp/trial_1", error=None)


def test_table_has_a_column_for_each_parameter_however_nested():
    results = [
        result_of({"eta": 0.1, "deep": {"er": {"x": 1}}, "list": [1, 2]}, trial_id="a", loss=1.0),
        result_of({"eta": 0.2, "deep": {"er": {"x": 2}}, "list": [3]}, trial_id="b", loss=2.0),
    ]
    table = table_of(results)
    assert table["config/deep/er/x"].tolist() == [1, 2]
    assert table["config/list"].tolist() == [[1, 2], [3]]
    assert table["trial_id"].tolist() == ["a", "b"]


def test_parameter_that_is_an_empty_mapping_has_no_column():
    assert "config/deep" not in table_of([result_of({"deep": {}, "eta": 0.1}, loss=1.0)])


def test_parameter_may_have_a_number_for_a_name():
    assert table_of([result_of({1: {2: "x"}}, loss=1.0)])["config/1/2"].tolist() == ["x"]
