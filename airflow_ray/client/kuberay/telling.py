"""What operators and triggers alike say of a cluster."""

from __future__ import annotations

WAITING = "Waiting for the Ray cluster %s: %s"
NOT_DELETED = "The Ray cluster %s is not deleted, which airflow ray clusters prune does when its run has ended: %s"
