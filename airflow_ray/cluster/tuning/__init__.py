"""A hyper-parameter search with Ray Tune, as a task."""
