"""What runs in the process of a task on a Ray worker."""
