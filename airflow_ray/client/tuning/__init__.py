"""What the client does for a hyper-parameter search: its options, and the report."""
