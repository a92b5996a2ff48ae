"""Durable copies of outputs."""
