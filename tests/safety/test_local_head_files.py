"""The files of the embedded head are this user's own: others cannot read them, nor choose what is removed."""

from __future__ import annotations

import json
import os
import stat
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from airflow_ray.client.connection import local_head
from airflow_ray.exceptions import RayConnectionError

SETTING = "AIRFLOW__AIRFLOW_RAY__LOCAL_HEAD_DIR"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for the head's files, which is not there yet."""
    folder = tmp_path / "head"
    monkeypatch.setenv(SETTING, str(folder))
    return folder


def command_lines(pid: int) -> list[str]:
    """Return what every user of this machine can see of a process and of all that it has started."""
    process, lines = psutil.Process(pid), []
    for each in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            lines.append(" ".join(each.cmdline()))
    return lines


@pytest.mark.slow
def test_no_other_user_reaches_the_session_folder_of_ray_or_sees_the_token(folder):
    head = local_head.ensure(300)
    try:
        assert stat.S_IMODE(Path(head.temp_dir).stat().st_mode) == 0o700
        assert [path.name for path in Path(head.temp_dir).iterdir()] == ["r"]
        assert [line for line in command_lines(head.pid) if local_head.token() in line] == []
    finally:
        local_head.stop()
    assert not Path(head.temp_dir).exists()


def test_link_in_place_of_the_folder_is_refused(folder, tmp_path):
    chosen = tmp_path / "chosen"
    chosen.mkdir(mode=0o755)
    folder.symlink_to(chosen)
    with pytest.raises(RayConnectionError, match="is a link"):
        local_head.state_folder()
    assert stat.S_IMODE(chosen.stat().st_mode) == 0o755


@pytest.mark.parametrize("chosen", ["project", "ray-head-project"])
def test_note_of_a_head_does_not_lead_to_the_removal_of_a_folder_that_was_not_made_for_it(folder, tmp_path, chosen):
    chosen_folder = tmp_path / chosen
    chosen_folder.mkdir()
    folder.mkdir()
    note = {"pid": os.getpid(), "started": "1", "address": "", "client_port": 1, "temp_dir": str(chosen_folder)}
    (folder / "head.json").write_text(json.dumps(note))
    with pytest.raises(RayConnectionError):
        local_head.ensure(0.0)
    assert chosen_folder.exists()


@pytest.mark.parametrize("name", ["token", "lock", "head.log"])
def test_link_in_place_of_a_file_is_not_followed(folder, tmp_path, name):
    chosen = tmp_path / "chosen"
    chosen.write_text("kept")
    folder.mkdir()
    (folder / name).symlink_to(chosen)
    with pytest.raises(OSError, match="symbolic links"):
        local_head.ensure(0.0)
    assert chosen.read_text() == "kept"
