"""A hyper-parameter search with Ray Tune, as a task.

:mod:`airflow_ray.client.tuning.report` is a door of its own, for when the search is done: a DAG file is parsed without.
"""

from airflow_ray.client.tuning.options import (
    algorithm,
    check_space,
    is_plain,
    sample_count,
    trial_resources,
    values_of_templates,
)

__all__ = ["algorithm", "check_space", "is_plain", "sample_count", "trial_resources", "values_of_templates"]
