"""The files of a gateway: who may enter their folder, and what is in them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from airflow_ray.cluster.gateway.files import (
    KEPT_LOG_BYTES,
    MAX_LOG_BYTES,
    GatewayError,
    GatewayProcess,
    keep_fresh,
    locked,
    make_folder,
    note_process,
    noted_process,
    replace_tokens,
    shorten_log,
    start_time,
)
from airflow_ray.cluster.gateway.settings import GatewaySettings, sum_of


@pytest.fixture
def settings(tmp_path: Path) -> GatewaySettings:
    settings = GatewaySettings(str(tmp_path / "gateway"), "127.0.0.1", 8815)
    make_folder(settings)
    return settings


def mode_of(path: Path | str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def test_nobody_else_can_enter_the_folder(settings):
    assert mode_of(settings.folder) == 0o700


def test_a_folder_that_others_can_enter_is_closed(settings):
    os.chmod(settings.folder, 0o755)
    make_folder(settings)
    assert mode_of(settings.folder) == 0o700


def test_a_link_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(GatewayError, match="is a link"):
        make_folder(GatewaySettings(str(tmp_path / "link")))


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
@pytest.mark.parametrize("whose", ["above/gateway", "above"], ids=["the folder", "the one above"])
def test_a_folder_of_somebody_else_is_refused(tmp_path, whose):
    (tmp_path / "above" / "gateway").mkdir(parents=True)
    os.chown(tmp_path / whose, 12_345, 12_345)
    with pytest.raises(GatewayError, match="another user"):
        make_folder(GatewaySettings(str(tmp_path / "above" / "gateway")))


def test_a_name_too_long_for_a_socket_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(GatewayError, match="--folder of 94 bytes at most"):
        make_folder(GatewaySettings(str(tmp_path / ("x" * 100))))


def test_sums_of_tokens_replace_those_before(settings):
    replace_tokens(settings, [sum_of("an old token")])
    replace_tokens(settings, [sum_of("a token"), sum_of("another one")])
    assert settings.tokens.read_text().split() == sorted([sum_of("a token"), sum_of("another one")])
    assert mode_of(settings.tokens) == 0o600


def test_without_sums_those_before_stay(settings):
    replace_tokens(settings, [sum_of("a token")])
    replace_tokens(settings, [])
    assert settings.tokens.read_text().split() == [sum_of("a token")]


def test_a_port_without_any_token_is_refused(settings):
    with pytest.raises(GatewayError, match="knows no token"):
        replace_tokens(settings, [])


def test_a_socket_alone_needs_no_token(settings):
    replace_tokens(GatewaySettings(settings.folder), [])
    assert not settings.tokens.exists()


def test_a_later_process_of_the_same_id_is_another_one(settings):
    keeper = os.getppid(), start_time(os.getppid())
    own = GatewayProcess(os.getpid(), start_time(os.getpid()), "0.1.0", *keeper)
    note_process(settings, own)
    assert noted_process(settings) == own
    note_process(settings, GatewayProcess(os.getpid(), "1", "0.1.0", *keeper))
    assert noted_process(settings) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', '{"pid": 1, "started": 3, "more": 1}'])
def test_a_broken_note_of_a_process_is_none(settings, text):
    Path(settings.folder, "process.json").write_text(text)
    assert noted_process(settings) is None


def test_a_long_log_keeps_its_last_part_and_is_written_to_at_its_end(settings):
    with settings.log.open("ab", buffering=0) as log:
        log.write(b"x" * MAX_LOG_BYTES + b"the last words")
        shorten_log(settings)
        log.write(b", and more")
    assert settings.log.stat().st_size == KEPT_LOG_BYTES + len(b", and more")
    assert settings.log.read_bytes().endswith(b"x" * 9 + b"the last words, and more")


def test_no_file_becomes_old_while_somebody_keeps_the_gateway(settings):
    with locked(settings):
        replace_tokens(settings, [sum_of("token")])
        for path in Path(settings.folder).iterdir():
            os.utime(path, (1.0, 1.0))
        keep_fresh(settings)
        assert all(path.stat().st_mtime > 1.0 < path.stat().st_atime for path in Path(settings.folder).iterdir())
