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
                    "hidden-fields": ["schema", "login", "password"],
                    "relabeling": {"host": "Head host", "port": "Ray Client port"},
                    "placeholders": {
                        "host": "ray-head.example.com (empty: an embedded Ray on this machine)",
                        "port": "10001",
                    },
                },
                "conn-fields": {
                    "mode": {
                        "label": "Mode",
                        "description": "client with a host and local without, unless set",
                        "schema": {"type": ["string", "null"], "enum": ["client", "driver", "local"]},
                    },
                    "namespace": {
                        "label": "Namespace",
                        "description": "Ray namespace in which objects are kept; airflow unless set",
                        "schema": {"type": ["string", "null"]},
                    },
                    "connect_timeout": {
                        "label": "Connect timeout",
                        "description": "Seconds until a connection must be there; 60 unless set",
                        "schema": {"type": ["number", "null"]},
                    },
                    "runtime_env": {
                        "label": "Runtime environment",
                        "description": 'Ray runtime environment of all tasks as JSON, like {"pip": ["lightgbm"]}',
                        "schema": {"type": ["string", "null"]},
                    },
                    "dashboard_url": {
                        "label": "Dashboard URL",
                        "description": "Where people open the Ray dashboard; what the cluster says unless set",
                        "schema": {"type": ["string", "null"]},
                    },
                    "object_ttl": {
                        "label": "Object time to live",
                        "description": "Seconds after their last use in which objects are released; kept unless set",
                        "schema": {"type": ["number", "null"]},
                    },
                    "checkpoint_path": {
                        "label": "Checkpoint path",
                        "description": "s3://bucket/prefix, gs://bucket/prefix or file:///folder",
                        "schema": {"type": ["string", "null"]},
                    },
                    "checkpoint_conn_id": {
                        "label": "Checkpoint connection",
                        "description": "AWS connection for checkpoints; the cluster's own credentials unless set",
                        "schema": {"type": ["string", "null"]},
                    },
                },
            }
        ],
        "task-decorators": [{"name": "ray", "class-name": "airflow_ray.decorators.ray_task"}],
        # Read by Airflow from 3.2 on.
        "cli": ["airflow_ray.cli.get_cli_commands"],
        "extra-links": ["airflow_ray.operators.dashboard_link.RayDashboardLink"],
        "triggers": [{"integration-name": "Ray", "python-modules": ["airflow_ray.triggers"]}],
        "config": {
            "airflow_ray": {
                "description": "Settings of the Ray provider.",
                "options": {
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
                },
            }
        },
    }
