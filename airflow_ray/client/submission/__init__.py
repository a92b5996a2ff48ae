"""What is sent to the cluster to be run there."""
