"""What a search returns of its trials, without a search."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ray import tune

from airflow_ray.cluster.failures import WorkFailure
from airflow_ray.cluster.tuning.results import best_result, fit, table_of


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


class Results(list):
    """Of trials, none of which has a best one."""

    def get_best_result(self, metric, mode):
        raise RuntimeError("No best trial found")


def failure_of(action):
    with pytest.raises(WorkFailure) as caught:
        action()
    return caught.value.error["message"]


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ([], "nothing was reported"),
        ([{"trial_id": "a", "done": True, "pid": 1}], "nothing was reported"),
        ([{"accuracy": 1, "time_total_s": 2.0}, {"eval": {"error": 2}}], "reported were accuracy, eval/error"),
        ([{"loss": float("nan")}, {"loss": "low"}], "the last reports of it were None, low"),
    ],
    ids=["no trial", "no report", "others", "no numbers"],
)
def test_what_trials_have_reported_is_told_where_the_metric_is_missing(metrics, message):
    results = Results(result_of({"x": 1}, **each) for each in metrics)
    assert failure_of(lambda: best_result(results, "loss", "min")) == message


class Controller:
    def _validate_result_metrics(self, result):
        raise ValueError("Trial returned a result which did not include the specified metric(s)")


class Tuner:
    def fit(self):
        try:
            Controller()._validate_result_metrics({"accuracy": 1, "config/x": 2, "training_iteration": 1})
        except ValueError as error:
            raise tune.TuneError("the text of the other one") from error


def test_report_that_ray_tune_has_refused_is_told():
    assert failure_of(lambda: fit(Tuner(), "loss")) == "reported were accuracy"
