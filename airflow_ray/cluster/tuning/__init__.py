"""A hyper-parameter search with Ray Tune, as a task.

Its doors are :mod:`~airflow_ray.cluster.tuning.search`, which runs on the cluster, and
:mod:`~airflow_ray.cluster.tuning.space`, which a DAG file loads: so this loads neither.
"""
