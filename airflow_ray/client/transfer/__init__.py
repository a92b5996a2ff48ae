"""Values between a Ray Client and the cluster."""
