"""The gateway: an Arrow Flight server on the head, through which Airflow's processes reach their owner without Ray."""
