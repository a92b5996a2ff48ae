"""What an id of a class is made of, and that a class which is known stays as it is."""

from __future__ import annotations

import sys

import pytest
from ray import cloudpickle

from airflow_ray.cluster.values.identity import fill_anew, id_of, is_own_class, place_of, track, whole_classes


@pytest.mark.parametrize(
    ("name", "filename", "place"),
    [
        ("helpers.cleaning", "/dags/helpers/cleaning.py", "helpers/cleaning"),
        ("helpers.cleaning", "/bundles/7/helpers/cleaning.py", "helpers/cleaning"),
        ("helpers", "/dags/helpers/__init__.py", "helpers"),
        ("unusual_prefix_0a1b_daily", "/dags/daily.py", "daily"),
        ("unusual_prefix_0a1b_daily", "/dags/team/daily.py", "team/daily"),
        ("unusual_prefix_0a1b_daily", "/elsewhere/daily.py", "daily"),
        ("__main__", "/dags/team/daily.py", "team/daily"),
        ("daily", "/dags/bundle.zip/daily.py", "daily"),
    ],
)
def test_place_is_the_same_wherever_the_folder_lies(name, filename, place, monkeypatch):
    monkeypatch.setattr(sys, "path", ["/dags", *sys.path])
    assert place_of(name, filename) == place


class Base:
    pass


class Child(Base):
    pass


def test_id_follows_place_source_and_name():
    ids = {id_of(cls, place, text) for cls in (Base, Child) for place in ("a", "b") for text in ("x", "y")}
    assert len(ids) == 8
    assert id_of(Base, "a", "x") in ids


def test_id_follows_the_ids_of_bases():
    track(Base, "first")
    first = id_of(Child, "a", "x")
    track(Base, "second")
    assert id_of(Child, "a", "x") != first


def make_pair() -> tuple[type, type]:
    def make(number):
        class Local:
            value = number

        return Local

    return make(1), make(2)


def test_classes_made_in_a_function_have_no_name_of_their_own_in_the_module():
    assert [is_own_class(__name__, "Local", each) for each in make_pair()] == [False, False]


def test_two_classes_of_one_name_made_in_a_function_stay_two():
    first, second = cloudpickle.loads(cloudpickle.dumps(make_pair()))
    assert (first.value, second.value) == (1, 2)


class WithoutHash(type):
    def __eq__(cls, other):
        return cls is other


class Unhashable(metaclass=WithoutHash):
    pass


def test_class_that_cannot_be_hashed_is_left_alone():
    assert not is_own_class(__name__, "Unhashable", Unhashable)


def local_class() -> type:
    class Counted:
        made = 0

    return Counted


def test_known_class_keeps_its_attributes_when_it_is_unpickled():
    whole_classes()
    cls = local_class()
    pickled = cloudpickle.dumps(cls)
    assert cloudpickle.loads(pickled) is cls
    cls.made = 7
    cloudpickle.loads(pickled)
    assert cls.made == 7


def test_known_class_is_as_its_sender_had_it_where_a_piece_of_work_begins():
    cls = local_class()
    whole_classes().add(cls)
    fill_anew(cls, ({"made": 3}, {}))
    assert cls.made == 3


def test_known_class_is_not_made_again_under_the_eyes_of_its_base():
    whole_classes()
    seen = []

    class Registry:
        def __init_subclass__(cls):
            seen.append(cls)

    class Registered(Registry):
        pass

    assert cloudpickle.loads(cloudpickle.dumps(Registered)) is Registered
    assert seen == [Registered]


def test_pickle_names_nothing_but_what_ray_has_itself():
    whole_classes()
    assert b"airflow_ray" not in cloudpickle.dumps(local_class())
