"""Metadata is in setup.cfg, but for the text of README, in which PyPI needs absolute links."""

import configparser
import re
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?![a-z]+:|#)([^)]+)\)")


def long_description(repository: str | None, version: str) -> str:
    """Return README with links that lead from anywhere to the files of this release.

    :param repository: address of the project's repository; without one, a link becomes its text.
    :param version: what the tag of the release is called, without its ``v``.
    """

    def absolute(link: re.Match[str]) -> str:
        mark, text, path = link.groups()
        if repository is None:
            return "" if mark else text
        return f"{mark}[{text}]({repository}/{'raw' if mark else 'blob'}/v{version}/{path})"

    return LINK.sub(absolute, (ROOT / "README.md").read_text())


def repository() -> str | None:
    """Return the address that ``project_urls`` of setup.cfg calls Source, or None."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = config.get("metadata", "project_urls", fallback="").splitlines()
    urls = dict(re.split(r"\s*=\s*", line, maxsplit=1) for line in lines if "=" in line)
    return urls["Source"].rstrip("/") if "Source" in urls else None


def version() -> str:
    """Return the version, which the package itself says; to import it would need what it needs."""
    text = (ROOT / "airflow_ray" / "__init__.py").read_text()
    return re.search(r'^__version__ = "(.+)"', text, re.MULTILINE)[1]


if __name__ == "__main__":
    setup(long_description=long_description(repository(), version()))
