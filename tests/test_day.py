"""A short day of one owner and one gateway: what they hold does not grow with what has passed through them."""

from __future__ import annotations

import os

import pytest

from benchmarks import day, servers


@pytest.mark.only_faults
def test_handles_threads_and_store_are_back_when_all_records_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    for conn_id in (servers.DRIVER, servers.CLIENT, servers.GATEWAY, day.EXPIRING):
        # Set here, they are gone again afterwards.
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", "")
    # What is made once, such as the processes for eight clients at a time, is there after the first.
    _, second, *_, last = day.run(rounds=6, records=320)
    assert last.store_bytes == 0
    # Python starts the threads of a pool one by one, up to so many.
    pool = min(32, (os.cpu_count() or 1) + 4)
    allowed = {"owner_handles": 0, "owner_threads": pool, "gateway_handles": 0, "gateway_threads": pool}
    grown = {name: getattr(last, name) - getattr(second, name) for name in allowed}
    assert {name: more for name, more in grown.items() if more > allowed[name]} == {}
