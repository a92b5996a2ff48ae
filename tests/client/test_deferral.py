"""For how long a trigger holds its event."""

from __future__ import annotations

from airflow_ray.client.deferral import seconds_to_settle


def test_event_is_held_for_longer_than_airflow_may_take_to_see_that_the_process_has_ended(monkeypatch):
    monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", "20")
    assert seconds_to_settle() > 20


def test_event_is_held_for_longer_where_processes_take_long_to_start():
    assert seconds_to_settle(12) - seconds_to_settle(10) == 4


def test_start_that_took_very_long_holds_up_no_event_for_very_long():
    assert seconds_to_settle(3600) == 120
