"""What runs in Airflow's processes: all that this package asks of a Ray cluster goes through here."""
