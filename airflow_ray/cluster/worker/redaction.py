"""Secrets of a runtime environment, kept out of what leaves the process of the work.

Airflow masks what it knows of, but its triggerer shows log lines too and knows none of a task's secrets.
"""

from __future__ import annotations

from typing import Any

# As Airflow, which masks nothing shorter.
MIN_BYTES = 5


STARS = "***"


def secrets_of_runtime_env() -> list[str]:
    """Return the values of the environment variables that this work was given, line by line, the longest first."""
    import ray

    values = ray.get_runtime_context().runtime_env.get("env_vars", {}).values()
    lines = {line for value in values for line in str(value).splitlines() if len(line) >= MIN_BYTES}
    return sorted(lines, key=len, reverse=True)


def redacted(text: Any, secrets: list[str]) -> Any:
    """Return ``text`` with stars in place of secrets, or as it is what is no text."""
    for secret in secrets if isinstance(text, str) else ():
        text = text.replace(secret, STARS)
    return text
