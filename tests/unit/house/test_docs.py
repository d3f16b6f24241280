"""The pages of the repository: links lead somewhere, targets and files that they name exist, Python on them compiles."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.place import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)(?:#[^)]*)?\)")
FILE = re.compile(r"`((?:include|tests|docs|dags|plugins|benchmarks)/[\w./-]+\.\w+)`")
TARGET = re.compile(r"`make ([a-z]+)(?:`| )")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_of_a_page_lead_to_files(page: Path) -> None:
    links = LINK.findall(page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=name)
def test_files_that_a_page_names_exist(page: Path) -> None:
    assert [file for file in FILE.findall(page.read_text()) if not (ROOT / file).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_targets_that_a_page_names_are_in_the_makefile(page: Path) -> None:
    known = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(TARGET.findall(page.read_text())) - known == set()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_python_on_a_page_compiles(page: Path) -> None:
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        compile(block, name(page), "exec", flags=0x2000)  # top-level await
