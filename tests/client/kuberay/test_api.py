"""Where there is no package for Kubernetes, or no Kubernetes."""

from __future__ import annotations

import sys

import pytest

from airflow_ray.client.kuberay.api import open_api
from airflow_ray.exceptions import RayConfigurationError


def test_missing_package_is_told_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "airflow.providers.cncf.kubernetes.hooks.kubernetes", None)
    with pytest.raises(RayConfigurationError, match=r"pip install 'airflow-ray\[kuberay\]'"):
        open_api("kubernetes_default")


def test_connection_that_leads_to_no_kubernetes_is_told(monkeypatch, tmp_path):
    pytest.importorskip("kubernetes")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nowhere"))
    monkeypatch.setenv("AIRFLOW_CONN_NOWHERE", '{"conn_type": "kubernetes", "extra": {"in_cluster": true}}')
    with pytest.raises(RayConfigurationError, match="'nowhere' leads to no Kubernetes"):
        open_api("nowhere")
