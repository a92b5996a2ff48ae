"""What an Airflow connection says, and what of it is wrong."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from airflow_ray.client.connection.settings import settings_of
from airflow_ray.exceptions import RayConfigurationError


class Fields:
    """An Airflow connection, as far as it matters here."""

    conn_id = "x"
    conn_type = "ray"

    def __init__(self, host="here", port=None, password=None, **extra) -> None:
        self.host, self.port, self.password, self.extra_dejson = host, port, password, extra


PEM = "-----BEGIN x"
CHOICES = (
    "Set host to the Ray head, or mode to 'driver' where this machine is a node of the cluster, or to 'local' for an "
    "embedded Ray on this machine"
)


@pytest.mark.parametrize(
    ("extra", "text"),
    [
        ({"mode": "teleport"}, "Connection 'x': mode must be one of gateway, client, driver, local, got 'teleport'"),
        ({"mode": ["client"]}, "Connection 'x': mode must be one of gateway, client, driver, local, got ['client']"),
        ({"connect_timeout": "-1"}, "Connection 'x': connect_timeout must be a number of seconds, got '-1'"),
        ({"connect_timeout": "inf"}, "Connection 'x': connect_timeout must be a number of seconds, got 'inf'"),
        ({"object_ttl": "soon"}, "Connection 'x': object_ttl must be a number of seconds, got 'soon'"),
        ({"connect_timeout": 0}, "Connection 'x': connect_timeout must be a number of seconds, got 0"),
        ({"runtime_env": "[]"}, "Connection 'x': runtime_env must be a JSON object"),
        ({"runtime_env": []}, "Connection 'x': runtime_env must be a JSON object"),
        ({"port": 70_000}, "Connection 'x': port must be a number from 1 to 65535, got 70000"),
        ({"port": -1}, "Connection 'x': port must be a number from 1 to 65535, got -1"),
        (
            {"host": "ray://head:10001"},
            (
                "Connection 'x': host must be a name or an address alone, such as ray-head.example.com, "
                "got 'ray://head:10001'"
            ),
        ),
        ({"host": None, "mode": "client"}, "Connection 'x': host is missing, which mode client needs"),
        (
            {"mode": "local"},
            (
                "Connection 'x': mode local computes on this machine, and host names 'here'. Remove host, or set "
                "another mode"
            ),
        ),
        ({"tls_cert": PEM}, "Connection 'x': tls_key is missing, which belongs to tls_cert"),
        ({"tls_key": PEM}, "Connection 'x': tls_cert is missing, which belongs to tls_key"),
        (
            {"mode": "driver", "tls_cert": PEM, "tls_key": PEM},
            "Connection 'x': mode driver needs three files for TLS, and misses tls_ca_cert",
        ),
        ({"tls": "perhaps"}, "Connection 'x': tls must be true or false, got 'perhaps'"),
        ({"conect_timeout": 3}, "Connection 'x': there is no field conect_timeout. Is it connect_timeout?"),
        ({"tls_ca_crt": PEM}, "Connection 'x': there is no field tls_ca_crt. Is it tls_ca_cert?"),
        ({"namespace": ["a"]}, "Connection 'x': namespace: Input should be a valid string"),
    ],
)
def test_text_names_connection_field_and_what_it_must_be(extra, text):
    with pytest.raises(RayConfigurationError) as caught:
        settings_of(Fields(**extra))
    assert str(caught.value) == text


@pytest.mark.parametrize(
    "fields", [{}, {"port": 10_001}, {"password": "a token"}, {"namespace": "team"}, {"mode": ""}, {"host": ""}]
)
def test_unfinished_connection_says_what_to_choose(fields):
    with pytest.raises(RayConfigurationError) as caught:
        settings_of(Fields(**{"host": None, **fields}))
    assert str(caught.value) == f"Connection 'x': neither host nor mode is set. {CHOICES}"


@pytest.mark.parametrize("host", [None, "here"])
@pytest.mark.parametrize("field", ["address", "create_cluster_if_needed", "kube_config_path"])
def test_field_of_another_ray_package_is_refused(host, field):
    with pytest.raises(RayConfigurationError) as caught:
        settings_of(Fields(host, **{field: "http://head:8265"}))
    assert str(caught.value) == (
        f"Connection 'x': {field} is a field of another Ray package, which is not read here. {CHOICES}, and remove it"
    )


def test_port_that_airflow_makes_of_an_empty_field_is_the_usual_one():
    assert settings_of(Fields(port=0)).address == "here:10001"
    assert settings_of(Fields(None, port=0, mode="local")).port is None


def test_field_of_nobody_is_left_alone():
    assert settings_of(Fields(team="search")).address == "here:10001"


def test_wrong_runtime_env_is_not_shown():
    with pytest.raises(RayConfigurationError) as caught:
        settings_of(Fields(runtime_env="swordfish"))
    assert "swordfish" not in f"{caught.value!r}{caught.value.__cause__}{caught.value.__context__!r}"


def test_secrets_do_not_show():
    settings = settings_of(
        Fields(password="open-sesame", runtime_env={"env_vars": {"KEY": "swordfish"}}, tls_cert=PEM, tls_key=PEM)
    )
    shown = f"{settings!r} {settings} {settings.authentication!r}"
    assert not [secret for secret in ("open-sesame", "swordfish") if secret in shown]
    assert settings.authentication.token == "open-sesame"


def test_empty_fields_of_a_form_say_nothing():
    settings = settings_of(Fields(namespace="", connect_timeout="", object_ttl=None, runtime_env="", tls=""))
    assert (settings.namespace, settings.connect_timeout, settings.object_ttl) == ("airflow", 60.0, None)


def test_number_may_be_text():
    assert settings_of(Fields(connect_timeout="2.5", object_ttl="60")).object_ttl == 60.0


def test_settings_load_no_ray():
    script = (
        "import json, sys; import airflow_ray.client.connection.link; "
        "print(json.dumps([name for name in ('ray', 'pyarrow', 'pandas', 'numpy', 'boto3') if name in sys.modules]))"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(loaded.stdout.splitlines()[-1]) == []


def test_time_to_live_of_the_configuration_holds_where_the_connection_says_nothing(monkeypatch):
    monkeypatch.setenv("AIRFLOW__AIRFLOW_RAY__OBJECT_TTL", "3600")
    assert settings_of(Fields()).object_ttl == 3600
    assert settings_of(Fields(object_ttl=60)).object_ttl == 60


@pytest.mark.parametrize("text", ["soon", "-1", "nan"])
def test_time_to_live_of_the_configuration_that_is_none_is_told(monkeypatch, text):
    monkeypatch.setenv("AIRFLOW__AIRFLOW_RAY__OBJECT_TTL", text)
    with pytest.raises(RayConfigurationError, match=r"\[airflow_ray\] object_ttl must be a number of seconds"):
        settings_of(Fields())
