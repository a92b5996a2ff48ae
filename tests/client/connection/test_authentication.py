"""Token and TLS of a connection, against heads that ask for them."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from concurrent import futures
from pathlib import Path

import grpc
import pytest

from airflow_ray.client.connection.head_process import free_ports
from airflow_ray.exceptions import RayAuthenticationError, RayConfigurationError, RayConnectionError, RayTLSError
from airflow_ray.hooks.ray import RayHook
from tests.certificates import Authority
from tests.conftest import new_uri
from tests.ray_head import RayHead
from tests.rayclusters import RayClusters

TOKEN = "a-token-of-the-tests-3f6c2b1a9d8e7f60"
OTHER_TOKEN = "another-token-of-the-tests-0a1b2c3d4e5f"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def authority(folder) -> Authority:
    return Authority(folder)


@pytest.fixture(scope="module")
def tls_fields(authority) -> dict[str, str]:
    return authority.fields()


@pytest.fixture(scope="module")
def tls_environment(authority) -> dict[str, str]:
    return authority.environment()


@pytest.fixture(scope="module")
def token_head():
    yield from started(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN)


@pytest.fixture(scope="module")
def tls_head(tls_environment):
    yield from started(**tls_environment)


@pytest.fixture(scope="module")
def strict_head(tls_environment):
    """A head with both."""
    yield from started(**tls_environment, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=OTHER_TOKEN)


def started(**environment):
    head = RayHead(**environment)
    yield head
    head.stop()


def port_of(head, mode):
    """Return the port of a head for one way in; the gateway is started where none was, and takes one token."""
    if mode == "gateway":
        if head.gateway is None:
            head.start_gateway(free_ports(1)[0], TOKEN)
        return head.gateway[0]
    return head.ports[0 if mode == "driver" else 1]


@pytest.fixture
def connection(monkeypatch):
    """Return a function that sets a connection to a head, and returns its id."""

    def set_connection(head, mode="client", token=None, conn_id="ray_safe", host="127.0.0.1", **extra):
        port = head if isinstance(head, int) else port_of(head, mode)
        fields = {
            "conn_type": "ray",
            "host": host,
            "port": port,
            "password": TOKEN if mode == "gateway" else token,
        }
        fields["extra"] = {"mode": mode, **extra}
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))
        return conn_id

    return set_connection


@pytest.fixture
def refusal(connection):
    """Return a function that connects in vain and gives the error."""

    def connect(*args, **fields):
        conn_id = connection(*args, **fields)
        with pytest.raises(RayConnectionError) as caught, RayHook(conn_id).connect():
            pass
        return caught.value

    return connect


def work_on(conn_id):
    """Run a task that takes an object, and return what comes of it."""
    number, total = new_uri(conn_id, "number"), new_uri(conn_id, "total")
    with RayHook(conn_id).connect() as hook:
        hook.put([1, 2, 3], uri=number)
        hook.submit(sum, number, uri=total)
        hook.wait(total)
        return hook.get(total)


both_modes = pytest.mark.parametrize("mode", ["client", pytest.param("driver", marks=pytest.mark.slow)])
over_one_port = pytest.mark.parametrize("mode", ["gateway", "client"])
each_mode = pytest.mark.parametrize("mode", ["gateway", "client", pytest.param("driver", marks=pytest.mark.slow)])


@pytest.mark.slow
@both_modes
def test_work_runs_on_a_head_that_asks_for_a_token(token_head, connection, mode):
    assert work_on(connection(token_head, mode, TOKEN)) == 6


@pytest.fixture
def kubernetes(monkeypatch):
    """Knows a RayCluster named sales, in two namespaces."""
    pytest.importorskip("airflow.providers.cncf.kubernetes", reason="The extra kuberay is not installed")
    server = RayClusters()
    for namespace in ("ray", "other"):
        server.set_address("sales", "127.0.0.1", namespace)
    monkeypatch.setenv("AIRFLOW_CONN_KUBE", server.connection())
    yield server
    server.close()


@pytest.mark.slow
def test_certificate_is_checked_for_the_name_of_a_cluster_whose_address_kubernetes_tells(
    strict_head, connection, refusal, tls_fields, kubernetes
):
    named = {**tls_fields, "kubernetes_conn_id": "kube"}
    assert work_on(connection(strict_head, "gateway", host="sales-head-svc.ray.svc", **named)) == 6
    error = refusal(strict_head, "gateway", host="sales-head-svc.other.svc", **named)
    assert isinstance(error, RayTLSError)
    assert "its certificate is not for sales-head-svc.other.svc, which the host of the connection says" in str(error)


@pytest.mark.slow
@each_mode
def test_work_runs_on_a_head_that_speaks_tls(tls_head, connection, tls_fields, mode):
    assert work_on(connection(tls_head, mode, **tls_fields)) == 6


@pytest.mark.parametrize("mode", ["gateway", "client", "driver"])
def test_work_runs_on_a_head_with_both(strict_head, connection, tls_fields, mode):
    assert work_on(connection(strict_head, mode, OTHER_TOKEN, **tls_fields)) == 6


@pytest.mark.slow
def test_clusters_with_different_tokens_are_used_at_once_in_one_process(
    token_head, strict_head, connection, tls_fields
):
    connection(token_head, token=TOKEN, conn_id="ray_one")
    connection(strict_head, token=OTHER_TOKEN, conn_id="ray_two", **tls_fields)
    here, there = new_uri("ray_one"), new_uri("ray_two")
    with RayHook("ray_one").connect() as one, RayHook("ray_two").connect() as two:
        one.put("here", uri=here)
        two.put("there", uri=there)
        assert (one.get(here), two.get(there)) == ("here", "there")


@both_modes
def test_connection_leaves_no_trace_in_the_environment(strict_head, connection, tls_fields, mode):
    before = dict(os.environ)
    conn_id = connection(strict_head, mode, OTHER_TOKEN, **tls_fields)
    before[f"AIRFLOW_CONN_{conn_id.upper()}"] = os.environ[f"AIRFLOW_CONN_{conn_id.upper()}"]
    with RayHook(conn_id).connect():
        assert dict(os.environ) == before


@pytest.mark.slow
def test_driver_of_one_token_is_followed_by_one_of_another(token_head, strict_head, connection, tls_fields):
    assert work_on(connection(token_head, "driver", TOKEN, "ray_one")) == 6
    assert work_on(connection(strict_head, "driver", OTHER_TOKEN, "ray_two", **tls_fields)) == 6


@pytest.mark.slow
def test_certificates_may_be_given_as_text_with_escaped_line_breaks(tls_head, connection, tls_fields):
    texts = {name: Path(path).read_text().replace("\n", "\\n") for name, path in tls_fields.items()}
    assert work_on(connection(tls_head, **texts)) == 6


@both_modes
@pytest.mark.parametrize(("token", "told"), [(None, "asks for a token"), ("wrong" * 8, "asks for another token")])
def test_token_that_is_missing_or_wrong_is_told(strict_head, refusal, tls_fields, mode, token, told):
    error = refusal(strict_head, mode, token, **tls_fields)
    assert isinstance(error, RayAuthenticationError)
    assert told in str(error)


@each_mode
def test_head_that_speaks_tls_is_told_apart(strict_head, refusal, mode):
    error = refusal(strict_head, mode)
    assert isinstance(error, RayTLSError)
    assert "it speaks TLS. Set tls" in str(error)


@each_mode
def test_head_that_speaks_no_tls_is_told_apart(head, refusal, tls_fields, mode):
    error = refusal(head, mode, **tls_fields)
    assert isinstance(error, RayTLSError)
    assert "it does not speak TLS" in str(error)


@each_mode
def test_certificate_of_another_authority_is_told(strict_head, refusal, folder, tls_fields, mode):
    other = Authority(folder, "other-ca")
    error = refusal(strict_head, mode, **{**tls_fields, "tls_ca_cert": str(other.certificate)})
    assert isinstance(error, RayTLSError)
    assert "not signed by one of tls_ca_cert" in str(error)


@over_one_port
def test_certificate_that_is_missing_is_told(strict_head, refusal, tls_fields, mode):
    assert "Set tls_cert and tls_key" in str(refusal(strict_head, mode, tls_ca_cert=tls_fields["tls_ca_cert"]))


@over_one_port
def test_own_certificate_that_has_expired_is_told(strict_head, refusal, authority, tls_fields, mode):
    certificate, key = authority.sign("expired", days=-1)
    error = refusal(strict_head, mode, **{**tls_fields, "tls_cert": str(certificate), "tls_key": str(key)})
    assert isinstance(error, RayTLSError)
    assert "tls_cert, which has expired" in str(error)


@over_one_port
def test_own_certificate_that_the_cluster_does_not_trust_is_told(strict_head, refusal, folder, tls_fields, mode):
    certificate, key = Authority(folder, "stranger").sign("strange")
    error = refusal(strict_head, mode, **{**tls_fields, "tls_cert": str(certificate), "tls_key": str(key)})
    assert "refuses tls_cert" in str(error)


@contextlib.contextmanager
def server_with(certificate, key):
    """A server whose certificate no Ray cluster could work with."""
    server = grpc.server(futures.ThreadPoolExecutor(1))
    pair = key.read_bytes(), certificate.read_bytes()
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    server.start()
    yield port
    server.stop(None)


@over_one_port
def test_certificate_of_the_cluster_that_has_expired_is_told(refusal, authority, tls_fields, mode):
    certificate, key = authority.sign("expired-cluster", days=-1)
    with server_with(certificate, key) as port:
        error = refusal(port, mode, **tls_fields)
    assert isinstance(error, RayTLSError)
    assert "its certificate has expired" in str(error)


@over_one_port
def test_host_that_is_not_in_the_certificate_is_told(refusal, authority, tls_fields, mode):
    with server_with(*authority.sign("elsewhere", host="127.0.0.9")) as port:
        assert "another host name" in str(refusal(port, mode, **tls_fields))


@contextlib.contextmanager
def black_hole():
    """A port whose packets are dropped: the queue of those who want to connect is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, contextlib.ExitStack() as stack:
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield server.getsockname()[1]


@both_modes
def test_firewall_that_drops_packets_is_told(refusal, mode):
    with black_hole() as port:
        assert "no firewall drops the packets" in str(refusal(port, mode))


@pytest.mark.slow
@both_modes
def test_silent_port_is_told_with_tls_too(refusal, tls_fields, mode):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert "nothing answered" in str(refusal(silent.getsockname()[1], mode, **tls_fields))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"tls": "perhaps"}, "tls must be true or false"),
        ({"tls_ca_cert": "/no/such/file"}, "tls_ca_cert must be a file in PEM"),
        ({"tls_ca_cert": "a\0b"}, "tls_ca_cert must be a file in PEM"),
        ({"tls_cert": __file__}, "tls_key is missing, which belongs to tls_cert"),
        ({"tls": True, "mode": "driver"}, "misses tls_ca_cert, tls_cert, tls_key"),
    ],
)
def test_wrong_field_of_tls_is_named(connection, fields, told):
    with pytest.raises(RayConfigurationError, match=told):
        _ = RayHook(connection(1, **fields)).client.settings


def test_secrets_are_not_in_the_text_of_settings(connection, tls_fields):
    runtime_env = {"env_vars": {"PASSWORD": "swordfish"}}
    settings = RayHook(connection(1, token=TOKEN, runtime_env=runtime_env, **tls_fields)).client.settings
    key = Path(tls_fields["tls_key"]).read_text().splitlines()[1]
    assert not [secret for secret in (TOKEN, key, "swordfish") if secret in repr(settings)]


def test_refused_tls_is_told_at_once(refusal, authority, caplog):
    with server_with(*authority.sign("at-once")) as port:
        refusal(port, "gateway")
    assert "Trying again" not in caplog.text


def test_authority_is_asked_for_where_the_machine_does_not_trust_the_cluster(refusal, strict_head):
    assert "not signed by one of tls_ca_cert" in str(refusal(strict_head, tls=True))
