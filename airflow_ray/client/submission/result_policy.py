"""What may become of a result; an operator asks when its DAG file is parsed, so this loads nothing else."""

from __future__ import annotations

from airflow_ray.exceptions import RayConfigurationError


def check_result(result: str, checkpoint: bool | str) -> None:
    """Check what is to become of the result.

    :raises RayConfigurationError: one of them is not known, or the two do not go together.
    """
    if result not in ("ref", "value"):
        raise RayConfigurationError(f"result must be 'ref' or 'value', got {result!r}")
    check_checkpoint(checkpoint)
    if checkpoint and result == "value":
        raise RayConfigurationError(
            "checkpoint is for an object in the cluster, and result='value' leaves no object there"
        )


def check_checkpoint(checkpoint: bool | str) -> None:
    """Check whether checkpoints are wanted.

    :raises RayConfigurationError: what is said is not known.
    """
    if checkpoint not in (True, False, "best-effort"):
        raise RayConfigurationError(f"checkpoint must be True, False or 'best-effort', got {checkpoint!r}")
