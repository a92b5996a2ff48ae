"""Check the English of pages, errors and log lines: spelling, and a few rules; a part of ``make docs``.

Spelling needs the extra ``docs``; its words are those of a dictionary and of ``docs/words.txt``. The rules are in
:data:`RULES`.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from tools.source_texts import modules, named, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
WORDS = DOCS / "words.txt"
LONGEST_SENTENCE = 45
RULES = {
    r"(?<!there )\b(are|is|were|was) none\b(?! of| left)": "say what it is not: 'are not valid', 'is not a manifest'",
    r"(?<!there )\b(are|is|were|was) no (?!longer|more |less |other)": "'is not a …'",
    r"\b(\w+) \1\b": "a word twice",
    r"\b(e\.g|i\.e|etc|cf)\.": "write it out: 'for example', 'that is', 'and so on'",
    r"\b(simply|obviously|of course|easily)\b": "leave it out: it is not simple for who reads this",
    r"\b(can not)\b": "cannot",
    r"\b(allows|enables) to\b": "'lets you', or 'with it you can'",
    r"\b(informations|datas|softwares|the both)\b": "is no word of English in this form",
    r"\b\w+(?<!pr)(?<!s)iz(e|es|ed|ing|ation)\b": "British spelling: -ise",
    r"\b(color|behavior|favor|honor|center|analyze|license[sd]|canceled)s?\b": "British spelling",
    r"\b(please|sorry|oops)\b": "say what to do",
    r"\bto be had\b": "'is not available', 'cannot be read'",
}
# Words that are the same in all of English, and what others call things.
NAMES = {"size", "sizes", "sized", "resize", "materialize", "materialized"}


class Text(NamedTuple):
    """A piece of prose, and where it stands."""

    where: str
    text: str


def main() -> int:
    """Print what is wrong, one a line, and return how many there are."""
    faults = [*broken_rules(), *malformed_links(), *unknown_words()]
    for fault in faults:
        print(fault)
    return len(faults)


def broken_rules() -> list[str]:
    """Return each place at which a rule is broken, or a sentence is too long to be read once."""
    faults = []
    for where, text in (*of_pages(), *of_code()):
        for pattern, advice in RULES.items():
            for found in re.finditer(pattern, text, re.IGNORECASE):
                if found[0].lower() not in NAMES:
                    faults.append(f"{where}: {found[0]!r}: {advice}")
    for where, text in of_pages():
        for sentence in re.split(r"(?<=[.:;!?])\s", text):
            if len(sentence.split()) > LONGEST_SENTENCE:
                faults.append(f"{where}: {len(sentence.split())} words: {sentence[:60]}…")
    return faults


def malformed_links() -> list[str]:
    """Return links to elsewhere that cannot be right: where they lead is not asked, as there is no network."""
    faults = []
    for page in pages():
        for link in re.findall(r"\]\((\w+:[^)]*)\)", page.read_text()):
            parts = urlsplit(link)
            if parts.scheme != "https" or "." not in parts.netloc or " " in link:
                faults.append(f"{name_of(page)}: {link}: not an address that begins with https://")
    return faults


def unknown_words() -> list[str]:
    """Return each word that neither the dictionary nor our list has."""
    from spylls.hunspell import Dictionary

    dictionary = Dictionary.from_files("en_US")
    known = set(WORDS.read_text().split())
    seen: dict[str, str] = {}
    for where, text in (*of_pages(), *of_code()):
        for word in re.findall(r"(?<![\w.])[A-Za-z]+(?:'[a-z]+)?(?![\w])", text):
            seen.setdefault(word, where)
    return [f"{where}: {word}: unknown" for word, where in seen.items() if not is_known(word, known, dictionary.lookup)]


def is_known(word: str, known: set[str], lookup: object) -> bool:
    """Return whether a word is spelt as some list has it; names in capitals and of classes are not looked up."""
    stem = word.removesuffix("'s")
    return (
        stem in known
        or stem.lower() in known
        or not (stem.islower() or stem.istitle())
        or bool(lookup(word))  # type: ignore[operator]
        or bool(lookup(word.lower()))  # type: ignore[operator]
    )


def pages() -> list[Path]:
    """Return the pages, but for those that are made when the site is built."""
    at_top = [ROOT / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md")]
    of_site = [page for page in sorted(DOCS.rglob("*.md")) if "_build" not in page.parts]
    return [page for page in (*at_top, *of_site) if page.exists() and not is_made(page)]


def is_made(page: Path) -> bool:
    """Return whether a page is made from an example, or from a file at the top."""
    return (page.parent.name == "examples" and page.stem != "index") or "```{include} ../../" in page.read_text()


def of_pages() -> Iterator[Text]:
    """Yield the paragraphs, cells and items of the pages, without code and addresses."""
    for page in pages():
        text = re.sub(r"^ *(```|~~~).*?^ *\1[^\n]*$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        text = re.sub(r"(?<=\n\n)((    |\t)[^\n]*\n+)+", "\n", text)
        text = re.sub(r"(`+)(?!`).+?(?<!`)\1(?!`)", "…", text, flags=re.DOTALL)
        text = re.sub(r"(\]\([^)]*\))|<[^>]*>|https?://\S+", " ", text)
        for part in re.split(r"\n\s*\n|\n(?=[-*|#]|\d\.)|\|", text):
            if plain := " ".join(re.sub(r"[*#\[\]!|]", "", part).split()):
                yield Text(name_of(page), plain)


def of_code() -> Iterator[Text]:
    """Yield the texts of errors and log lines, with … for what they are filled with."""
    for file, tree in modules():
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and says(call):
                for argument in call.args:
                    if text := re.sub(r"%\w", "…", text_of(argument)):
                        yield Text(f"{name_of(file)}:{argument.lineno}", text)


def says(call: ast.Call) -> bool:
    """Return whether a call makes an error or a log line."""
    name = named(call.func)
    return name.endswith("Error") or name in ("info", "warning", "error", "exception", "_Row", "_of_checkpoint")


def name_of(file: Path) -> str:
    """Return the name of a file within the project."""
    return str(file.relative_to(ROOT))


if __name__ == "__main__":
    sys.exit(min(main(), 1))
