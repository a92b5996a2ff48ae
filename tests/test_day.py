"""A short day of one owner and one gateway: what they hold does not grow with what has passed through them."""

from __future__ import annotations

import pytest

from benchmarks import day


@pytest.mark.only_faults
def test_handles_threads_and_store_are_back_when_all_records_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    for conn_id in (day.DRIVER, day.CLIENT, day.GATEWAY, day.EXPIRING):
        # Set here, they are gone again afterwards.
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", "")
    # What is made once, such as the processes for eight clients at a time, is there after the first.
    _, second, *_, last = day.run(rounds=6, records=320)
    assert last.store_bytes == 0
    names = ("owner_handles", "owner_threads", "gateway_handles", "gateway_threads")
    assert {name: getattr(last, name) for name in names if getattr(last, name) > getattr(second, name)} == {}
