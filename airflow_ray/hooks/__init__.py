"""The hook that talks to Ray, and what it needs."""
