"""Kubernetes' API, whichever release of its client is installed, and where there is none of them."""

from __future__ import annotations

import sys
from contextlib import closing

import pytest

from airflow_ray.client.kuberay.api import KubernetesApi, open_api, rayclusters
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


def test_answers_and_refusals_are_read(tmp_path):
    config = pytest.importorskip("kubernetes").config
    from tests.kubernetes.api_server import ApiServer

    with closing(ApiServer(tmp_path)) as server:
        api = KubernetesApi(config.new_client_from_config(str(server.kubeconfig())), "kubernetes_default")
        assert api.get(rayclusters("default"))["items"] == []
        assert api.get(rayclusters("default", "sales")) is None


def test_object_whose_deletion_was_done_but_not_answered_counts_as_one_that_was_gone(tmp_path):
    config = pytest.importorskip("kubernetes").config
    from tests.kubernetes.api_server import ApiServer

    with closing(ApiServer(tmp_path)) as server:
        api = KubernetesApi(config.new_client_from_config(str(server.kubeconfig())), "kubernetes_default")
        assert not api.delete(rayclusters("default", "sales"), "uid")
