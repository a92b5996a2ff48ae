"""Warnings of the package's own code are errors while it is tested, and those of others are not."""

from __future__ import annotations

import subprocess
import sys
import warnings

import pytest

from airflow_ray.hooks.ray import RayHook
from tests.conftest import new_uri
from tests.ray_head import RayHead

CATEGORIES = [DeprecationWarning, PendingDeprecationWarning, FutureWarning, ResourceWarning]


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize("module", ["airflow_ray.xcom", "airflow_ray.cluster.owner.actor"])
def test_warning_of_own_code_is_an_error(category: type[Warning], module: str):
    with pytest.raises(category):
        warnings.warn_explicit("old", category, "", 1, module)


@pytest.mark.parametrize("module", ["airflow_ray_of_another", "ray", "airflow.models", "tests.test_xcom"])
def test_warning_of_other_code_is_none(module: str):
    with pytest.warns(DeprecationWarning, match="old"):
        warnings.warn_explicit("old", DeprecationWarning, "", 1, module)


@pytest.mark.parametrize(
    ("module", "is_error"), [("airflow_ray.cluster.owner.actor", True), ("airflow_ray_of_another", False)]
)
def test_warning_of_own_code_is_an_error_in_a_process_of_its_own(module: str, is_error: bool):
    source = f"import warnings; warnings.warn_explicit('old', DeprecationWarning, '', 1, {module!r})"
    ended = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    assert ("DeprecationWarning: old" in ended.stderr and ended.returncode != 0) is is_error


def test_warning_of_own_code_is_an_error_in_the_processes_of_a_head(head: RayHead):
    def is_error() -> bool:
        try:
            warnings.warn_explicit("old", DeprecationWarning, "", 1, "airflow_ray.cluster.worker.runner")
        except DeprecationWarning:
            return True
        return False

    uri = new_uri("ray_gateway")
    with RayHook("ray_gateway").connect() as hook:
        hook.submit(is_error, uri=uri)
        hook.wait(uri)
        assert hook.get(uri)
