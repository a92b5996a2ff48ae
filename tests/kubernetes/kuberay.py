"""A stand-in for the KubeRay operator: makes pods and a service for each RayCluster, and fills in its status."""

from __future__ import annotations

import copy
import json
import threading
import traceback
from contextlib import suppress
from typing import Any

from tests.kubernetes.api_server import ApiServer
from tests.kubernetes.errors import ApiError
from tests.kubernetes.kubelet import Kubelet
from tests.kubernetes.store import EVENTS, PODS, RAY_CLUSTERS, SECRETS, SERVICES, Event, Object, Resource, Write, now

OPERATOR = "kuberay-operator"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
WORKLOADS = Resource("workloads", "Workload", "kueue.x-k8s.io", "v1beta1", has_status=True)
NO_QUOTA = "couldn't assign flavors to pod set head: insufficient unused quota for cpu in flavor default, 2 more needed"
PORTS = {"gcs-server": 6379, "dashboard": 8265, "client": 10001, "metrics": 8080, "serve": 8000}
TURN_SECONDS = 0.1
CLOSE_SECONDS = 60.0


class KubeRay:
    """Works until it is closed, with a :class:`Kubelet` for the pods, and Kueue for clusters with a queue's label.

    A worker has a pod and nothing that runs in it.

    :param real_heads: Whether a real Ray head runs for each cluster, in a network of its own.
    """

    def __init__(self, api: ApiServer, real_heads: bool = False) -> None:
        self.api = api
        self.kubelet = Kubelet(api, real_heads)
        #: What went wrong in this stand-in itself.
        self.errors: list[str] = []
        self._changed = threading.Event()
        self._is_closed = False
        api.resources.append(WORKLOADS)
        api.store.admission.append(_suspend_for_queue)
        api.store.listeners.append(self._notice)
        self._thread = threading.Thread(target=self._run, name="kuberay", daemon=True)
        self._thread.start()

    def admit(self, namespace: str, name: str) -> None:
        """Let a cluster go that waits in its queue, as Kueue does."""
        write = Write("kueue")
        self.api.store.merge(RAY_CLUSTERS, namespace, name, {"spec": {"suspend": False}}, write)

    def close(self) -> None:
        self._is_closed = True
        self._thread.join(CLOSE_SECONDS)
        self.kubelet.close()

    def _notice(self, event: Event) -> None:
        # What it writes of a cluster does not wake the real one either, which would have no rest.
        if event.resource != EVENTS and not _is_of_status(event):
            self._changed.set()

    def _run(self) -> None:
        while not self._is_closed:
            self._changed.wait(TURN_SECONDS)
            self._changed.clear()
            # What cannot be reached cannot be written to.
            if self.api.is_away:
                continue
            try:
                self.kubelet.look()
                for cluster in self.api.store.list(RAY_CLUSTERS):
                    # Somebody else may be quicker: the next turn sees what there is.
                    with suppress(ApiError):
                        self._reconcile(cluster)
            except Exception:
                self.errors.append(traceback.format_exc())

    def _reconcile(self, cluster: Object) -> None:
        meta, spec = cluster["metadata"], cluster["spec"]
        if "deletionTimestamp" in meta or spec.get("managedBy", "ray.io/kuberay-operator") != "ray.io/kuberay-operator":
            return
        if spec.get("suspend"):
            self._suspend(cluster)
            return
        if told := _refusal(spec):
            place = f"{meta['namespace']}/{meta['name']}"
            self.kubelet.event(cluster, "InvalidRayClusterSpec", f"The RayCluster spec is invalid {place}: {told}")
            return
        self._create(SERVICES, _service(cluster), cluster)
        failure = self._make_pods(cluster)
        self._note(cluster, self._status(cluster, failure))

    def _make_pods(self, cluster: Object) -> Object | None:
        """Make the pods that are missing, and return the condition that tells why that failed."""
        authentication = cluster["spec"].get("authOptions", {})
        if authentication.get("mode") == "token" and not authentication.get("secretName"):
            name = cluster["metadata"]["name"]
            secret = {"metadata": {"name": name}, "data": {"auth_token": "dG9rZW4tb2Yta3ViZXJheS1vcGVyYXRvcg=="}}
            self._create(SECRETS, secret, cluster)
        there = self._pods(cluster)
        groups = [each["metadata"]["labels"]["ray.io/group"] for each in there]
        wanted = [("head", "headgroup", cluster["spec"]["headGroupSpec"])] if "headgroup" not in groups else []
        for group in cluster["spec"].get("workerGroupSpecs") or []:
            wanted += [("worker", group["groupName"], group)] * (_replicas(group) - groups.count(group["groupName"]))
        failures = [self._make_pod(cluster, *each) for each in wanted]
        return next((failure for failure in failures if failure), None)

    def _make_pod(self, cluster: Object, kind: str, group: str, spec: Object) -> Object | None:
        try:
            self._create(PODS, _pod(cluster, kind, group, spec), cluster)
        except ApiError as error:
            reason = f"FailedCreate{kind.capitalize()}Pod"
            name = cluster["metadata"]["name"]
            message = f"Failed to create {kind} Pod {cluster['metadata']['namespace']}/{name}-{kind}-, {error}"
            self.kubelet.event(cluster, reason.replace("FailedCreate", "FailedToCreate"), message)
            return {"type": "ReplicaFailure", "status": "True", "reason": reason, "message": str(error)}
        return None

    def _create(self, resource: Resource, value: Object, cluster: Object) -> None:
        """Create what belongs to a cluster, unless it is there."""
        meta = cluster["metadata"]
        owner = {"apiVersion": cluster["apiVersion"], "kind": "RayCluster", "name": meta["name"], "uid": meta["uid"]}
        owner |= {"controller": True, "blockOwnerDeletion": True}
        value["metadata"]["ownerReferences"] = [owner]
        try:
            self.api.store.create(resource, meta["namespace"], value, Write(OPERATOR))
        except ApiError as error:
            if error.code != 409:
                raise

    def _suspend(self, cluster: Object) -> None:
        meta = cluster["metadata"]
        pods = self._pods(cluster)
        for pod in pods:
            if "deletionTimestamp" not in pod["metadata"]:
                self.api.store.delete(PODS, meta["namespace"], pod["metadata"]["name"])
        if QUEUE_LABEL in meta.get("labels", {}):
            name = f"raycluster-{meta['name']}-{meta['uid'][:5]}"
            self._create(
                WORKLOADS, {"metadata": {"name": name}, "spec": {"queueName": meta["labels"][QUEUE_LABEL]}}, cluster
            )
            waits = {"type": "QuotaReserved", "status": "False", "reason": "Pending", "message": NO_QUOTA}
            status = {"conditions": [{**waits, "lastTransitionTime": meta["creationTimestamp"]}]}
            self.api.store.set_status(WORKLOADS, meta["namespace"], name, status, "kueue")
        done = "RayClusterSuspending" if pods else "RayClusterSuspended"
        conditions = [
            _head_condition(pods),
            *(
                {"type": each, "status": str(each == done), "reason": each, "message": ""}
                for each in ("RayClusterSuspending", "RayClusterSuspended")
            ),
        ]
        self._note(cluster, {"state": "" if pods else "suspended", "conditions": conditions})

    def _status(self, cluster: Object, failure: Object | None) -> Object:
        before = cluster.get("status", {})
        pods = self._pods(cluster)
        heads = [pod for pod in pods if pod["metadata"]["labels"]["ray.io/node-type"] == "head"]
        ready = [pod for pod in pods if _is_ready(pod)]
        wanted = sum(_replicas(group) for group in cluster["spec"].get("workerGroupSpecs") or [])
        workers = len([pod for pod in ready if pod not in heads])
        is_whole = len(ready) == wanted + 1
        was_whole = any(
            each["type"] == "RayClusterProvisioned" and each["status"] == "True"
            for each in before.get("conditions", [])
        )
        conditions = [_head_condition(heads), _provisioned(is_whole or was_whole), *([failure] if failure else [])]
        head = {"serviceName": service_name(cluster)}
        if heads:
            address = heads[0].get("status", {}).get("podIP", "")
            # That of a headless service is that of the pod.
            head |= {"podName": heads[0]["metadata"]["name"], "podIP": address, "serviceIP": address}
        ports = {port["name"]: str(port["port"]) for port in _service(cluster)["spec"]["ports"]}
        status = {
            "head": head,
            "endpoints": ports,
            "conditions": conditions,
            "desiredWorkerReplicas": wanted,
            "availableWorkerReplicas": len([pod for pod in pods if pod not in heads]),
            "readyWorkerReplicas": workers,
            "observedGeneration": cluster["metadata"]["generation"],
        }
        return {**status, "state": "ready" if is_whole or before.get("state") == "ready" else ""}

    def _note(self, cluster: Object, status: Object) -> None:
        meta, before = cluster["metadata"], cluster.get("status", {})
        for condition in status["conditions"]:
            was = next((each for each in before.get("conditions", []) if each["type"] == condition["type"]), {})
            same = was.get("status") == condition["status"]
            condition["lastTransitionTime"] = was["lastTransitionTime"] if same else now()
        if {key: each for key, each in before.items() if key != "lastUpdateTime"} != status:
            status["lastUpdateTime"] = now()
            self.api.store.set_status(RAY_CLUSTERS, meta["namespace"], meta["name"], status, OPERATOR)

    def _pods(self, cluster: Object) -> list[Object]:
        pods = self.api.store.list(PODS, cluster["metadata"]["namespace"])
        uid = cluster["metadata"]["uid"]
        return [pod for pod in pods if uid in [each["uid"] for each in pod["metadata"].get("ownerReferences", [])]]


def _is_of_status(event: Event) -> bool:
    """Whether a cluster wants what it has wanted before."""
    if event.resource != RAY_CLUSTERS or event.before is None:
        return False
    return bool(event.object["metadata"]["generation"] == event.before["metadata"]["generation"])


def _refusal(spec: Object) -> str | None:
    """Return what KubeRay itself has against the specification of a cluster."""
    head = spec["headGroupSpec"]
    if not head["template"]["spec"].get("containers"):
        return "headGroupSpec should have at least one container"
    if head.get("resources") and "num-cpus" in head.get("rayStartParams", {}):
        fields = "resource fields should not be set in both rayStartParams and Resources for Head group"
        return f"{fields}; please use only one"
    return None


def service_name(cluster: Object) -> str:
    """Return the name of the service of a head."""
    own = (cluster["spec"]["headGroupSpec"].get("headService") or {}).get("metadata", {}).get("name")
    return own or f"{cluster['metadata']['name']}-head-svc"


def _suspend_for_queue(resource: Resource, value: Object) -> None:
    if resource == RAY_CLUSTERS and QUEUE_LABEL in (value["metadata"].get("labels") or {}):
        value.setdefault("spec", {})["suspend"] = True


def _replicas(group: Object) -> int:
    return 0 if group.get("suspend") else max(int(group.get("replicas") or 0), int(group["minReplicas"]))


def _service(cluster: Object) -> Object:
    """Return the service of the head, with the ports of its container, and those that KubeRay adds."""
    name = cluster["metadata"]["name"]
    container = cluster["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    named = {port["name"]: port["containerPort"] for port in container.get("ports") or [] if "name" in port}
    ports = {**{key: each for key, each in PORTS.items() if key not in named}, **named}
    kind = cluster["spec"]["headGroupSpec"].get("serviceType") or "ClusterIP"
    spec = {"type": kind, "selector": {"ray.io/cluster": name, "ray.io/node-type": "head"}}
    spec |= {"clusterIP": "None"} if kind == "ClusterIP" else {}
    spec["ports"] = [{"name": key, "port": each, "protocol": "TCP"} for key, each in ports.items()]
    labels = {"ray.io/cluster": name, "ray.io/node-type": "head", "ray.io/identifier": f"{name}-head"}
    return {"metadata": {"name": service_name(cluster), "labels": labels}, "spec": spec}


def _pod(cluster: Object, kind: str, group: str, spec: Object) -> Object:
    name = cluster["metadata"]["name"]
    template = copy.deepcopy(spec["template"])
    meta = template.setdefault("metadata", {})
    meta["generateName"] = f"{name}-{kind}-" if kind == "head" else f"{name}-{group}-{kind}-"
    labels = {"ray.io/cluster": name, "ray.io/node-type": kind, "ray.io/group": group, "ray.io/is-ray-node": "yes"}
    meta["labels"] = {**meta.get("labels", {}), **labels, "app.kubernetes.io/created-by": OPERATOR}
    started = {"ray.io/start-params": json.dumps(spec.get("rayStartParams") or {})}
    meta["annotations"] = {**meta.get("annotations", {}), **started}
    authentication = cluster["spec"].get("authOptions", {})
    if authentication.get("mode") == "token":
        secret = {"name": authentication.get("secretName") or name, "key": "auth_token"}
        env = template["spec"]["containers"][0].setdefault("env", [])
        names = [each["name"] for each in env]
        if "RAY_AUTH_MODE" not in names:
            env.append({"name": "RAY_AUTH_MODE", "value": "token"})
        if "RAY_AUTH_TOKEN" not in names:
            env.append({"name": "RAY_AUTH_TOKEN", "valueFrom": {"secretKeyRef": secret}})
    return template


def _is_ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any((each["type"], each["status"]) == ("Ready", "True") for each in conditions)


def _head_condition(heads: list[Object]) -> Object:
    condition = {"type": "HeadPodReady", "status": "False"}
    if not heads:
        return {**condition, "reason": "HeadPodNotFound", "message": "Head Pod not found"}
    if _is_ready(heads[0]):
        return {**condition, "status": "True", "reason": "HeadPodRunningAndReady", "message": ""}
    status: dict[str, Any] = heads[0].get("status", {})
    unready = [each for each in status.get("conditions", []) if each["type"] == "Ready"]
    if not unready:
        return {**condition, "reason": "Unknown", "message": ""}
    states = [(each["name"], each["state"]) for each in status["containerStatuses"]]
    told = [(name, state.get("waiting") or state.get("terminated")) for name, state in states]
    details = ", ".join(f"{name}: {why['reason']}: {why.get('message', '')}" for name, why in told if why)
    message = "; ".join(each for each in (unready[0]["message"], details) if each)
    return {**condition, "reason": unready[0]["reason"], "message": message}


def _provisioned(is_so: bool) -> Object:
    if is_so:
        message = "All Ray Pods are ready for the first time"
        return {
            "type": "RayClusterProvisioned",
            "status": "True",
            "reason": "AllPodRunningAndReadyFirstTime",
            "message": message,
        }
    message = "RayCluster Pods are being provisioned for first time"
    reason = "RayClusterPodsProvisioning"
    return {"type": "RayClusterProvisioned", "status": "False", "reason": reason, "message": message}
