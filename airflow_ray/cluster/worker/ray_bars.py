"""Progress bars of Ray Data and others that write their states for a screen of Ray's, as lines for a person."""

from __future__ import annotations

import json
import time

# Of ray.experimental.tqdm_ray.
_MAGIC = b"__ray_tqdm_magic_token__"


class RayBars:
    """The bars that a process has, each of which shows its newest state from time to time, and its last one.

    :param seconds: between two states of a bar.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        # By the bar's id, what it shows and when it may show the next state.
        self._bars: dict[str, tuple[str, float]] = {}

    def shown(self, line: bytes) -> bytes | None:
        """Return what is to be shown of a line; None of a state that is not."""
        if _MAGIC not in line:
            return line
        try:
            state = json.loads(line)
            bar, of = str(state["uuid"]), f"/{state['total']}" if state["total"] is not None else ""
            text = f"{state['desc']}: {state['x']}{of} {str(state['unit']).strip()}".rstrip()
        # Of another release of Ray's, or text of a user that happens to name the same.
        except (ValueError, LookupError, TypeError):
            return line
        before, due = self._bars.get(bar, ("", 0.0))
        now = time.monotonic()
        if state.get("closed"):
            self._bars.pop(bar, None)
            return text.encode() if text != before else None
        if text == before or now < due:
            return None
        self._bars[bar] = text, now + self._seconds
        return text.encode()
