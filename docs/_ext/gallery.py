"""The gallery: a page for each file of ``examples``, made from the file itself when the site is built.

Besides, links to files that have a page here lead to that page, and pictures for light and dark are those of the theme;
where the Markdown is read by itself, both are as they are written.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

from tools.source_texts import named, text_of

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PAGES = ROOT / "docs" / "examples"
LINK = re.compile(r"\]\((?:\.\./)+examples/(\w+)\.py\)")
# What lies at the top of the repository, and its page.
AT_TOP = {
    "SECURITY.md": "secure/threat_model.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
}
INCLUDED = "```{{include}} ../../{}\n:relative-docs: docs/\n```\n"
RESERVES = re.compile(
    r"\b(num_cpus|num_gpus|memory|resources_per_trial|num_workers|max_concurrent_trials)\s*=\s*([^,)\n]+)"
)
# A picture for light and for dark, as GitHub has them.
PICTURE = re.compile(
    r'<picture>\n<source media="\(prefers-color-scheme: dark\)" srcset="([^"]+)">\n<img alt="([^"]+)" src="([^"]+)">\n'
    r"</picture>"
)
IMAGES = "```{{image}} {0}\n:alt: {1}\n:class: only-dark\n```\n\n```{{image}} {2}\n:alt: {1}\n:class: only-light\n```"


def page_of(file: Path) -> str:
    """Return the page of an example: what it shows, what it reserves and prints, and all of it."""
    text = file.read_text()
    first, _, more = (ast.get_docstring(ast.parse(text)) or "").partition("\n")
    lines = [f"# {file.stem}", "", first, "", more.strip().replace("``", "`"), ""]
    reserves = dict.fromkeys(f"`{name}={value.strip()}`" for name, value in RESERVES.findall(text))
    if reserves:
        lines += [f"**It reserves** {', '.join(reserves)}; a Ray task that does not say reserves one CPU.", ""]
    if printed := prints(text):
        lines += ["**It prints**", "", *(f"- ``` {each} ```" for each in printed), ""]
    code = "".join(text.splitlines(keepends=True)[ast.parse(text).body[0].end_lineno :])
    lines += [f"The file is `examples/{file.name}`:", "", "```python", code.strip(), "```", ""]
    return "\n".join(lines)


def prints(source: str) -> list[str]:
    """Return what a file prints, with an ellipsis for what is filled in."""
    calls = [each for each in ast.walk(ast.parse(source)) if isinstance(each, ast.Call) and named(each.func) == "print"]
    texts = (" ".join(text_of(argument) or "…" for argument in call.args) for call in calls)
    return [text for text in dict.fromkeys(texts) if text.strip("… ")]


def write_pages(_: Sphinx) -> None:
    """Write the pages that are not there or not of today, and delete those whose example is gone."""
    pages = {PAGES / f"{file.stem}.md": page_of(file) for file in EXAMPLES.glob("*.py")}
    pages |= {ROOT / "docs" / page: INCLUDED.format(file) for file, page in AT_TOP.items() if (ROOT / file).exists()}
    earlier = {page for page in PAGES.glob("*.md") if page.name != "index.md"} | {
        ROOT / "docs" / page for page in AT_TOP.values()
    }
    for page in earlier - pages.keys():
        page.unlink(missing_ok=True)
    for page, text in pages.items():
        if not page.exists() or page.read_text() != text:
            page.write_text(text)


def adapt(app: Sphinx, name: str, source: list[str]) -> None:
    """Let links lead to pages, and pictures follow the theme."""
    up = "../" * name.count("/")
    source[0] = LINK.sub(lambda link: f"]({up}examples/{link[1]}.md)", source[0])
    source[0] = PICTURE.sub(lambda picture: IMAGES.format(*picture.groups()), source[0])
    for file, page in AT_TOP.items():
        source[0] = source[0].replace(f"](../{up}{file})", f"]({up}{page})")


def setup(app: Sphinx) -> dict[str, bool]:
    """Have the pages written before Sphinx looks for them."""
    app.connect("builder-inited", write_pages)
    app.connect("source-read", adapt)
    return {"parallel_read_safe": True}
