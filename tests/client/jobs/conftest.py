from __future__ import annotations

from collections.abc import Iterator

import pytest

from airflow_ray.client.connection.settings import RaySettings
from tests.client.jobs.fake_dashboard import FakeDashboard


@pytest.fixture
def fake() -> Iterator[FakeDashboard]:
    fake = FakeDashboard()
    yield fake
    fake.close()


@pytest.fixture
def settings(fake: FakeDashboard) -> RaySettings:
    fields = {"conn_id": "ray_here", "host": "127.0.0.1", "mode": "gateway", "dashboard_url": fake.url}
    return RaySettings.model_validate({**fields, "password": "0" * 32, "connect_timeout": 5})
