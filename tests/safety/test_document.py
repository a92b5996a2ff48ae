"""What SECURITY.md names stands behind it: each test is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
ROW = re.compile(r"^\| (.+?) \| (`.+) \|$", re.MULTILINE)
NAMED = re.compile(r"`(tests/\S+\.py|test_\w+)`")


def rows() -> list[tuple[str, list[str]]]:
    """Return what each row of the page's table says, and what it names."""
    page = (ROOT / "SECURITY.md").read_text()
    return [(claim, NAMED.findall(names)) for claim, names in ROW.findall(page)]


def test_each_test_is_in_one_of_the_files_of_its_row():
    missing = []
    for _, names in rows():
        files = [ROOT / name for name in names if name.startswith("tests/")]
        missing += [str(path) for path in files if not path.exists()]
        text = "".join(path.read_text() for path in files if path.exists())
        missing += [name for name in names if name.startswith("test_") and not re.search(rf"def {name}\(", text)]
    assert missing == []


def test_each_file_of_safety_is_named():
    named = {name for _, names in rows() for name in names}
    there = {str(path.relative_to(ROOT)) for path in (ROOT / "tests" / "safety").glob("test_*.py")}
    assert there - named == {str(Path(__file__).relative_to(ROOT))}
