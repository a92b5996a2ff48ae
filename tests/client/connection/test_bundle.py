"""The file that starts the gateway on a cluster: what is in it, and that it runs where this package is not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_ray.__main__ import main
from airflow_ray.client.connection.bundle import bundle, package_with_bundle
from airflow_ray.cluster.build import own_build
from airflow_ray.cluster.protocol import BUNDLE_NAME
from tests.ray_head import ENVIRONMENT

PYTHONS = [sys.executable, *(f"python3.{minor}" for minor in (10, 12, 13))]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / BUNDLE_NAME
    main(["gateway", "bundle", str(path)])
    return path


def output_of(*command: str) -> str:
    names = ("PATH", "HOME", "PYENV_VERSION")
    environment = {**{name: os.environ[name] for name in names if name in os.environ}, **ENVIRONMENT}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, cwd="/")
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_it_knows_the_build_of_this_package(file):
    script = (
        f"import sys; sys.path.insert(0, {str(file)!r}); from airflow_ray.cluster import build; print(build.__file__)"
    )
    where, build = output_of(sys.executable, "-c", f"{script}; print(build.own_build())", BUNDLE_NAME).splitlines()
    assert where.startswith(str(file))
    assert build == str(own_build())


@pytest.mark.parametrize("python", PYTHONS)
def test_it_runs_by_each_python(file, python, monkeypatch):
    if not shutil.which(python):
        pytest.skip(f"There is no {python} here")
    # Where pyenv has several, this is the one that it starts.
    monkeypatch.setenv("PYENV_VERSION", python.removeprefix("python"))
    try:
        subprocess.run([python, "-c", ""], check=True, capture_output=True)
    except subprocess.CalledProcessError:
        pytest.skip(f"{python} does not run here")
    assert "Start the gateway of a cluster" in output_of(python, str(file), "start", "--help")


def test_another_process_makes_the_same_bytes(file):
    script = "import sys; from airflow_ray.client.connection import bundle as b; sys.stdout.buffer.write(b.{}())"
    for function in (bundle, package_with_bundle):
        made = subprocess.run([sys.executable, "-c", script.format(function.__name__)], capture_output=True, check=True)
        assert made.stdout == function()


def test_it_fits_into_a_config_map_of_kubernetes():
    assert len(bundle()) < 700_000


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(SystemExit, match="cannot be written: No such file or directory"):
        main(["gateway", "bundle", str(tmp_path / "nowhere" / "file")])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--token-sha256", "my-token"], "Is it the token itself"),
        (["--port", "0"], "a number from 1 to 65535"),
        (["--host", "127.0.0.1", "--socket-only"], "not allowed with"),
    ],
)
def test_wrong_options_are_told(capsys, options, words):
    from airflow_ray.cluster.gateway.command import main as command

    with pytest.raises(SystemExit, match="2"):
        command(["start", *options])
    assert words in capsys.readouterr().err


def test_a_short_token_of_the_environment_is_refused(monkeypatch, capsys):
    from airflow_ray.cluster.gateway.command import answer_in
    from airflow_ray.cluster.gateway.command import main as command

    monkeypatch.setenv("AIRFLOW_RAY_GATEWAY_TOKEN", "short")
    with pytest.raises(SystemExit, match="1"):
        command(["start"])
    assert "fewer than 16 characters" in answer_in(capsys.readouterr().out)["error"]
