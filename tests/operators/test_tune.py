"""RayTuneOperator in DAG runs with a real database, against a real Ray head."""

from __future__ import annotations

import math
import os
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import psutil
import pytest

from airflow_ray.exceptions import RayConfigurationError, RaySearchSpaceError
from airflow_ray.hooks.ray import RayHook
from airflow_ray.object_uri import ObjectURI
from airflow_ray.operators import base
from airflow_ray.operators.python import RayPythonOperator
from airflow_ray.operators.tune import RayTuneOperator
from tests.checkpointing import Cluster, connection_of
from tests.conftest import await_file
from tests.dag_runs import context_of, new_dag, run_dag

# Each trial is a process of its own, which takes seconds to start.
TWO_TRIALS = {"x": {"grid_search": [2, 3]}}
FOUR_TRIALS = {"x": {"grid_search": [1, 2, 3, 4]}}
pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def dag(head):
    """A DAG whose Ray tasks go through the gateway."""
    return new_dag(params={"best": 3, "space": {}})


def parabola(config, shift=0):
    from ray import tune

    tune.report({"loss": (config["x"] - 3) ** 2 + shift})


def get(text):
    uri = ObjectURI.parse(text)
    return RayHook(uri.conn_id).get(uri)


def search(dag, trainable=parabola, param_space=TWO_TRIALS, conf=None, **arguments):
    """Run a DAG with a search and return what the search returned."""
    storage = arguments.pop("storage_path", f"{os.environ['AIRFLOW_HOME']}/searches")
    with dag:
        RayTuneOperator(
            task_id="tune",
            trainable=trainable,
            param_space=param_space,
            metric="loss",
            mode="min",
            storage_path=storage,
            **arguments,
        )
    return run_dag(dag, conf).xcom("tune")


def test_best_is_the_minimum_of_the_table(dag):
    result = search(dag)
    table = get(result["table"])
    assert result["best_metrics"]["loss"] == table["loss"].min() == 0
    assert result["best_config"] == {"x": 3}
    assert (result["trials"], result["errors"], len(table)) == (2, 0, 2)


# What is searched


@pytest.mark.slow
def test_data_of_an_earlier_task_reaches_all_trials(dag):
    def fitted(config, points, more):
        from ray import tune

        tune.report({"loss": abs(config["x"] - points["x"].mean()) + more})

    def make_points():
        import pandas as pd

        return pd.DataFrame({"x": [1, 2, 6]})

    with dag:
        points = RayPythonOperator(task_id="points", python_callable=make_points)
    result = search(dag, fitted, data={"points": points.output, "more": 0})
    assert result["best_config"] == {"x": 3}


@pytest.mark.slow
def test_data_of_a_search_is_freed_with_its_process(dag):
    result = search(dag, lambda config, data: parabola(config), data={"data": list(range(10))})
    pid = RayHook("ray_gateway").describe(result["table"])["pid"]
    while psutil.pid_exists(pid):
        time.sleep(0.1)


def of_one_name(number, begun=None, gate=None):
    """Return a trainable that reports a number; given a gate, it says that it has begun, and waits for that."""

    def same_name(config):
        from ray import tune

        if begun is not None:
            begun.write_text("yes")
            while not gate.exists():
                time.sleep(0.1)
        tune.report({"loss": number})
        if config["x"] == 2:
            raise RuntimeError("The next trial runs in another process")

    return same_name


def task_that_searches(trainable, folder):
    return RayTuneOperator(
        task_id="tune",
        trainable=trainable,
        param_space=TWO_TRIALS,
        metric="loss",
        mode="min",
        max_concurrent_trials=1,
        storage_path=str(folder),
    )


def task_with_a_tuner_of_its_own(trainable, folder):
    def table():
        from ray import tune

        config = tune.TuneConfig(max_concurrent_trials=1)
        where = tune.RunConfig(storage_path=str(folder), verbose=0)
        return tune.Tuner(trainable, param_space=TWO_TRIALS, tune_config=config, run_config=where).fit().get_dataframe()

    return RayPythonOperator(task_id="tune", python_callable=table)


@pytest.mark.slow
@pytest.mark.parametrize("task", [task_that_searches, task_with_a_tuner_of_its_own])
def test_searches_at_the_same_time_whose_trainables_have_one_name_try_each_its_own(dag, tmp_path, task):
    begun, gate = tmp_path / "begun", tmp_path / "gate"
    with dag:
        first = task(of_one_name(1, begun, gate), tmp_path)
    with new_dag(params={}) as other:
        second = task(of_one_name(2), tmp_path)
    with ThreadPoolExecutor(1) as threads:
        ahead = threads.submit(first.execute, context_of(dag.dag_id))
        await_file(begun)
        try:
            behind = second.execute(context_of(other.dag_id))
        finally:
            gate.touch()
        made = [each["table"] if isinstance(each, dict) else each for each in (ahead.result(), behind)]
    assert [list(get(each)["loss"]) for each in made] == [[1, 1], [2, 2]]


@pytest.mark.slow
def test_space_in_the_configuration_of_the_run_is_searched(dag):
    space = {"x": {"choice": [3]}, "eta": {"loguniform": [1e-4, 0.1]}}
    result = search(dag, param_space="{{ dag_run.conf['space'] }}", conf={"space": space}, num_samples=2)
    assert result["best_config"]["x"] == 3
    assert get(result["table"])["config/eta"].between(1e-4, 0.1).all()


@pytest.mark.slow
def test_template_in_the_space_arrives_as_the_number_it_is(dag):
    space = {"x": "{{ params.best }}", "text": "3", "deep": {"list": ["{{ params.best }}", "{{ dag.dag_id }}"]}}
    result = search(dag, param_space=space)
    assert result["best_config"] == {"x": 3, "text": "3", "deep": {"list": [3, dag.dag_id]}}


@pytest.mark.slow
def test_space_of_ray_tune_may_hold_constants_and_json(dag):
    from ray import tune

    space = {"x": tune.grid_search([2, 3]), "y": {"randint": [5, 6]}, "z": "constant"}
    assert search(dag, param_space=space)["best_config"] == {"x": 3, "y": 5, "z": "constant"}


@pytest.mark.slow
def test_trainable_may_be_a_class(dag):
    from ray import tune

    class Parabola(tune.Trainable):
        def setup(self, config):
            self.x = config["x"]

        def step(self):
            return {"loss": (self.x - 3) ** 2}

        def save_checkpoint(self, folder):
            return {"x": self.x}

    result = search(dag, Parabola, stop={"training_iteration": 3})
    assert (result["best_config"], result["best_metrics"]["training_iteration"]) == ({"x": 3}, 3)


@pytest.mark.slow
def test_trainable_may_be_a_trainer_of_ray_train(dag):
    from ray.train import ScalingConfig
    from ray.train.xgboost import XGBoostTrainer

    def loop(config):
        import tempfile

        from ray import train

        with tempfile.TemporaryDirectory() as folder:
            open(f"{folder}/weights", "w").close()
            loss = abs(config["x"] - 3) + config["more"]
            train.report({"loss": loss}, checkpoint=train.Checkpoint.from_directory(folder))

    scaling = ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1})
    trainer = XGBoostTrainer(loop, train_loop_config={"more": 1}, scaling_config=scaling)
    result = search(dag, trainer, {"x": 3}, load_best_checkpoint=os.listdir)
    assert (result["best_config"], result["best_metrics"]["loss"]) == ({"x": 3}, 1)
    assert "weights" in get(result["best_object"])
    assert result["best_checkpoint"].startswith(result["experiment"])


@pytest.mark.slow
def test_resources_of_the_trainable_itself_count(dag):
    from ray import tune

    def gpus(config):
        import ray
        from ray import tune

        tune.report({"loss": 0, "gadgets": ray.get_runtime_context().get_assigned_resources().get("gadget", 0)})

    trainable = tune.with_resources(gpus, {"cpu": 1, "gadget": 2})
    assert search(dag, trainable, {})["best_metrics"]["gadgets"] == 2


@pytest.mark.slow
def test_name_of_a_function_may_have_any_letters(dag):
    def küvette(config):
        parabola(config)

    assert search(dag, küvette)["best_config"] == {"x": 3}


@pytest.mark.slow
def test_name_of_a_class_may_have_any_letters(dag):
    from ray import tune

    class Küvette(tune.Trainable):
        def step(self):
            return {"loss": (self.config["x"] - 3) ** 2, "done": True}

        def save_checkpoint(self, folder):
            return {}

    assert search(dag, Küvette)["best_config"] == {"x": 3}


@pytest.mark.slow
def test_helper_modules_reach_the_trials(dag):
    from tests.operators import helpers_for_user_code

    def more(config):
        from ray import tune

        tune.report({"loss": helpers_for_user_code.one_more(config["x"])})

    assert search(dag, more)["best_config"] == {"x": 2}


def endless(config):
    import time

    from ray import tune

    step = 0
    while True:
        step += 1
        tune.report({"loss": config["x"] / step})
        time.sleep(0.01)


@pytest.mark.slow
def test_scheduler_by_its_name_stops_trials_early(dag):
    result = search(dag, endless, scheduler={"asha": {"max_t": 40, "grace_period": 2}})
    assert get(result["table"])["training_iteration"].max() == 40


@pytest.mark.slow
def test_population_based_training_takes_json_spaces(dag):
    mutations = {"x": {"uniform": [0, 6]}}
    scheduler = {
        "pbt": {"time_attr": "training_iteration", "hyperparam_mutations": mutations, "perturbation_interval": 5}
    }
    result = search(dag, endless, {"x": {"uniform": [1, 5]}}, scheduler=scheduler, stop={"training_iteration": 12})
    assert 0 <= result["best_config"]["x"] <= 6


@pytest.mark.slow
def test_optuna_by_its_name_makes_the_configurations(dag):
    result = search(dag, param_space={"x": {"uniform": [0, 6]}}, search_alg="optuna", num_samples=2)
    assert result["trials"] == 2


@pytest.mark.slow
def test_time_budget_ends_the_search_with_what_it_has(dag):
    result = search(dag, endless, FOUR_TRIALS, time_budget_s="20", max_concurrent_trials=2)
    assert result["best_config"] == {"x": 1}


@pytest.mark.slow
def test_search_waits_deferred(dag, monkeypatch):
    monkeypatch.setattr(base, "SHORT_SECONDS", 0.0)
    assert search(dag, deferrable=True)["best_config"] == {"x": 3}


@pytest.mark.slow
def test_mapped_searches_have_a_space_each(dag, tmp_path):
    with dag:
        RayTuneOperator.partial(
            task_id="tune", trainable=parabola, metric="loss", mode="min", storage_path=str(tmp_path)
        ).expand(param_space=[{"x": "{{ params.best }}"}, {"x": 5}])
    run = run_dag(dag)
    assert [run.xcom("tune", map_index=i)["best_config"] for i in range(2)] == [{"x": 3}, {"x": 5}]


# What comes of it


@pytest.mark.slow
def test_metric_may_be_nested_and_of_numpy(dag, tmp_path):
    def nested(config):
        import numpy as np
        from ray import tune

        tune.report({"eval": {"loss": np.float32(config["x"])}, "error": 0.5})

    with dag:
        RayTuneOperator(
            task_id="tune",
            trainable=nested,
            param_space=TWO_TRIALS,
            metric="eval/loss",
            mode="max",
            storage_path=str(tmp_path),
            report_path=f"{tmp_path}/{{{{ run_id }}}}.html",
        )
    run = run_dag(dag)
    result = run.xcom("tune")
    assert (result["best_config"], result["best_metrics"]["eval/loss"]) == ({"x": 3}, 3.0)
    assert get(result["table"])["trial_error"].isna().all()
    assert (tmp_path / f"{run.run_id}.html").exists()


@pytest.mark.slow
def test_search_outlives_a_report_that_cannot_be_written(dag, capfd):
    result = search(dag, report_path="/proc/nowhere/report.html")
    assert (result["report"], result["best_config"]) == (None, {"x": 3})
    assert "No report could be written at /proc/nowhere/report.html" in capfd.readouterr().out


def boosted(config):
    import tempfile

    import numpy as np
    import xgboost
    from ray import tune

    features = np.arange(20.0).reshape(-1, 1)
    booster = xgboost.train({"eta": config["x"] / 10}, xgboost.DMatrix(features, label=features[:, 0]), 2)
    with tempfile.TemporaryDirectory() as folder:
        booster.save_model(f"{folder}/model.ubj")
        tune.report({"loss": config["x"]}, checkpoint=tune.Checkpoint.from_directory(folder))


@pytest.mark.slow
def test_best_checkpoint_is_loaded_as_a_booster(dag):
    import xgboost

    result = search(dag, boosted, {"x": 3}, load_best_checkpoint=True)
    assert isinstance(get(result["best_object"]), xgboost.Booster)


@pytest.mark.slow
def test_best_checkpoint_is_loaded_by_a_function(dag):
    result = search(dag, boosted, load_best_checkpoint=os.listdir)
    assert get(result["best_object"]) == ["model.ubj"]
    assert os.listdir(result["best_checkpoint"].removeprefix("file://")) == ["model.ubj"]


@pytest.mark.slow
def test_each_key_of_the_result_is_an_xcom(dag, tmp_path):
    with dag:
        searched = RayTuneOperator(
            task_id="tune",
            trainable=parabola,
            param_space=TWO_TRIALS,
            metric="loss",
            mode="min",
            storage_path=str(tmp_path),
        ).output
        RayPythonOperator(task_id="rows", python_callable=len, op_args=[searched["table"]], result="value")
    assert run_dag(dag).xcom("rows") == 2


@pytest.mark.slow
def test_report_shows_all_trials_without_a_network(dag, tmp_path):
    result = search(dag, report_path=f"{tmp_path}/charts/report.html")
    page = tmp_path.joinpath("charts", "report.html").read_text()
    assert result["report"] == f"file://{tmp_path}/charts/report.html"
    assert "2 trials, 0 of which failed. Best loss: 0 by trial" in page
    assert '<script src="http' not in page


@pytest.mark.slow
def test_state_in_s3_holds_checkpoints_and_no_credentials(dag, s3, bucket):
    result = search(
        dag,
        boosted,
        {"x": 3},
        storage_path=f"s3://{bucket}/tune",
        storage_conn_id="s3",
        report_path=f"s3://{bucket}/report.html",
        load_best_checkpoint=True,
    )
    assert result["best_checkpoint"].startswith(f"s3://{bucket}/tune/")
    client = s3.client()
    objects = {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in s3.keys(bucket)}
    assert {"report.html", result["best_checkpoint"].removeprefix(f"s3://{bucket}/") + "/model.ubj"} <= objects.keys()
    assert [name for name, content in objects.items() if b"test-secret-key" in content] == []


# What goes wrong


def log_of_failure(capfd, dag, **arguments):
    """Return the log of a search that fails."""
    assert search(dag, **arguments) is None
    return capfd.readouterr().out


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"eta": {"loguniforn": [1, 2]}}, r"param_space\['eta'\]: there is no search space 'loguniforn': did you mean"),
        ({"eta": {"loguniform": [0, 2]}}, "must begin above 0, got 0"),
        ({"eta": {"uniform": [2, 1]}}, "begins at 2, which is not below its end 1"),
        ({"eta": {"uniform": [1]}}, r"takes 2 arguments, got \[1\]"),
        ({"eta": {"uniform": ["a", 1]}}, "takes numbers, got 'a'"),
        ({"eta": {"choice": []}}, "choice needs at least one value"),
        ({"deep": [{"randint": 3}]}, r"param_space\['deep'\]\[0\]: randint takes a list of its arguments, got 3"),
        ([1], r"must be a mapping, got \[1\]"),
    ],
)
def test_wrong_space_is_told_when_the_dag_is_parsed(space, message):
    with pytest.raises(RaySearchSpaceError, match=message):
        RayTuneOperator(task_id="tune", trainable=parabola, param_space=space, metric="loss", mode="min")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "least"}, "mode must be 'min' or 'max', got 'least'"),
        ({"metric": ""}, "metric must be the name"),
        ({"trainable": 3}, "trainable must be a function"),
    ],
)
def test_wrong_argument_is_told_when_the_dag_is_parsed(arguments, message):
    valid = {"task_id": "tune", "trainable": parabola, "param_space": {}, "metric": "loss", "mode": "min"}
    with pytest.raises(RayConfigurationError, match=message):
        RayTuneOperator(**{**valid, **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"param_space": {"x": "{{ {'uniforn': [1, 2]} }}"}}, "there is no search space 'uniforn'"),
        ({"resources_per_trial": {"gpu": 64}}, "can ever run a trial: it asks for GPU 64"),
        ({"scheduler": "best"}, "The scheduler or search algorithm 'best' cannot be made"),
    ],
)
def test_wrong_argument_fails_the_task_with_its_reason(dag, capfd, arguments, message):
    assert message in log_of_failure(capfd, dag, **arguments)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_samples": "2.5"}, "num_samples must be a whole number, got '2.5'"),
        ({"resources_per_trial": {"gpu": 64}, "scheduling_timeout": 20}, "can ever run a trial: it asks for GPU 64"),
        ({"scheduler": "pbt"}, "The scheduler or search algorithm 'pbt' cannot be made"),
        ({"trainable": lambda config: parabola({"x": math.nan})}, "the last reports of it were None."),
        ({"scheduler": {"asha": {"max": 3}}}, "unexpected keyword argument 'max'"),
        ({"search_alg": "hebo"}, "The scheduler or search algorithm 'hebo' cannot be made"),
        ({"storage_path": "file:///proc/nowhere"}, "The state of the search cannot be written at file:///proc/nowhere"),
        ({"load_best_checkpoint": True}, "load_best_checkpoint found nothing to load: the best trial has none"),
    ],
)
def test_further_wrong_argument_fails_the_task_with_its_reason(dag, capfd, arguments, message):
    assert message in log_of_failure(capfd, dag, **arguments)


@pytest.mark.slow
def test_metric_that_no_trial_reports_is_named(dag, capfd):
    def misnamed(config):
        from ray import tune

        tune.report({"accuracy": 1, "eval": {"error": 2}})

    log = log_of_failure(capfd, dag, trainable=misnamed)
    assert "No trial reported the metric 'loss' as a number: reported were accuracy, eval/error." in log


@pytest.mark.slow
def test_search_whose_trials_report_nothing_says_so(dag, capfd):
    log = log_of_failure(capfd, dag, trainable=lambda config: None)
    assert "No trial reported the metric 'loss' as a number: nothing was reported." in log


@pytest.mark.slow
def test_failure_of_all_trials_shows_the_first_error(dag, capfd):
    def broken(config):
        raise KeyError("no such column")

    log = log_of_failure(capfd, dag, trainable=broken)
    assert "All 2 trials failed, 2 of them alike" in log
    assert "KeyError: 'no such column'" in log
    assert "in broken" in log


@pytest.mark.slow
def test_failure_of_some_trials_is_counted(dag):
    def partly_broken(config):
        from ray import tune

        if config["x"] > 2:
            raise ValueError("too large")
        tune.report({"loss": config["x"]})

    result = search(dag, partly_broken)
    assert (result["trials"], result["errors"], result["best_config"]) == (2, 1, {"x": 2})
    assert get(result["table"])["trial_error"].str.contains("too large").sum() == 1


@pytest.mark.slow
def test_storage_that_refuses_the_credentials_is_told_early(dag, s3, bucket, capfd):
    with s3.check_credentials():
        log = log_of_failure(capfd, dag, storage_path=f"s3://{bucket}", storage_conn_id="s3")
    assert "The state of the search cannot be written at s3://" in log


# What dies under way


def counted(config):
    """Note the start in a file; the trials from 3 on wait until a gate is open."""
    import os
    import time

    from ray import tune

    with open(config["starts"], "a") as starts:
        starts.write(f"{config['x']} {os.getpid()}\n")
    while config["x"] > 2 and not os.path.exists(config["gate"]):
        time.sleep(0.05)
    tune.report({"loss": config["x"]})


class Sabotage:
    """Does something to a search when two of its four trials have ended and the others wait, and lets those go on."""

    def __init__(self, folder, act):
        self.storage = folder / "storage"
        self._starts, self._gate = folder / "starts", folder / "gate"
        self.space = {**FOUR_TRIALS, "starts": str(self._starts), "gate": str(self._gate)}
        self._act = act

    def __enter__(self):
        threading.Thread(target=self._run, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._gate.touch()

    @property
    def starts(self):
        """How often each trial has started."""
        return Counter(int(line.split()[0]) for line in self._lines())

    @property
    def pids(self):
        return [int(line.split()[1]) for line in self._lines()]

    def _lines(self):
        return self._starts.read_text().splitlines() if self._starts.exists() else []

    def _run(self):
        while len(self._lines()) < 4 or self._ended_in_state() < 2:
            time.sleep(0.1)
        self._act()
        self._gate.touch()

    def _ended_in_state(self):
        states = sorted(self.storage.rglob("experiment_state*"))
        return states[-1].read_text().count("TERMINATED") if states else 0


RETRY = {"retries": 1, "retry_delay": timedelta(seconds=0)}


@pytest.mark.slow
@pytest.mark.parametrize(
    "retries",
    [
        pytest.param({}, id="of_ray"),
        pytest.param({"max_retries": 0, **RETRY}, id="of_airflow", marks=pytest.mark.slow),
    ],
)
def test_retry_after_the_death_of_the_driver_repeats_no_ended_trial(dag, head, tmp_path, retries):
    def kill_driver():
        (driver,) = head.processes("ray::run")
        driver.kill()

    with Sabotage(tmp_path, kill_driver) as sabotage:
        result = search(dag, counted, sabotage.space, storage_path=str(sabotage.storage), **retries)
    assert (result["best_config"]["x"], result["trials"], result["errors"]) == (1, 4, 0)
    assert sabotage.starts == {1: 1, 2: 1, 3: 2, 4: 2}


@pytest.mark.slow
def test_retry_after_the_loss_of_the_cluster_repeats_no_ended_trial(dag, tmp_path, monkeypatch):
    cluster = Cluster()
    monkeypatch.setenv("AIRFLOW_CONN_RAY_LOST", connection_of(cluster.head, "gateway"))
    try:
        with Sabotage(tmp_path, cluster.lose) as sabotage:
            storage = str(sabotage.storage)
            result = search(dag, counted, sabotage.space, storage_path=storage, ray_conn_id="ray_lost", **RETRY)
    finally:
        cluster.head.stop()
    assert (result["best_config"]["x"], result["trials"], result["errors"]) == (1, 4, 0)
    assert sabotage.starts == {1: 1, 2: 1, 3: 2, 4: 2}


@pytest.mark.slow
def test_kill_of_the_task_stops_all_trials(dag, head, tmp_path):
    with Sabotage(tmp_path, threading.Event().wait) as sabotage:
        search(dag, counted, sabotage.space, execution_timeout=timedelta(seconds=60))
        _, alive = psutil.wait_procs([psutil.Process(pid) for pid in sabotage.pids if psutil.pid_exists(pid)], 300)
    assert alive == []


@pytest.mark.slow
def test_cleared_task_searches_anew(dag, tmp_path):
    gate = tmp_path / "gate"
    gate.touch()
    space = {**TWO_TRIALS, "starts": str(tmp_path / "starts"), "gate": str(gate)}
    with dag:
        task = RayTuneOperator(
            task_id="tune",
            trainable=counted,
            param_space=space,
            metric="loss",
            mode="min",
            storage_path=str(tmp_path / "storage"),
        )
    for max_tries in (0, 1):
        task.execute(context_of(dag.dag_id, max_tries=max_tries, try_number=max_tries + 1))
    assert len((tmp_path / "starts").read_text().splitlines()) == 4
