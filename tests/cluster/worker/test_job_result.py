"""What is read of the file that a job has left."""

from __future__ import annotations

import json
import os
import pickle

import pandas as pd
import pyarrow as pa
import pyarrow.ipc
import pytest

from airflow_ray.cluster.worker.job_result import read_job_result, remove_job_results

FRAME = pd.DataFrame({"a": [1, 2], "b": ["x", None]}, index=pd.Index(["one", "two"], name="key"))
TABLE = pa.table({"a": [1, 2]})


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "result")


def read(path):
    return read_job_result(path, "AIRFLOW_RAY_RESULT")


def write_arrow(path, table):
    with pa.OSFile(path, "wb") as file, pyarrow.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


@pytest.mark.parametrize("value", [{"a": 1}, [1, None], "text", 1.5, None, "данные"])
def test_json_is_read(path, value):
    with open(path, "w") as file:
        json.dump(value, file)
    assert read(path) == value


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_pickle_is_read(path, protocol):
    with open(path, "wb") as file:
        pickle.dump({1, 2}, file, protocol)
    assert read(path) == {1, 2}


def test_frame_in_parquet_is_a_frame_again(path):
    FRAME.to_parquet(path)
    pd.testing.assert_frame_equal(read(path), FRAME)


def test_frame_in_arrow_is_a_frame_again(path):
    write_arrow(path, pa.Table.from_pandas(FRAME))
    pd.testing.assert_frame_equal(read(path), FRAME)


def test_table_of_arrow_stays_one(path):
    write_arrow(path, TABLE)
    assert read(path).equals(TABLE)


def test_no_file_is_told_with_what_to_write(path):
    with pytest.raises(FileNotFoundError, match="AIRFLOW_RAY_RESULT says"):
        read(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"half {"])
def test_what_is_of_no_format_is_told(path, content):
    with open(path, "wb") as file:
        file.write(content)
    with pytest.raises(ValueError, match="neither a pickle, nor Parquet, nor an Arrow file, nor JSON"):
        read(path)


def test_link_is_not_followed(path, tmp_path):
    (tmp_path / "other").write_text("1")
    os.symlink(tmp_path / "other", path)
    with pytest.raises(PermissionError, match="is not a file of its own"):
        read(path)


def test_file_of_another_user_is_not_read(path, monkeypatch):
    with open(path, "w") as file:
        file.write("1")
    monkeypatch.setattr(os, "getuid", lambda: os.stat(path).st_uid + 1)
    with pytest.raises(PermissionError, match="belongs to another user"):
        read(path)


def test_files_of_all_tries_are_removed_and_no_other(tmp_path):
    for name in ("task-1a", "task-1a-2", "task-1b", "[task-1a"):
        (tmp_path / name).write_text("1")
    remove_job_results(str(tmp_path / "task-1a"))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["[task-1a", "task-1b"]


def test_pipe_in_place_of_the_file_holds_up_no_reader(path):
    os.mkfifo(path)
    with pytest.raises(PermissionError, match="is not a regular file"):
        read(path)
