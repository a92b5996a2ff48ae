"""Which of two releases of a package is the newer one."""

from __future__ import annotations

import re

# In their order; a release itself has none of these words.
_STAGES = ("dev", "a", "b", "rc", "", "post")
_RELEASE = re.compile(r"(\d+(?:\.\d+)*)\.?(dev|a|b|rc|post)?(\d*)")


def order_of(release: str) -> tuple[list[int], int, int]:
    """Return what orders releases: a candidate such as 1.0.0rc1 comes before its release, 1.0.0.

    :param release: as :pep:`440` writes it. Of one that has no number, the order is before all others.
    """
    found = _RELEASE.match(release)
    if found is None:
        return [], 0, 0
    numbers = [int(number) for number in found[1].split(".")]
    while numbers and numbers[-1] == 0:
        del numbers[-1]
    return numbers, _STAGES.index(found[2] or ""), int(found[3] or 0)
