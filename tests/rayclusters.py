"""As much of an API server of Kubernetes as tells where the heads of RayClusters are."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from airflow_ray.client.run_cluster import installation

PATH = re.compile(r"/apis/ray\.io/v1/namespaces/(?P<namespace>[^/]+)/rayclusters(/(?P<name>[^/]+))?")


class RayClusters:
    """The server, and the RayClusters that it knows, by namespace and name."""

    def __init__(self) -> None:
        self.statuses: dict[tuple[str, str], dict[str, Any]] = {}
        #: Of those that this Airflow has made.
        self.annotations: dict[tuple[str, str], dict[str, str]] = {}
        #: The address of all others.
        self.elsewhere: str | None = None
        #: What it answers instead, status and body.
        self.answer: tuple[int, dict[str, Any]] | None = None
        #: Namespace and name of each that it was asked for.
        self.asked: list[tuple[str, str]] = []
        clusters = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                url = urlsplit(self.path)
                found = PATH.fullmatch(url.path)
                place = (found["namespace"], found["name"] or "") if found else ("", "")
                clusters.asked.append(place)
                status, body = clusters.answer or (clusters._found(*place) if place[1] else clusters._listed(url.query))
                text = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def connection(self, **extra: str) -> str:
        """The Airflow connection to it."""
        kube_config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{self._server.server_port}"}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        return json.dumps({"conn_type": "kubernetes", "extra": {"kube_config": kube_config, **extra}})

    def set_address(self, name: str, address: str, namespace: str = "default", **annotations: str) -> None:
        """Say where the head of a RayCluster is, and for which ids this Airflow has made it."""
        self.statuses[namespace, name] = {"state": "ready", "head": {"serviceIP": address, "podIP": address}}
        self.annotations[namespace, name] = annotations

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()

    def _listed(self, query: str) -> tuple[int, dict[str, Any]]:
        """Return those of this Airflow, which are those with annotations."""
        assert parse_qs(query)["labelSelector"] == [f"airflow-ray/installation={installation()}"]
        items = [
            {
                "metadata": {
                    "name": name,
                    "annotations": {f"airflow-ray/{key.replace('_', '-')}": notes[key] for key in notes},
                }
            }
            for (_, name), notes in self.annotations.items()
            if notes
        ]
        return 200, {"items": items}

    def _found(self, namespace: str, name: str) -> tuple[int, dict[str, Any]]:
        status = self.statuses.get((namespace, name))
        if status is None and self.elsewhere is not None:
            status = {"head": {"serviceIP": self.elsewhere}}
        if status is None:
            details = {"name": name, "group": "ray.io", "kind": "rayclusters"}
            message = f'rayclusters.ray.io "{name}" not found'
            return 404, {"kind": "Status", "message": message, "details": details, "code": 404}
        return 200, {"metadata": {"name": name, "namespace": namespace}, "status": status}
