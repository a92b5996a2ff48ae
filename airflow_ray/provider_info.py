"""What Airflow learns of this package without importing the rest of it."""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata; named by the entry point ``apache_airflow_provider``."""
    return {
        "package-name": "airflow-ray",
        "name": "Ray",
        "description": "Run Python on a Ray cluster and hand DataFrames from task to task in its object store.",
        "connection-types": [
            {
                "connection-type": "ray",
                "hook-class-name": "airflow_ray.hooks.ray.RayHook",
                "hook-name": "Ray",
                "ui-field-behaviour": {
                    "hidden-fields": ["schema", "login"],
                    "relabeling": {"host": "Head host", "password": "Token"},
                    "placeholders": {
                        "host": "ray-head.example.com, or {run}-head-svc.ray.svc (empty in mode local)",
                        "port": "8815 in mode gateway, 10001 in mode client, 6379 in mode driver",
                        "password": "16 characters or more in mode gateway",
                        "namespace": "airflow",
                        "connect_timeout": "60",
                        "runtime_env": '{"pip": ["lightgbm"]}',
                        "dashboard_url": "https://ray.example.com",
                        "dashboard_headers": '{"Cookie": "session=..."}',
                        "dashboard_verify": "/etc/ray/dashboard-ca.crt",
                        "object_ttl": "86400",
                        "checkpoint_path": "s3://my-bucket/prefix",
                        "checkpoint_conn_id": "aws_default",
                        "kubernetes_conn_id": "kubernetes_default",
                        "tls_ca_cert": "/etc/ray/ca.crt",
                        "tls_cert": "/etc/ray/airflow.crt",
                        "tls_key": "/etc/ray/airflow.key",
                    },
                },
                "conn-fields": {
                    "mode": {
                        "label": "Mode",
                        "description": (
                            "gateway: from anywhere, over one port, with a token; the one for a remote cluster. "
                            "client: over the Ray Client port. driver: this machine is a node of the cluster. local: "
                            "an embedded Ray on the machine of the task. Unset: client, with a host."
                        ),
                        "schema": {"type": ["string", "null"], "enum": ["gateway", "client", "driver", "local"]},
                    },
                    "namespace": {
                        "label": "Namespace",
                        "description": "Ray namespace in which objects are kept; each has an owner of its own.",
                        "schema": {"type": ["string", "null"], "default": "airflow"},
                    },
                    "connect_timeout": {
                        "label": "Connect timeout",
                        "description": "Seconds until a connection must be there.",
                        "schema": {"type": ["number", "null"], "default": 60},
                    },
                    "runtime_env": {
                        "label": "Runtime environment",
                        "description": 'Ray runtime environment of all tasks as JSON, like {"pip": ["lightgbm"]}.',
                        "schema": {"type": ["object", "null"]},
                    },
                    "dashboard_url": {
                        "label": "Dashboard URL",
                        "description": (
                            "Where people open the Ray dashboard, and mode gateway starts the gateway. Unset: what the "
                            "cluster says, and port 8265 of the host."
                        ),
                        "schema": {"type": ["string", "null"]},
                    },
                    "dashboard_headers": {
                        "label": "Dashboard headers",
                        "description": (
                            "Headers for a proxy before the dashboard, as JSON; a cookie is the header Cookie."
                        ),
                        "schema": {"type": ["object", "null"]},
                    },
                    "dashboard_verify": {
                        "label": "Dashboard verification",
                        "description": (
                            "Who signs the certificate of the dashboard: a file in PEM on the machines of Airflow, or "
                            "its text; false verifies none. Unset: whom this machine trusts."
                        ),
                        "schema": {"type": ["string", "null"]},
                    },
                    "object_ttl": {
                        "label": "Object time to live",
                        "description": (
                            "Seconds after their last use in which objects are released. Unset: as [airflow_ray] "
                            "object_ttl says, else kept."
                        ),
                        "schema": {"type": ["number", "null"]},
                    },
                    "checkpoint_path": {
                        "label": "Checkpoint path",
                        "description": "Where checkpoints go: s3://bucket/prefix, gs://bucket/prefix or file:///folder.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "checkpoint_conn_id": {
                        "label": "Checkpoint connection",
                        "description": "AWS connection for checkpoints. Unset: the cluster's own credentials.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "kubernetes_conn_id": {
                        "label": "Kubernetes connection",
                        "description": (
                            "Of the Kubernetes that tells the address of the head; host is then the name of the "
                            "RayCluster. Unset: the name server tells it."
                        ),
                        "schema": {"type": ["string", "null"]},
                    },
                    "tls": {
                        "label": "TLS",
                        "description": "Whether the cluster runs with RAY_USE_TLS=1; its gateway then speaks TLS too.",
                        "schema": {"type": ["boolean", "null"], "default": False},
                    },
                    "tls_ca_cert": {
                        "label": "TLS CA certificate",
                        "description": (
                            "Of those who sign the cluster's certificates: a file in PEM on the machines of Airflow, "
                            "or its text. Unset: whom this machine trusts."
                        ),
                        "schema": {"type": ["string", "null"]},
                    },
                    "tls_cert": {
                        "label": "TLS certificate",
                        "description": "The certificate of Airflow, which the cluster asks for: a file, or its text.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "tls_key": {
                        "label": "TLS key",
                        "description": "Its private key: better a file that only Airflow can read than the text.",
                        "schema": {"type": ["string", "null"], "format": "password"},
                    },
                },
            }
        ],
        "task-decorators": [{"name": "ray", "class-name": "airflow_ray.decorators.ray_task"}],
        # Read by Airflow from 3.2 on.
        "cli": ["airflow_ray.cli.get_cli_commands"],
        "extra-links": ["airflow_ray.operators.dashboard_link.RayDashboardLink"],
        "triggers": [
            {"integration-name": "Ray", "python-modules": ["airflow_ray.triggers", "airflow_ray.kuberay_triggers"]}
        ],
        "config": {
            "airflow_ray": {
                "description": "Settings of the Ray provider.",
                "options": {
                    "page": {
                        "description": (
                            "Whether Airflow's UI has the Ray page: in its navigation, on each DAG run and on each "
                            "task instance. Read when Airflow starts."
                        ),
                        "version_added": "1.0.0",
                        "type": "boolean",
                        "example": None,
                        "default": "True",
                    },
                    "local_head_dir": {
                        "description": (
                            "Folder for the address, token and log of the embedded Ray head that connections in "
                            "mode local share. A folder for this user in the system's temporary folder if empty."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "/var/lib/airflow/ray",
                        "default": "",
                    },
                    "xcom_conn_id": {
                        "description": (
                            "Connection of the cluster in which RayXComBackend keeps what plain tasks return: that of "
                            "the Ray tasks which get it."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": None,
                        "default": "ray_default",
                    },
                    "xcom_threshold": {
                        "description": (
                            "Size of JSON in bytes up to which RayXComBackend leaves it in Airflow's database, or to "
                            "the inner backend; -1 for any size. Tables, arrays and models always go to Ray."
                        ),
                        "version_added": "0.1.0",
                        "type": "integer",
                        "example": None,
                        "default": "1000000",
                    },
                    "xcom_inner_backend": {
                        "description": (
                            "XCom backend for what RayXComBackend does not put into Ray; Airflow's own if empty."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "airflow.providers.common.io.xcom.backend.XComObjectStorageBackend",
                        "default": "",
                    },
                    "allowed_uri_connections": {
                        "description": (
                            "Comma-separated connections that an object URI may name where it comes from an argument "
                            "or an XCom; any if empty."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "ray_default,ray_gpu",
                        "default": "",
                    },
                    "checkpoint_path": {
                        "description": (
                            "Where checkpoints go unless a task or a connection says: s3://bucket/prefix, "
                            "gs://bucket/prefix or file:///folder."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "s3://my-bucket/ray-checkpoints",
                        "default": "",
                    },
                    "object_ttl": {
                        "description": (
                            "Seconds after their last use in which objects are released, unless a connection says; "
                            "kept if empty."
                        ),
                        "version_added": "1.0.0",
                        "type": "float",
                        "example": "86400",
                        "default": "",
                    },
                },
            }
        },
    }
