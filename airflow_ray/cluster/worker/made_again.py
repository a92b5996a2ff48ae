"""Work that Ray runs again for an output that was lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


def difference(keys: list[str], error: dict[str, Any] | None, made: list[str] | None) -> str | None:
    """Return why the outputs cannot take the place of what they were, if so: Ray goes by their order alone.

    :param keys: of the outputs, in their order.
    :param error: why there are none, as plain data.
    :param made: the keys of those of the first run, none where nobody knows; None in that run itself.
    """
    if made is None or (error is None and keys == (made or keys)):
        return None
    reason = f"it left {keys} in place of {made}" if error is None else f"it failed: {error.get('message', error)}"
    return f"Ray ran the work again that had made it, and {reason}"


def lost(reason: str, count: int) -> Iterator[Any]:
    """Yield what makes each output, the headers around them too, an object that is lost.

    Ray takes such an error for what has happened to the object. Were it raised, releases before 2.60 would have None in
    the place of the outputs; and 2.60 wants as many as there were.

    :param count: how many outputs there were.
    """
    from ray.exceptions import ObjectLostError, RayTaskError

    class NotMadeAgainError(ObjectLostError):  # type: ignore[misc]  # Ray has no types
        """Tells who needs an output that it is lost, as Ray does, but why in words of this package."""

        def __init__(self, message: str) -> None:
            super().__init__("", None, "")
            self.message = message

        def __str__(self) -> str:
            return self.message

    for _ in range(count + 2):
        yield RayTaskError("run", reason, NotMadeAgainError(reason))
