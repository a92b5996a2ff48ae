"""The steps of a training on the HIGGS data, as a notebook has them: plain functions, which know nothing of Airflow.

The data is described at https://archive.ics.uci.edu/dataset/280/higgs: 11 million collisions, of which a model tells
those that made a Higgs boson from the others. ``generate_higgs.py`` makes a file of the same shape.
"""

from __future__ import annotations

COLUMNS = ["label", *(f"feature-{number:02d}" for number in range(1, 29))]
FORMAT = {"header": None, "names": COLUMNS, "dtype": "float32"}


def load(path):
    """Read a CSV file, which may be packed (``.gz``) and may be at a URL, into parts of one frame."""
    import modin.pandas as pd

    if not path.startswith(("http://", "https://")):
        return pd.read_csv(path, **FORMAT)
    # Modin's processes each ask for a range of the file, which not every server grants: here one reads it all.
    import pandas

    chunks = pandas.read_csv(path, chunksize=1_000_000, **FORMAT)
    return pd.concat([pd.DataFrame(chunk) for chunk in chunks])


def split(frame, test_share=0.25):
    """Hold out the rows with the largest feature-01: the same ones in every run, wherever the rows lie."""
    is_train = frame["feature-01"] < frame["feature-01"].quantile(1 - test_share)
    return {"train": frame[is_train], "test": frame[~is_train]}


class Partitions:
    """The parts of a Modin frame, for ``RayDMatrix``.

    Given the frame itself, xgboost-ray asks Modin for its parts when the actors have their CPUs. Modin computes them
    in Ray tasks, and where no CPU is left for those, both would wait for ever. So Modin is asked first.
    """

    def __init__(self, frame):
        import ray
        from modin.distributed.dataframe.pandas import unwrap_partitions

        nodes, parts = zip(*unwrap_partitions(frame, axis=0, get_ip=True), strict=True)
        located = [{"data": part, "location": [node]} for part, node in zip(parts, ray.get(list(nodes)), strict=True)]
        self.__partitioned__ = {
            "shape": frame.shape,
            "partition_tiling": (len(located), 1),
            "partitions": {(number, 0): part for number, part in enumerate(located)},
            "get": ray.get,
        }


def train(frame, num_actors=2, cpus_per_actor=1, num_boost_round=50):
    """Train on actors, each of which holds its share of the rows."""
    from xgboost_ray import RayDMatrix, RayParams
    from xgboost_ray import train as train_on_ray

    return train_on_ray(
        {"objective": "binary:logistic", "tree_method": "hist", "max_depth": 6, "eta": 0.2},
        RayDMatrix(Partitions(frame), label="label"),
        num_boost_round=num_boost_round,
        ray_params=RayParams(max_actor_restarts=1, num_actors=num_actors, cpus_per_actor=cpus_per_actor),
    )


def validate(model, frame):
    """Return how good the model is on rows that it has not seen."""
    import xgboost
    from sklearn.metrics import accuracy_score, roc_auc_score

    rows = xgboost.DMatrix(frame.drop(columns="label"), label=frame["label"])
    labels, predicted = rows.get_label(), model.predict(rows)
    return {
        "rows": len(labels),
        "accuracy": float(accuracy_score(labels, predicted > 0.5)),
        "auc": float(roc_auc_score(labels, predicted)),
    }
