"""The code that runs on Ray, shipped there by value: it imports only ray, pyarrow and the standard library.

It returns data or raises built-in exceptions; :mod:`airflow_ray.client.errors` turns those into
:mod:`airflow_ray.exceptions`.
"""
