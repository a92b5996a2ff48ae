"""The connection to a cluster, one module for each way in."""
