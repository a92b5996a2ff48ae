"""What a request to an API server asks for."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Any

import yaml

from tests.kubernetes.errors import ApiError
from tests.kubernetes.store import NAMESPACES, SECRETS, Object, Resource

VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass
class Asked:
    """A request, as authorization and a log see it."""

    verb: str
    resource: Resource
    namespace: str
    name: str
    subresource: str
    user: str = ""

    def forbidden(self) -> ApiError:
        """Return the answer to somebody who may not do this."""
        what = f"{self.resource.plural}/{self.subresource}" if self.subresource else self.resource.plural
        title = f'{self.resource.qualified} "{self.name}"' if self.name else self.resource.qualified
        where = f' in the namespace "{self.namespace}"' if self.namespace else " at the cluster scope"
        message = (
            f'{title} is forbidden: User "{self.user}" cannot {self.verb} resource "{what}" in API group '
            f'"{self.resource.group}"{where}'
        )
        return ApiError(403, message, name=self.name, group=self.resource.group, kind=self.resource.plural)


def parsed(method: str, path: str, query: Any, resources: list[Resource]) -> Asked | None:
    """Return what a request is about, or None if there is no such resource."""
    found = re.fullmatch(r"/(?:api|apis/(?P<group>[^/]+))/(?P<version>[^/]+)/(?P<rest>.+)", path)
    if found is None:
        return None
    group, version, parts = found["group"] or "", found["version"], found["rest"].split("/")
    namespace = ""
    if parts[0] == "namespaces" and len(parts) > 2:
        namespace, parts = parts[1], parts[2:]
    plural, name, subresource = (*parts, "", "")[:3]
    for resource in resources:
        if (resource.group, resource.version, resource.plural) == (group, version, plural):
            verb = VERBS[method]
            if verb == "get" and not name:
                verb = "watch" if query.get("watch") in ("true", "True", "1") else "list"
            elif verb == "delete" and not name:
                verb = "deletecollection"
            return Asked(verb, resource, "" if resource is NAMESPACES else namespace, name, subresource)
    return None


def body_of(data: bytes, resource: Resource) -> Object:
    """Return the object in the body of a request."""
    try:
        # Each JSON is a YAML.
        value = yaml.safe_load(data)
    except yaml.YAMLError as error:
        raise ApiError(400, f"error decoding patch: {error}") from error
    if not isinstance(value, dict):
        raise ApiError(400, "the object provided is unrecognized (must be of type Object)")
    if resource is SECRETS:
        _encode(value)
    return value


def matches(value: Object, query: Any) -> bool:
    """Whether an object is selected by the labels and fields that a request names."""
    labels = value["metadata"].get("labels") or {}
    return _selected(query.get("labelSelector"), labels.get) and _selected(
        query.get("fieldSelector"), lambda path: _at(value, path)
    )


def _selected(selector: str | None, value_of: Any) -> bool:
    # A comma between parentheses is part of a term.
    return all(_holds(term.strip(), value_of) for term in re.split(r",(?![^(]*\))", selector or "") if term.strip())


def _holds(term: str, value_of: Any) -> bool:
    if found := re.fullmatch(r"(\S+)\s+(in|notin)\s+\((.*)\)", term):
        values = [each.strip() for each in found[3].split(",")]
        return (value_of(found[1]) in values) == (found[2] == "in")
    if found := re.fullmatch(r"([^!=\s]+)\s*(=|==|!=)\s*(\S*)", term):
        return ((value_of(found[1]) or "") == found[3]) != (found[2] == "!=")
    if re.fullmatch(r"!?[^!=\s]+", term):
        return (value_of(term.removeprefix("!")) is not None) != term.startswith("!")
    raise ApiError(400, f"unable to parse requirement: {term}")


def _at(value: Any, path: str) -> str | None:
    for step in path.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    return None if value is None else str(value)


def _encode(secret: Object) -> None:
    for name, text in secret.pop("stringData", {}).items():
        secret.setdefault("data", {})[name] = base64.b64encode(text.encode()).decode()
    for text in (secret.get("data") or {}).values():
        try:
            base64.b64decode(text, validate=True)
        except (binascii.Error, TypeError) as error:
            raise ApiError(
                400, f'Secret in version "v1" cannot be handled as a Secret: illegal base64 data: {error}'
            ) from error
