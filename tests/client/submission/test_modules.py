"""The user's own modules in a zip file, as Airflow takes DAG files from one."""

from __future__ import annotations

import importlib
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from airflow_ray.client.submission.modules import local_modules, modules_of_user, own_folder, sources_of
from airflow_ray.hooks.ray import RayHook
from airflow_ray.object_uri import ObjectURI

FILES = {
    "zipped_dag.py": "from zipped.cleaning import Cleaner\ndef answer():\n"
    "    from zipped.inner.late import ANSWER\n    return Cleaner().clean(ANSWER)\n",
    "zipped/__init__.py": "",
    "zipped/cleaning.py": "class Cleaner:\n    def clean(self, value):\n        return value + 1\n",
    "zipped/inner/late.py": "ANSWER = 41\n",
}


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    path = tmp_path / "dags.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in FILES.items():
            archive.writestr(name, text)
        # As zip writes it; without it, Python finds no package there.
        archive.mkdir("zipped/inner")
    monkeypatch.syspath_prepend(path)
    yield importlib.import_module("zipped_dag")
    for name in [each for each in sys.modules if each.startswith("zipped")]:
        del sys.modules[name]


def test_sources_in_a_zip_file_are_found(module):
    folders = own_folder(module.answer)
    sources = sources_of(local_modules(folders), folders)
    (folder,) = folders
    assert {name: entry[:2] for name, entry in sources.items()} == {
        name: (f"{folder}/{file}", FILES[file])
        for name, file in {
            "zipped_dag": "zipped_dag.py",
            "zipped": "zipped/__init__.py",
            "zipped.cleaning": "zipped/cleaning.py",
            "zipped.inner.late": "zipped/inner/late.py",
        }.items()
    }


def test_source_that_says_its_encoding_is_read_as_such(tmp_path, monkeypatch):
    (tmp_path / "in_latin.py").write_bytes("# coding: latin-1\nNAME = 'é'\n".encode("latin-1"))
    (tmp_path / "reads_latin.py").write_text("def name():\n    import in_latin\n    return in_latin.NAME\n")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("reads_latin")
    sources = sources_of([module], [str(tmp_path)])
    assert "é" in sources["in_latin"][1]


def test_module_that_is_loaded_anew_is_found_in_place_of_the_one_before(tmp_path, monkeypatch):
    (tmp_path / "comes_twice.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    first = importlib.import_module("comes_twice")
    assert first in modules_of_user()
    monkeypatch.delitem(sys.modules, "comes_twice")
    assert first not in modules_of_user()
    second = importlib.import_module("comes_twice")
    assert [module for module in modules_of_user() if module.__name__ == "comes_twice"] == [second]


@pytest.mark.parametrize("connected_hook", ["ray_driver"], indirect=True)
def test_callable_in_a_zip_file_runs_with_its_helper_modules(hook: RayHook, uri: ObjectURI, module: Any):
    hook.submit(module.answer, uri=uri)
    hook.wait(uri)
    assert hook.get(uri) == 42
