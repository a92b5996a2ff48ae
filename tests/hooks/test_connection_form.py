"""The form of the connection, as Airflow asks for it without a browser."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import get_args

import pytest
from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService

from airflow_ray.client.connection.settings import PORTS, Mode
from airflow_ray.hooks.ray import RayHook
from airflow_ray.provider_info import get_provider_info


def test_form_of_the_hook_has_the_fields_of_the_metadata(monkeypatch):
    """Airflow 3.1 and 3.2 ask the hook, with stand-ins for what a form is drawn with, as here."""
    stand_ins = {
        "wtforms": SimpleNamespace(
            BooleanField=HookMetaService.MockBooleanField,
            IntegerField=HookMetaService.MockIntegerField,
            PasswordField=HookMetaService.MockPasswordField,
            StringField=HookMetaService.MockStringField,
        ),
        "wtforms.validators": SimpleNamespace(Optional=HookMetaService.MockOptional, any_of=HookMetaService.MockEnum),
        "flask_babel": SimpleNamespace(lazy_gettext=str),
        "flask_appbuilder": SimpleNamespace(),
        "flask_appbuilder.fieldwidgets": SimpleNamespace(
            BS3PasswordFieldWidget=HookMetaService.MockAnyWidget, BS3TextFieldWidget=HookMetaService.MockAnyWidget
        ),
    }
    for name, module in stand_ins.items():
        monkeypatch.setitem(sys.modules, name, module)
    (connection_type,) = get_provider_info()["connection-types"]
    shown = {name: widget.param.dump() for name, widget in RayHook.get_connection_form_widgets().items()}
    assert list(shown) == list(connection_type["conn-fields"])
    for name, field in connection_type["conn-fields"].items():
        schema = shown[name]["schema"]
        assert (schema["title"], shown[name]["description"]) == (field["label"], field["description"])
        assert shown[name]["value"] == field["schema"].get("default")
        assert schema.get("enum") == field["schema"].get("enum")
        assert schema.get("format") == field["schema"].get("format")


def test_standard_fields_are_those_of_the_metadata():
    behaviour = RayHook.get_ui_field_behaviour()
    assert behaviour["hidden_fields"] == ["schema", "login"]
    assert behaviour["relabeling"]["password"] == "Token"
    assert set(behaviour) == {"hidden_fields", "relabeling", "placeholders"}


def test_form_offers_each_mode_and_the_gateway_first():
    (connection_type,) = get_provider_info()["connection-types"]
    offered = connection_type["conn-fields"]["mode"]["schema"]["enum"]
    assert (offered, offered[0]) == (list(get_args(Mode)), "gateway")


@pytest.mark.parametrize("mode", PORTS)
def test_form_tells_what_each_mode_is_and_its_port(mode):
    (connection_type,) = get_provider_info()["connection-types"]
    placeholders = connection_type["ui-field-behaviour"]["placeholders"]
    assert f"{PORTS[mode]} in mode {mode}" in placeholders["port"]
    assert f"{mode}: " in connection_type["conn-fields"]["mode"]["description"]
