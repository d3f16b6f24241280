"""The repository's pages and source files, and how a citation in them is found again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from support.place import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
CURRENT_PAGES = [page for page in PAGES if page.name != "CHANGELOG.md"]
"""What says how things are: the changelog says how they were."""
PACKAGE = ROOT / "include" / "docferry"
ROOMS = sorted(path.stem for path in PACKAGE.iterdir() if path.stem[0].islower())
SOURCE = sorted(
    path
    for folder in ("include", "plugins", "dags", "tests", "benchmarks")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".py", ".yaml", ".toml"} and "__pycache__" not in path.parts
)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """The fenced blocks of a page: language ('' without one), text."""
    yield from re.findall(r"^ *```(\w*)\n(.*?)^ *```", page.read_text(), re.DOTALL | re.MULTILINE)


def headings(page: Path) -> list[str]:
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [heading.strip() for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)]


def anchor(heading: str) -> str:
    """The fragment that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-")


def is_file(cited: str, beside: Path) -> bool:
    """Whether a cited path is there: from the repository's root, from a room of the package, or beside the page."""
    return any((root / cited).exists() for root in (ROOT, PACKAGE, ROOT / "include", beside.parent))
