"""What of a connection works, and what to do about the rest."""
