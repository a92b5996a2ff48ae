"""Arguments for Ray's own options, which cross to the cluster as plain data."""

from __future__ import annotations

import numpy as np
import pytest
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import (
    DoesNotExist,
    Exists,
    In,
    NodeAffinitySchedulingStrategy,
    NodeLabelSchedulingStrategy,
    NotIn,
    PlacementGroupSchedulingStrategy,
)

from airflow_ray.client.submission.options import RemoteOptions
from airflow_ray.cluster.messages import packed, unpacked
from airflow_ray.cluster.owner.ray_objects import with_ray_objects
from airflow_ray.exceptions import RayConfigurationError

NODE = "ab" * 28


def crossed(**options):
    """Return what the owner gives to Ray of ``ray_options``."""
    return with_ray_objects(unpacked(packed(RemoteOptions(ray_options=options).for_ray(None))))


def test_node_affinity_arrives():
    given = NodeAffinitySchedulingStrategy(NODE, soft=True, _spill_on_unavailable=True)
    assert vars(crossed(scheduling_strategy=given)["scheduling_strategy"]) == vars(given)


def test_node_labels_arrive():
    hard = {"a": In("x", "y"), "b": NotIn("z"), "c": Exists(), "d": DoesNotExist()}
    arrived = crossed(scheduling_strategy=NodeLabelSchedulingStrategy(hard, soft={"e": In("w")}))["scheduling_strategy"]
    told = [(each.key, type(each.operator), vars(each.operator)) for each in [*arrived.hard, *arrived.soft]]
    assert told == [(key, type(each), vars(each)) for key, each in {**hard, "e": In("w")}.items()]


@pytest.mark.parametrize("strategy", [None, "DEFAULT", "SPREAD"])
def test_strategy_that_is_a_word_stays(strategy):
    assert crossed(scheduling_strategy=strategy)["scheduling_strategy"] == strategy


def test_numbers_of_numpy_and_tuples_arrive_as_plain_ones():
    arrived = crossed(
        label_selector={"class": "gpu"}, fallback_strategy=({"label_selector": {"a": "b"}},), n=np.int64(3)
    )
    assert arrived["label_selector"] == {"class": "gpu"}
    assert (arrived["fallback_strategy"], arrived["n"]) == ([{"label_selector": {"a": "b"}}], 3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scheduling_strategy": PlacementGroupSchedulingStrategy(PlacementGroup.empty())}, "placement group"),
        ({"retry_exceptions": [ValueError]}, "Set retries of the task"),
        ({"name": object()}, r"ray_options\['name'\] is of type object"),
        ({"object_store_memory": 2**64}, "64 bits"),
    ],
)
def test_what_cannot_travel_is_refused_in_words(options, words):
    with pytest.raises(RayConfigurationError, match=words):
        RemoteOptions(ray_options=options)


def test_strategy_that_nobody_knows_is_refused():
    with pytest.raises(ValueError, match="no scheduling_strategy 'Mine'"):
        crossed(scheduling_strategy={"class": "Mine"})
