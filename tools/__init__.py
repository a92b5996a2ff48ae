"""Commands of this checkout: the demo and the user interface, on a real Airflow of its own."""
