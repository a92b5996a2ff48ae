"""Dates of pendulum, as a process reads them that has only the standard library."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime

import pandas as pd
import pendulum
import pytest
from pydantic import TypeAdapter
from ray import cloudpickle

from airflow_ray.client.by_value import pickle_by_value

WITHOUT_PENDULUM = """
import pickle, sys
sys.modules["pendulum"] = sys.modules["pydantic_core"] = None
value = pickle.loads(sys.stdin.buffer.read())
print(type(value).__module__, repr(value), sep="|")
"""


def as_read_without_pendulum(value):
    with pickle_by_value(()):
        pickled = cloudpickle.dumps(value)
    command = [sys.executable, "-c", WITHOUT_PENDULUM]
    read = subprocess.run(command, input=pickled, stdout=subprocess.PIPE, check=True)
    return read.stdout.decode().strip()


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (
            pendulum.datetime(2026, 7, 1, 12, 30, 0, 5, tz="Europe/Berlin"),
            "datetime.datetime(2026, 7, 1, 12, 30, 0, 5, tzinfo=zoneinfo.ZoneInfo(key='Europe/Berlin'))",
        ),
        (pendulum.datetime(2026, 7, 1), "datetime.datetime(2026, 7, 1, 0, 0, tzinfo=datetime.timezone.utc)"),
        (
            pendulum.parse("2026-07-01T00:00:00+05:30"),
            "datetime.datetime(2026, 7, 1, 0, 0, tzinfo=datetime.timezone(datetime.timedelta(seconds=19800)))",
        ),
        (
            pendulum.datetime(2026, 10, 25, 2, 30, tz="Europe/Berlin", fold=0),
            "datetime.datetime(2026, 10, 25, 2, 30, tzinfo=zoneinfo.ZoneInfo(key='Europe/Berlin'))",
        ),
        (
            pendulum.datetime(2026, 10, 25, 2, 30, tz="Europe/Berlin", fold=1),
            "datetime.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=zoneinfo.ZoneInfo(key='Europe/Berlin'))",
        ),
        (pendulum.naive(2026, 7, 1), "datetime.datetime(2026, 7, 1, 0, 0)"),
        (pendulum.date(2026, 7, 1), "datetime.date(2026, 7, 1)"),
        (pendulum.time(1, 2, 3), "datetime.time(1, 2, 3)"),
        (pendulum.duration(weeks=1, microseconds=3), "datetime.timedelta(days=7, microseconds=3)"),
        (pendulum.datetime(2026, 7, 2) - pendulum.datetime(2026, 7, 1), "datetime.timedelta(days=1)"),
        (pendulum.timezone("Europe/Berlin"), "zoneinfo.ZoneInfo(key='Europe/Berlin')"),
        (
            TypeAdapter(datetime).validate_python("2026-07-01T00:00Z"),
            "datetime.datetime(2026, 7, 1, 0, 0, tzinfo=datetime.timezone.utc)",
        ),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_each_kind_is_that_of_the_standard_library(value, read):
    module = "zoneinfo" if read.startswith("zoneinfo") else "datetime"
    assert as_read_without_pendulum(value) == f"{module}|{read}"


def test_dates_deep_in_other_values_are_too():
    when = pendulum.datetime(2026, 7, 1, tz="Europe/Berlin")
    frame = pd.DataFrame({"when": [pd.Timestamp(when)], "object": pd.Series([when], dtype=object)})
    read = as_read_without_pendulum(
        {"deep": [(when,), {when}], "types": frame.dtypes.astype(str).to_dict(), "f": frame}
    )
    assert "pendulum" not in read
    assert "zoneinfo.ZoneInfo(key='Europe/Berlin')" in read


def test_pickles_of_others_keep_pendulum():
    with pickle_by_value(()):
        pass
    assert type(cloudpickle.loads(cloudpickle.dumps(pendulum.now()))) is pendulum.DateTime
