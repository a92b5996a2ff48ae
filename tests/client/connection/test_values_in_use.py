"""What a driver has read without a copy stays what it is, whatever becomes of the object and the connection."""

from __future__ import annotations

import numpy as np
import pytest

from airflow_ray.client.connection import as_driver
from airflow_ray.hooks.ray import RayHook
from tests.conftest import new_uri

ITEMS = 4_000_000


@pytest.fixture
def uri(head):
    uri = new_uri("ray_driver")
    RayHook("ray_driver").put(np.zeros(ITEMS), uri=uri)
    return uri


def overwrite(uri) -> None:
    """Free an object, and fill the place where it was."""
    with RayHook("ray_client").connect() as other:
        other.release(str(uri).replace("ray_driver", "ray_client"))
        for number in range(6):
            other.put(np.ones(ITEMS), uri=new_uri("ray_client", f"task_{number}"))


@pytest.mark.slow
def test_value_that_was_read_without_a_connection_does_not_change(uri):
    value = RayHook("ray_driver").get(uri)
    overwrite(uri)
    assert value.sum() == 0


@pytest.mark.slow
def test_value_does_not_change_when_its_connection_has_ended(uri):
    with RayHook("ray_driver").connect() as hook:
        value = hook.get(uri)
    overwrite(uri)
    assert value.sum() == 0


def test_part_of_a_value_keeps_the_connection(uri):
    part = RayHook("ray_driver").get(uri)[:5]
    assert as_driver._driver._address
    del part
    RayHook("ray_driver").status(uri)
    assert not as_driver._driver._address


def test_value_that_holds_no_memory_of_ray_keeps_no_connection(head):
    uri = new_uri("ray_driver")
    RayHook("ray_driver").put({"number": [6]}, uri=uri)
    value = RayHook("ray_driver").get(uri)
    assert (value, as_driver._driver._address) == ({"number": [6]}, "")
