"""Ray clusters on Kubernetes: the manifest, what keeps a cluster from running work, its making, its end."""
