"""Ids of the classes of the user's modules, in processes that know nothing of each other."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ray import cloudpickle

from airflow_ray.client.by_value import pickle_by_value
from airflow_ray.client.submission.identity import keep_identities
from airflow_ray.client.submission.modules import importable_modules_of_user, loaded_source
from airflow_ray.client.submission.payload import pack
from airflow_ray.cluster.worker.payload import call
from airflow_ray.cluster.worker.user_modules import importable
from tests.known_classes import forget

ROOT = Path(__file__).parents[3]

DAG_FILE = """
import os
from dataclasses import dataclass
from enum import Enum
from helper_of_user import Base

limit = int(os.environ.get("LIMIT", "0"))

class Colour(Enum):
    RED = 1

@dataclass
class Config(Base):
    rate: float
    class Inner:
        pass
    def limit(self):
        return limit

class Lone:
    source = os.environ.get("LIMIT")

def local():
    class Local:
        pass
    return Local

def use(got):
    return [isinstance(got, Config), Config(1.0).limit(), Lone.source, Config(1.0).edition]
"""
HELPER = "class Base:\n    edition = 1\n"

# Loads the DAG file under a name, and shows the ids of its classes.
SHOW = """
import json, sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

folder, name = sys.argv[1:3]
sys.path.insert(0, folder)
spec = spec_from_loader(name, SourceFileLoader(name, folder + "/dag_of_user.py"))
module = sys.modules[name] = module_from_spec(spec)
spec.loader.exec_module(module)

from airflow_ray.client.submission.fingerprint import fingerprint
from airflow_ray.client.submission.identity import keep_identities
from airflow_ray.client.submission.options import RemoteOptions
from airflow_ray.client.submission.payload import pack
from ray.cloudpickle.cloudpickle import _get_or_create_tracker_id

payload = pack(module.use, [[module.Config(0.5)]], {})
classes = {"Config": module.Config, "Colour": module.Colour, "Inner": module.Config.Inner, "Local": module.local()}
print(json.dumps({
    "ids": {name: _get_or_create_tracker_id(each) for name, each in classes.items()},
    "fingerprint": fingerprint(module.use, [[module.Config(0.5)]], {}, payload.sources, RemoteOptions(), ""),
    "payload": pack(module.use, [module.Config(0.5)], {}).pickled.hex(),
    "sources": payload.sources,
}))
"""


def written(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "dag_of_user.py").write_text(DAG_FILE)
    (folder / "helper_of_user.py").write_text(HELPER)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return written(tmp_path / "dags")


def shown(folder: Path, name: str = "dag_of_user", **environment: str) -> dict[str, Any]:
    command = [sys.executable, "-c", SHOW, str(folder), name]
    finished = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return found


def run_on_worker(sent: dict[str, Any]) -> Any:
    """Return what the payload of another process gives in this one."""
    with importable({name: tuple(entry) for name, entry in sent["sources"].items()}):
        return call(bytes.fromhex(sent["payload"]), (), None)  # type: ignore[arg-type]  # a callable needs no work


def without_local(ids: dict[str, str]) -> dict[str, str]:
    return {name: each for name, each in ids.items() if name != "Local"}


AS_AIRFLOW = "unusual_prefix_0a1b2c_dag_of_user"


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two processes show, of which one has loaded the DAG file as Airflow does."""
    folder = written(tmp_path_factory.mktemp("two") / "dags")
    return [shown(folder), shown(folder, AS_AIRFLOW)]


def test_ids_are_equal_in_two_processes_whatever_name_the_file_was_loaded_under(two):
    first, second = (each["ids"] for each in two)
    assert without_local(first) == without_local(second)
    assert len(set(first.values())) == 4


def test_class_made_in_a_function_has_an_id_of_its_own_in_each_process(two):
    assert two[0]["ids"]["Local"] != two[1]["ids"]["Local"]


@pytest.mark.slow
def test_ids_are_those_of_the_file_that_was_run_as_a_script(two, folder):
    assert without_local(shown(folder, "__main__")["ids"]) == without_local(two[0]["ids"])


@pytest.mark.slow
def test_fingerprint_is_equal_in_two_processes(folder):
    assert shown(folder)["fingerprint"] == shown(folder)["fingerprint"]


def test_edited_helper_module_makes_other_classes_of_whatever_imports_it_and_the_worker_uses_them(two, folder):
    (folder / "helper_of_user.py").write_text(HELPER.replace("1", "2"))
    after = shown(folder)
    same = {name: two[0]["ids"][name] == each for name, each in after["ids"].items()}
    assert same == dict.fromkeys(("Config", "Colour", "Inner", "Local"), False)
    assert [run_on_worker(two[0])[3], run_on_worker(after)[3]] == [1, 2]


@pytest.mark.slow
def test_worker_uses_what_the_module_held_in_the_process_that_sent_the_work(folder):
    first = shown(folder, LIMIT="1")
    second = shown(folder, LIMIT="2")
    assert first["ids"]["Config"] == second["ids"]["Config"]
    assert [run_on_worker(first), run_on_worker(second)] == [[True, 1, "1", 1], [True, 2, "2", 1]]


@pytest.fixture
def module(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The DAG file, imported by this process."""
    monkeypatch.syspath_prepend(folder)
    for name in ("dag_of_user", "helper_of_user"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module("dag_of_user")
    for name in ("dag_of_user", "helper_of_user"):
        sys.modules.pop(name, None)


def forget_all(module: Any) -> None:
    for cls in (module.Base, module.Config, module.Config.Inner, module.Colour):
        forget(cls)


def test_source_is_that_which_was_loaded_although_the_file_has_changed(module, folder):
    keep_identities()
    (folder / "dag_of_user.py").write_text(DAG_FILE + "# edited\n")
    assert loaded_source(module) == DAG_FILE
    assert pack(module.use, [1], {}).sources["dag_of_user"][1] == DAG_FILE


def test_source_of_a_module_that_is_loaded_again_is_the_new_one(module, folder):
    keep_identities()
    (folder / "dag_of_user.py").write_text(DAG_FILE + "# edited\n")
    assert loaded_source(importlib.reload(module)) == DAG_FILE + "# edited\n"


def test_class_of_a_module_that_is_loaded_again_unedited_is_the_one_that_is_unpickled(module):
    with pickle_by_value(importable_modules_of_user()):
        pickled = cloudpickle.dumps(module.Lone())
    importlib.reload(module)
    keep_identities()
    assert type(cloudpickle.loads(pickled)) is module.Lone


def test_class_of_a_pickle_is_that_of_a_module_which_nobody_has_imported_yet(module):
    with pickle_by_value(importable_modules_of_user()):
        pickled = cloudpickle.dumps([module.Config(0.5), module.Colour.RED])
    del sys.modules["dag_of_user"], sys.modules["helper_of_user"]
    forget_all(module)
    value = cloudpickle.loads(pickled)
    again = importlib.import_module("dag_of_user")
    assert [value[0] == again.Config(0.5), value[1] is again.Colour.RED] == [True, True]


def test_pickle_of_a_class_whose_module_is_gone_is_read_all_the_same(module, folder):
    with pickle_by_value(importable_modules_of_user()):
        pickled = cloudpickle.dumps(module.Config(0.5))
    (folder / "dag_of_user.py").write_text("raise ValueError('of the user')\n")
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    del sys.modules["dag_of_user"]
    forget_all(module)
    assert cloudpickle.loads(pickled).rate == 0.5
