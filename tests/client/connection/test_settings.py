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

    def __init__(self, host="here", port=None, password=None, **extra) -> None:
        self.host, self.port, self.password, self.extra_dejson = host, port, password, extra


@pytest.mark.parametrize(
    ("extra", "text"),
    [
        ({"mode": "teleport"}, "Connection 'x': mode must be one of client, driver, local, got 'teleport'"),
        ({"mode": ["client"]}, "Connection 'x': mode must be one of client, driver, local, got ['client']"),
        ({"connect_timeout": "-1"}, "Connection 'x': connect_timeout must be a number of seconds, got '-1'"),
        ({"connect_timeout": "inf"}, "Connection 'x': connect_timeout must be a number of seconds, got 'inf'"),
        ({"object_ttl": "soon"}, "Connection 'x': object_ttl must be a number of seconds, got 'soon'"),
        ({"runtime_env": "[]"}, "Connection 'x': runtime_env must be a JSON object, got 'something else'"),
        ({"namespace": ["a"]}, "Connection 'x': namespace: Input should be a valid string"),
    ],
)
def test_text_names_connection_field_and_what_it_must_be(extra, text):
    with pytest.raises(RayConfigurationError) as caught:
        settings_of(Fields(**extra))
    assert str(caught.value) == text


def test_wrong_runtime_env_is_not_shown():
    with pytest.raises(RayConfigurationError) as caught:
        settings_of(Fields(runtime_env="swordfish"))
    assert "swordfish" not in f"{caught.value!r}{caught.value.__cause__}{caught.value.__context__!r}"


def test_secrets_do_not_show():
    settings = settings_of(
        Fields(password="open-sesame", runtime_env={"env_vars": {"KEY": "swordfish"}}, tls_ca_cert="-----BEGIN x")
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
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert json.loads(loaded.stdout.splitlines()[-1]) == []
