"""The gallery: a page for each file of ``examples``, made when the site is built from the file itself and from its run.

Of that ``runs.json`` tells, which ``python -m tools.gallery`` writes.

Besides, links to files that have a page here lead to that page, and pictures for light and dark are those of the theme;
where the Markdown is read by itself, both are as they are written.
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_ray.client.used import memory_size

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
HEADING = ["| task | took | reserved | used at most | made or returned |", "|---|---|---|---|---|"]
# A picture for light and for dark, as GitHub has them.
PICTURE = re.compile(
    r'<picture>\n<source media="\(prefers-color-scheme: dark\)" srcset="([^"]+)">\n<img alt="([^"]+)" src="([^"]+)">\n'
    r"</picture>"
)
IMAGES = "```{{image}} {0}\n:alt: {1}\n:class: only-dark\n```\n\n```{{image}} {2}\n:alt: {1}\n:class: only-light\n```"


def page_of(file: Path) -> str:
    """Return the page of an example: what it shows, what came of a run of it, and all of it."""
    text = file.read_text()
    first, _, more = (ast.get_docstring(ast.parse(text)) or "").partition("\n")
    lines = [f"# {file.stem}", "", first, "", more.strip().replace("``", "`"), ""]
    lines += [*about_run(json.loads((PAGES / "runs.json").read_text())[file.stem]), ""]
    code = "".join(text.splitlines(keepends=True)[ast.parse(text).body[0].end_lineno :])
    lines += [f"The file is `examples/{file.name}`:", "", "```python", code.strip(), "```", ""]
    return "\n".join(lines)


def about_run(run: dict[str, Any]) -> list[str]:
    """Return what came of a run: how long it took and where, each task and the end of the log; or why there is none."""
    if "elsewhere" in run:
        return [run["elsewhere"]]
    if not run:
        return ["No run of it has been measured yet."]
    where = "on {date}, with Python {python}, Airflow {airflow} and Ray {ray}, on a machine of {processors} processors"
    where += " on which other work had a load of {load:g}"
    lines = [f"**A run** took {run['seconds']:g} s: {where.format_map(run)}.", ""]
    if run["tasks"]:
        lines += [*HEADING, *map(row_of, run["tasks"]), "", "The log of the last task ends with:", ""]
    return [*lines, "```text", *run["log"], "```"]


def row_of(task: dict[str, Any]) -> str:
    """Return the row of a task in the table of a run."""
    reserved = ", ".join(f"{amount:g} {name}" for name, amount in task.get("reserved", {}).items()) or "nothing"
    memory = memory_size(task["memory"]) if task.get("memory") else ""
    made = [f"`{key}`: `{each['type']}`{shape_of(each)}" for key, each in task.get("made", {}).items()]
    if "returned" in task:
        made = [f"`{json.dumps(task['returned'])}`"]
    where = reserved if "reserved" in task else "on the Airflow worker"
    return f"| `{task['task']}` | {task['seconds']:g} s | {where} | {memory} | {', '.join(made)} |"


def shape_of(output: dict[str, Any]) -> str:
    """Return shape and size of an output as far as they are known."""
    shape = " x ".join(f"{each:,}" for each in output["shape"] or [])
    return "".join(f", {each}" for each in (shape, f"{output['bytes']:,} bytes" if output["bytes"] else "") if each)


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
