"""Scripts that run as jobs of Ray: their submission, their output, their end, and what they leave."""
