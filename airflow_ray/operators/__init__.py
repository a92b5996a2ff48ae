"""What a DAG author instantiates."""
