"""Fixtures: Kubernetes' API, with and without a stand-in for KubeRay, and the official client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from kubernetes import client, config

from tests.kubernetes.api_server import ApiServer
from tests.kubernetes.kuberay import KubeRay
from tests.kubernetes.network import reason_against


@pytest.fixture
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with closing(ApiServer(tmp_path_factory.mktemp("kubernetes"))) as api:
        yield api


@pytest.fixture
def kuberay(api: ApiServer) -> Iterator[KubeRay]:
    """KubeRay whose pods run nothing."""
    with closing(KubeRay(api)) as kuberay:
        yield kuberay
    assert kuberay.errors == []


@pytest.fixture
def kuberay_with_ray(api: ApiServer) -> Iterator[KubeRay]:
    """KubeRay that runs a real head for each cluster."""
    if reason := reason_against():
        pytest.skip(f"A pod cannot have a network of its own: {reason}")
    with closing(KubeRay(api, real_heads=True)) as kuberay:
        yield kuberay
    assert kuberay.errors == []


@pytest.fixture
def api_client(api: ApiServer) -> Iterator[client.ApiClient]:
    with config.new_client_from_config(str(api.kubeconfig())) as api_client:
        yield api_client


@pytest.fixture
def core(api_client: client.ApiClient) -> client.CoreV1Api:
    return client.CoreV1Api(api_client)


@pytest.fixture
def custom(api_client: client.ApiClient) -> client.CustomObjectsApi:
    return client.CustomObjectsApi(api_client)
