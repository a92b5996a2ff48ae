"""The names of clusters that are made for one run, and the texts that they are put into."""

from __future__ import annotations

import re

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from airflow_ray.client.run_cluster import dag_name, has_placeholder, installation, rendered, run_name
from airflow_ray.exceptions import RayClusterNotNamedError, RayConfigurationError

LABEL = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
ids = st.text(min_size=1, max_size=250)


def is_label(name: str) -> bool:
    return bool(LABEL.fullmatch(name)) and len(name) <= 40


@pytest.fixture
def set_key(monkeypatch):
    return lambda key: monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", key)


@given(ids, ids)
def test_names_are_labels_whatever_the_ids(dag_id, run_id):
    assert is_label(run_name(dag_id, run_id))
    assert is_label(dag_name(dag_id))


@pytest.mark.parametrize("dag_id", ["", "/", "Ü", "日本", "2026", "-a-", "\ud800", "x" * 250], ids=ascii)
def test_names_are_labels_of_odd_ids(dag_id):
    assert is_label(run_name(dag_id, "manual__2026-01-01T00:00:00+00:00"))
    assert is_label(run_name("sales", dag_id))
    assert is_label(dag_name(dag_id))


@given(st.lists(st.tuples(ids, ids), min_size=2, max_size=2, unique=True))
def test_other_ids_make_another_name(pair):
    one, other = pair
    assert run_name(*one) != run_name(*other)
    assert run_name(*one) != dag_name(one[0])


def test_ids_that_join_to_the_same_text_make_two_names():
    assert run_name("a-b", "c") != run_name("a", "b-c")
    assert dag_name("a-b") != run_name("a", "b")
    assert dag_name("Sales") != dag_name("sales")


def test_a_name_tells_a_person_which_run_it_is():
    assert run_name("sales", "scheduled__2026-01-01").startswith("sales-scheduled-2026-01-")


def test_another_installation_makes_other_names(set_key):
    names = set()
    for _ in range(2):
        set_key(Fernet.generate_key().decode())
        names |= {run_name("sales", "one"), dag_name("sales"), installation()}
    assert len(names) == 6


def test_a_new_fernet_key_beside_the_old_one_leaves_the_names(set_key):
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    set_key(old)
    name = run_name("sales", "one")
    set_key(f"{new},{old}")
    assert run_name("sales", "one") == name


def test_no_fernet_key_is_told(set_key):
    set_key("")
    with pytest.raises(RayConfigurationError, match=r"names of clusters.*\[core\] fernet_key"):
        installation()


def test_the_installation_can_label_what_belongs_to_it():
    assert re.fullmatch("[a-z0-9]{16}", installation())


def test_names_stand_where_the_template_says():
    run, dag = run_name("sales", "one"), dag_name("sales")
    assert rendered("{run}-head-svc.ray.svc", "sales", "one") == f"{run}-head-svc.ray.svc"
    assert rendered("{dag}.{run}", "sales", "one") == f"{dag}.{run}"
    assert rendered("{dag}", "sales", None) == dag


@given(st.text().filter(lambda text: not has_placeholder(text)))
def test_other_text_is_left_alone(text):
    assert rendered(text, None, None) == text
    assert rendered(text, "sales", "one") == text


@pytest.mark.parametrize(("template", "dag_id"), [("{run}", None), ("{run}", "sales"), ("{dag}", None)])
def test_what_is_not_known_is_asked_for(template, dag_id):
    with pytest.raises(RayClusterNotNamedError, match="Say which one is meant: name dag_id"):
        rendered(template, dag_id, None)
