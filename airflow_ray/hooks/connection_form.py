"""The form of a connection for Airflow 3.1 and 3.2, which ask the hook; 3.3 reads the provider's metadata itself."""

from __future__ import annotations

from typing import Any

from airflow_ray.provider_info import get_provider_info


def field_behaviour() -> dict[str, Any]:
    """Return which standard fields are hidden, and what the others are called."""
    behaviour = _connection_type()["ui-field-behaviour"]
    return {name.replace("-", "_"): value for name, value in behaviour.items()}


def widgets() -> dict[str, Any]:
    """Return the fields of ``extra`` as wtforms knows them, or what Airflow puts in its place."""
    from flask_appbuilder.fieldwidgets import BS3PasswordFieldWidget, BS3TextFieldWidget
    from flask_babel import lazy_gettext
    from wtforms import BooleanField, IntegerField, PasswordField, StringField
    from wtforms.validators import Optional, any_of

    kinds = {"string": StringField, "object": StringField, "number": IntegerField, "boolean": BooleanField}
    made = {}
    for name, field in _connection_type()["conn-fields"].items():
        schema = field["schema"]
        is_password = schema.get("format") == "password"
        kind = PasswordField if is_password else kinds[schema["type"][0]]
        widget = BS3PasswordFieldWidget() if is_password else BS3TextFieldWidget()
        made[name] = kind(
            lazy_gettext(field["label"]),
            validators=[Optional(), *([any_of(schema["enum"])] if "enum" in schema else [])],
            description=field["description"],
            default=schema.get("default"),
            **({} if kind is BooleanField else {"widget": widget}),
        )
    return made


def _connection_type() -> dict[str, Any]:
    (connection_type,) = get_provider_info()["connection-types"]
    return dict(connection_type)
