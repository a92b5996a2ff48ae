"""The hooks, which Airflow looks up by name."""
