"""The objects of a Kubernetes cluster, and all that has happened to them."""

from __future__ import annotations

import copy
import json
import re
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from tests.kubernetes.errors import ApiError
from tests.kubernetes.fields import Manager, leaves, merged, without
from tests.kubernetes.schema import crd_schema, faults, prune, untypable

Object = dict[str, Any]
FOREGROUND = "foregroundDeletion"
NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")


@dataclass(frozen=True)
class Resource:
    """A kind of objects."""

    plural: str
    kind: str
    group: str = ""
    version: str = "v1"
    is_namespaced: bool = True
    has_status: bool = False

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def schema(self) -> dict[str, Any] | None:
        return crd_schema(self.plural) if self.group == "ray.io" else None


NAMESPACES = Resource("namespaces", "Namespace", is_namespaced=False)
PODS = Resource("pods", "Pod", has_status=True)
SERVICES = Resource("services", "Service", has_status=True)
EVENTS = Resource("events", "Event")
SECRETS = Resource("secrets", "Secret")
RAY_CLUSTERS = Resource("rayclusters", "RayCluster", "ray.io", has_status=True)
RAY_JOBS = Resource("rayjobs", "RayJob", "ray.io", has_status=True)
Key = tuple[Resource, str, str]


@dataclass(frozen=True)
class Event:
    """What has happened to an object: ADDED, MODIFIED or DELETED; ``before`` is what it was until then."""

    kind: str
    resource: Resource
    object: Object
    before: Object | None = None

    @property
    def version(self) -> int:
        return int(self.object["metadata"]["resourceVersion"])


@dataclass
class Write:
    """How somebody writes."""

    manager: str = "unknown"
    operation: str = "Update"
    subresource: str = ""
    force: bool = False
    is_strict: bool = False
    #: Fields that were dropped since nobody knows them, for a warning.
    unknown: list[str] = field(default_factory=list)


class Store:
    """Keeps objects; may be used by any thread."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        #: Of which an object that is deleted stays until somebody deletes it with no time left.
        self.graceful: set[Resource] = set()
        #: How many objects of a resource a namespace may have.
        self.quota: dict[tuple[Resource, str], int] = {}
        #: Change an object as it is created, as admission does.
        self.admission: list[Callable[[Resource, Object], None]] = []
        self.listeners: list[Callable[[Event], None]] = []
        self.history: list[Event] = []
        self.version = 1
        #: The last version of which the history is forgotten.
        self.forgotten = 0
        self._objects: dict[Key, Object] = {}
        self._managers: dict[str, list[Manager]] = {}
        for name in ("default", "ray"):
            self.create(NAMESPACES, "", {"metadata": {"name": name}}, Write("kube-apiserver"))

    def get(self, resource: Resource, namespace: str, name: str) -> Object:
        with self.lock:
            if (found := self._objects.get((resource, namespace, name))) is None:
                raise _not_found(resource, name)
            return copy.deepcopy(found)

    def list(self, resource: Resource, namespace: str | None = None) -> list[Object]:
        with self.lock:
            keys = sorted(key[1:] for key in self._objects if key[0] == resource and namespace in (None, key[1]))
            return [copy.deepcopy(self._objects[(resource, *key)]) for key in keys]

    def create(self, resource: Resource, namespace: str, value: Object, write: Write) -> Object:
        with self.lock:
            value = copy.deepcopy(value)
            meta = value.setdefault("metadata", {})
            if not meta.get("name") and (prefix := meta.get("generateName")):
                meta["name"] = prefix + uuid.uuid4().hex[:5]
            name = meta.get("name") or ""
            if resource.is_namespaced and (NAMESPACES, "", namespace) not in self._objects:
                raise _not_found(NAMESPACES, namespace)
            if (there := self._objects.get((resource, namespace, name))) is not None:
                going = "object is being deleted: " if "deletionTimestamp" in there["metadata"] else ""
                message = f'{going}{resource.qualified} "{name}" already exists'
                raise ApiError(409, message, "AlreadyExists", name=name, group=resource.group, kind=resource.plural)
            if meta.get("resourceVersion"):
                raise ApiError(400, "resourceVersion should not be set on objects to be created")
            self._check_quota(resource, namespace, name)
            for each in self.admission:
                each(resource, value)
            if resource.has_status and write.subresource != "status":
                value.pop("status", None)
            meta |= {"uid": str(uuid.uuid4()), "creationTimestamp": now(), "generation": 1}
            meta |= {"namespace": namespace} if resource.is_namespaced else {}
            return self._write(resource, namespace, name, value, None, write)

    def replace(self, resource: Resource, namespace: str, name: str, value: Object, write: Write) -> Object:
        with self.lock:
            live = self.get(resource, namespace, name)
            return self._write(resource, namespace, name, copy.deepcopy(value), live, write)

    def merge(self, resource: Resource, namespace: str, name: str, patch: Object, write: Write) -> Object:
        """Do what ``application/merge-patch+json`` says."""
        with self.lock:
            live = self.get(resource, namespace, name)
            return self._write(resource, namespace, name, _merge_patch(live, patch), live, write)

    def apply(self, resource: Resource, namespace: str, name: str, value: Object, write: Write) -> Object:
        """Do what ``application/apply-patch+yaml`` says."""
        write.operation = "Apply"
        with self.lock:
            value = copy.deepcopy(value)
            _check_applied(resource, name, value)
            if resource.has_status and write.subresource != "status":
                value.pop("status", None)
            if found := untypable(resource.plural, value) if resource.group == "ray.io" else []:
                what = f"{namespace}/{name}; {resource.api_version}, Kind={resource.kind}"
                listed = found[0] if len(found) == 1 else "".join(f"\n  {each}" for each in ["errors:", *found])
                # So the real one answers, though it is the fault of whoever applies it.
                raise ApiError(500, f"failed to create typed patch object ({what}): {listed}", "")
            prune(value, resource.schema)
            live = self._objects.get((resource, namespace, name))
            if live is None:
                return self.create(resource, namespace, value, write)
            result = self._applied(resource, live, value, write)
            return self._write(resource, namespace, name, result, live, write, value)

    def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        propagation: str = "Background",
        grace: int | None = None,
        preconditions: dict[str, str] | None = None,
    ) -> Object:
        with self.lock:
            found = self.get(resource, namespace, name)
            meta = found["metadata"]
            for field_name, wanted in (preconditions or {}).items():
                if (has := meta[field_name]) != wanted:
                    title = "UID" if field_name == "uid" else "ResourceVersion"
                    told = f"the {title} in the precondition ({wanted}) does not match the {title} in record ({has})"
                    raise _conflict(resource, name, f"Precondition failed: {told}. The object might have been deleted")
            if propagation == "Foreground" and FOREGROUND not in meta.get("finalizers", []):
                meta["finalizers"] = [*meta.get("finalizers", []), FOREGROUND]
            if propagation == "Orphan":
                self._orphan(meta["uid"])
            if meta.get("finalizers") or (resource in self.graceful and grace != 0):
                meta.setdefault("deletionTimestamp", now())
                meta.setdefault("deletionGracePeriodSeconds", 0 if grace is None else grace)
                return self._put(resource, namespace, name, found)
            self._remove(resource, namespace, name)
            return found

    def set_status(self, resource: Resource, namespace: str, name: str, status: Any, manager: str) -> Object:
        return self.replace(resource, namespace, name, {"status": status}, Write(manager, subresource="status"))

    def forget_history(self) -> None:
        """Keep nothing of what has happened: who watches from an older version is told that it has expired."""
        with self.lock:
            self.forgotten = self.version
            self.history.clear()

    def _check_quota(self, resource: Resource, namespace: str, name: str) -> None:
        allowed = self.quota.get((resource, namespace))
        if allowed is not None and (used := len(self.list(resource, namespace))) >= allowed:
            count = f"count/{resource.qualified}"
            message = (
                f'{resource.qualified} "{name}" is forbidden: exceeded quota: object-counts, requested: {count}=1, '
                f"used: {count}={used}, limited: {count}={allowed}"
            )
            raise ApiError(403, message, name=name, group=resource.group, kind=resource.plural)

    def _applied(self, resource: Resource, live: Object, value: Object, write: Write) -> Object:
        """Return a live object with what is applied in it, and without what the manager has applied before alone."""
        schema = resource.schema
        wanted, has = leaves(value, schema), leaves(live, schema)
        managers = self._managers[live["metadata"]["uid"]]
        own = _manager_of(managers, write)
        others = [each for each in managers if each is not own]
        conflicts = [
            (each.name, path)
            for each in others
            for path in sorted(wanted.keys() & each.owned)
            if path not in has or has[path] != wanted[path]
        ]
        if conflicts and not write.force:
            raise _field_conflicts(conflicts)
        for each in others:
            each.owned -= {path for _, path in conflicts}
        result = merged(live, value, schema)
        kept = wanted.keys() | {path for each in others for path in each.owned}
        for path in sorted(own.owned - kept, reverse=True):
            result = without(result, path, schema)
        return result

    def _write(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        value: Object,
        live: Object | None,
        write: Write,
        applied: Object | None = None,
    ) -> Object:
        value = self._protected(resource, name, value, live, write)
        write.unknown += prune(value, resource.schema)
        if write.unknown and write.is_strict:
            listed = ", ".join(f'unknown field "{path}"' for path in write.unknown)
            raise ApiError(400, f"strict decoding error: {listed}")
        _check(resource, name, value)
        if live is not None and _content(live) != _content(value) and _spec(live) != _spec(value):
            value["metadata"]["generation"] = live["metadata"]["generation"] + 1
        self._note_manager(resource, value, live, write, applied)
        return self._put(resource, namespace, name, value)

    def _protected(self, resource: Resource, name: str, value: Object, live: Object | None, write: Write) -> Object:
        """Return an object with what a writer cannot change as it was."""
        value |= {"apiVersion": resource.api_version, "kind": resource.kind}
        if live is None:
            return value
        meta, before = value.setdefault("metadata", {}), live["metadata"]
        given = meta.get("resourceVersion")
        if given and given != before["resourceVersion"]:
            raise _conflict(
                resource,
                name,
                "the object has been modified; please apply your changes to the latest version and try again",
            )
        if meta.get("uid", before["uid"]) != before["uid"]:
            told = f"Precondition failed: UID in precondition: {meta['uid']}, UID in object meta: {before['uid']}"
            raise _conflict(resource, name, told)
        if write.subresource == "status":
            return {**live, "status": value.get("status", {})}
        if resource.has_status:
            value = {**value, "status": live["status"]} if "status" in live else _without_status(value)
        fixed = ("name", "namespace", "uid", "creationTimestamp", "generation", "resourceVersion", "managedFields")
        fixed += ("deletionTimestamp", "deletionGracePeriodSeconds")
        kept = {key: before[key] for key in fixed if key in before}
        value["metadata"] = {**{key: each for key, each in meta.items() if key not in fixed}, **kept}
        return value

    def _note_manager(
        self, resource: Resource, value: Object, live: Object | None, write: Write, applied: Object | None
    ) -> None:
        schema = resource.schema
        managers = self._managers.setdefault(value["metadata"]["uid"], [])
        own = _manager_of(managers, write)
        before, after = leaves(live or {}, schema), leaves(value, schema)
        changed = {path for path in after if path not in before or after[path] != before[path]}
        if write.operation == "Apply":
            own.owned = set(leaves(applied if applied is not None else value, schema))
        else:
            own.owned |= changed
            for each in managers:
                each.owned -= changed if each is not own else set()
        for each in managers:
            each.owned &= after.keys()
        if changed or before.keys() - after.keys() or not own.time:
            own.time = now()
        managers[:] = [each for each in managers if each.owned]
        value["metadata"]["managedFields"] = [each.described(resource.api_version) for each in managers]

    def _put(self, resource: Resource, namespace: str, name: str, value: Object) -> Object:
        before = self._objects.get((resource, namespace, name))
        meta = value["metadata"]
        if before is not None and _content(before) == _content(value):
            return copy.deepcopy(before)
        if meta.get("deletionTimestamp") and not meta.get("finalizers") and resource not in self.graceful:
            self._remove(resource, namespace, name)
            return copy.deepcopy(value)
        self.version += 1
        meta["resourceVersion"] = str(self.version)
        self._objects[resource, namespace, name] = copy.deepcopy(value)
        self._tell(Event("MODIFIED" if before else "ADDED", resource, copy.deepcopy(value), before))
        self._collect()
        return value

    def _remove(self, resource: Resource, namespace: str, name: str) -> None:
        gone = self._objects.pop((resource, namespace, name))
        self._managers.pop(gone["metadata"]["uid"], None)
        self.version += 1
        gone["metadata"]["resourceVersion"] = str(self.version)
        self._tell(Event("DELETED", resource, gone, gone))
        self._collect()

    def _tell(self, event: Event) -> None:
        self.history.append(event)
        for listener in list(self.listeners):
            listener(event)

    def _orphan(self, uid: str) -> None:
        for value in self._objects.values():
            meta = value["metadata"]
            meta["ownerReferences"] = [each for each in meta.get("ownerReferences", []) if each["uid"] != uid]

    def _collect(self) -> None:
        """Delete what belongs to nobody any more, as the garbage collector does."""
        owners = {value["metadata"]["uid"]: value["metadata"] for value in self._objects.values()}
        going = {uid for uid, meta in owners.items() if FOREGROUND in meta.get("finalizers", [])}
        owned: dict[Key, set[str]] = {}
        for key, value in self._objects.items():
            if uids := {each["uid"] for each in value["metadata"].get("ownerReferences") or []}:
                owned[key] = uids
        for key, uids in owned.items():
            alive = uids & owners.keys() - going
            if not alive and key in self._objects and "deletionTimestamp" not in self._objects[key]["metadata"]:
                self.delete(*key)
        awaited = {uid for key, uids in owned.items() if key in self._objects for uid in uids}
        for key, value in list(self._objects.items()):
            if value["metadata"]["uid"] in going - awaited and self._objects.get(key) is value:
                left = copy.deepcopy(value)
                left["metadata"]["finalizers"].remove(FOREGROUND)
                self._put(*key, left)


def now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _content(value: Object) -> str:
    """Return what makes an object differ from what it was."""
    meta = {key: each for key, each in value["metadata"].items() if key not in ("resourceVersion", "managedFields")}
    managed = [
        {key: each for key, each in entry.items() if key != "time"}
        for entry in value["metadata"].get("managedFields", [])
    ]
    return json.dumps([{**value, "metadata": meta}, managed], sort_keys=True)


def _spec(value: Object) -> Object:
    return {key: each for key, each in value.items() if key not in ("metadata", "status")}


def _without_status(value: Object) -> Object:
    return {key: each for key, each in value.items() if key != "status"}


def _merge_patch(value: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(value) if isinstance(value, dict) else {}
    for name, each in patch.items():
        if each is None:
            result.pop(name, None)
        else:
            result[name] = _merge_patch(result.get(name), each)
    return result


def _manager_of(managers: list[Manager], write: Write) -> Manager:
    """Return the entry of whoever writes, which is made where there is none."""
    for each in managers:
        if (each.name, each.operation, each.subresource) == (write.manager, write.operation, write.subresource):
            return each
    managers.append(Manager(write.manager, write.operation, write.subresource))
    return managers[-1]


def _check_applied(resource: Resource, name: str, value: Object) -> None:
    meta = value.get("metadata") or {}
    if meta.get("managedFields"):
        raise ApiError(400, "metadata.managedFields must be nil")
    if (value.get("apiVersion"), value.get("kind")) != (resource.api_version, resource.kind):
        raise ApiError(400, "invalid object type: apiVersion and kind of the patch do not match the resource")
    if meta.get("name", name) != name:
        raise ApiError(400, f"the name of the object ({meta['name']}) does not match the name on the URL ({name})")
    meta.setdefault("name", name)
    value["metadata"] = meta


def _check(resource: Resource, name: str, value: Object) -> None:
    found = faults(resource.plural, value) if resource.group == "ray.io" else []
    if not NAME.fullmatch(name) or len(name) > 253:
        told = f'Invalid value: "{name}": a lowercase RFC 1123 subdomain must consist of lower case letters'
        found.insert(0, ("metadata.name", told))
    if not found:
        return
    listed = ", ".join(f"{path}: {text}" for path, text in found)
    kind = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
    message = f'{kind} "{name}" is invalid: {listed if len(found) == 1 else f"[{listed}]"}'
    causes = [{"reason": text.partition(":")[0], "field": path, "message": text} for path, text in found]
    raise ApiError(422, message, name=name, group=resource.group, kind=resource.kind, causes=causes)


def _not_found(resource: Resource, name: str) -> ApiError:
    message = f'{resource.qualified} "{name}" not found'
    return ApiError(404, message, name=name, group=resource.group, kind=resource.plural)


def _conflict(resource: Resource, name: str, told: str) -> ApiError:
    message = f'Operation cannot be fulfilled on {resource.qualified} "{name}": {told}'
    return ApiError(409, message, name=name, group=resource.group, kind=resource.plural)


def _field_conflicts(conflicts: list[tuple[str, tuple[str, ...]]]) -> ApiError:
    fields = [(name, "".join(f".{step.removeprefix('f:')}" for step in path)) for name, path in conflicts]
    count = f"{len(fields)} conflict{'s' if len(fields) > 1 else ''}"
    listed = ", ".join(f'conflict with "{name}": {path}' for name, path in fields)
    causes = [{"reason": "FieldManagerConflict", "message": name, "field": path} for name, path in fields]
    return ApiError(409, f"Apply failed with {count}: {listed}", causes=causes)
