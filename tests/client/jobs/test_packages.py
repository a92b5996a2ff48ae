"""What is uploaded of folders and files that a job needs."""

from __future__ import annotations

import io
import os
import zipfile

import pytest

from airflow_ray.client.jobs import packages
from airflow_ray.client.jobs.jobs import packed_runtime_env
from airflow_ray.exceptions import RayConfigurationError


@pytest.fixture
def folder(tmp_path):
    """A folder named code, with a package in it."""
    for name, text in {
        "main.py": "a = 1",
        "lib/__init__.py": "",
        "lib/data.csv": "x",
        "__pycache__/main.pyc": "",
    }.items():
        path = tmp_path / "code" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


@pytest.fixture
def packed(fake, settings, folder):
    """Return an environment with what was uploaded for it: the names of the files in each package."""

    def pack(runtime_env):
        fake.packages.clear()
        env = packed_runtime_env(settings, runtime_env, str(folder))
        contents = {name: zipfile.ZipFile(io.BytesIO(data)).namelist() for name, data in fake.packages.items()}
        return env, [sorted(each) for each in contents.values()]

    return pack


def test_folder_becomes_an_address_with_its_files(packed, fake):
    env, contents = packed({"working_dir": "code", "env_vars": {"A": "b"}})
    assert contents == [["lib/__init__.py", "lib/data.csv", "main.py"]]
    assert env == {"working_dir": f"gcs://{next(iter(fake.packages))}", "env_vars": {"A": "b"}}


def test_same_files_have_the_same_name_and_changed_ones_another(packed, folder):
    first = packed({"working_dir": "code"})[0]
    os.utime(folder / "code" / "main.py", (0, 0))
    assert packed({"working_dir": str(folder / "code")})[0] == first
    (folder / "code" / "main.py").write_text("a = 2")
    assert packed({"working_dir": "code"})[0] != first


def test_what_is_there_is_not_sent_again(settings, fake, folder):
    for _ in range(2):
        packed_runtime_env(settings, {"working_dir": "code"}, str(folder))
    assert [method for method, path, _ in fake.asked if path.startswith("/api/packages")] == ["GET", "PUT", "GET"]


@pytest.mark.parametrize("ignore", [".gitignore", ".rayignore", "excludes", "excludes as text"])
def test_what_is_excluded_stays_here(packed, folder, ignore):
    env = {"working_dir": "code"}
    if ignore.startswith("."):
        (folder / "code" / ignore).write_text("# large\n*.csv\n")
    else:
        env["excludes"] = ["*.csv"] if ignore == "excludes" else '["*.csv"]'
    env, (names,) = packed(env)
    assert "lib/data.csv" not in names
    assert "main.py" in names
    assert "excludes" not in env


def test_ignore_file_of_a_folder_counts_below_it(packed, folder):
    (folder / "code" / "lib" / ".gitignore").write_text("/data.csv\n")
    (folder / "code" / "data.csv").write_text("x")
    _, (names,) = packed({"working_dir": "code"})
    assert "data.csv" in names
    assert "lib/data.csv" not in names


def test_module_comes_with_its_folder(packed):
    assert packed({"py_modules": ["code/lib", "code/main.py"]})[1] == [["lib/__init__.py", "lib/data.csv"], ["main.py"]]


def test_imported_package_names_itself(packed):
    assert "packages.py" in str(packed({"py_modules": [packages]})[1])


def test_modules_that_a_template_left_as_text_are_a_list(packed):
    assert packed({"py_modules": "['code/lib']"})[1] == [["lib/__init__.py", "lib/data.csv"]]


def test_zip_files_and_wheels_are_sent_as_they_are(packed, folder, fake):
    for name in ("code.zip", "lib-1.0-py3-none-any.whl"):
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("main.py", "")
    env, _ = packed({"working_dir": "code.zip", "py_modules": ["lib-1.0-py3-none-any.whl"]})
    assert env["py_modules"] == ["gcs://lib-1.0-py3-none-any.whl"]
    assert fake.packages["lib-1.0-py3-none-any.whl"] == (folder / "lib-1.0-py3-none-any.whl").read_bytes()


def test_addresses_stay_as_they_are(packed):
    env = {"working_dir": "s3://bucket/code.zip", "py_modules": ["gs://bucket/lib.zip"], "excludes": ["x"]}
    assert packed(env) == (env, [])


def test_link_to_a_folder_around_it_has_an_end(packed, folder):
    (folder / "code" / "lib" / "again").symlink_to(folder / "code")
    assert packed({"working_dir": "code"})[1] == [["lib/__init__.py", "lib/data.csv", "main.py"]]


def test_executable_file_stays_one(packed, folder, fake):
    (folder / "code" / "main.py").chmod(0o700)
    packed({"working_dir": "code"})
    (data,) = fake.packages.values()
    modes = {each.filename: each.external_attr >> 16 for each in zipfile.ZipFile(io.BytesIO(data)).infolist()}
    assert (modes["main.py"], modes["lib/data.csv"]) == (0o755, 0o644)


@pytest.mark.parametrize("name", ["nothing", "code/main.py", "nothing.zip"])
def test_what_is_not_there_is_told(packed, name):
    with pytest.raises(RayConfigurationError, match=r"working_dir.*names"):
        packed({"working_dir": name})


def test_what_is_too_large_is_told_before_it_is_sent(packed, fake, monkeypatch):
    monkeypatch.setattr(packages, "MAX_BYTES", 100)
    with pytest.raises(RayConfigurationError, match=r"takes 100 at most. .* \.rayignore"):
        packed({"working_dir": "code"})
    assert fake.asked == []
