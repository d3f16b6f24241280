"""Pages and source name only what is there: files, sections, modules, targets of make."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from support.house.text import CURRENT_PAGES, PACKAGE, PAGES, ROOMS, SOURCE, anchor, blocks, headings, is_file, name
from support.place import ROOT

LINK = re.compile(r"\]\((?!https?://)([^)#\s]*)(?:#([^)\s]+))?\)")
TARGET = re.compile(r"`make ([a-z]+)(?:`| )")
FOLDERS = "|".join(["docs", "tests", "include", "dags", "plugins", "benchmarks", "docferry", *ROOMS])
FILE = re.compile(rf"(?<![\w/.:*-])((?:{FOLDERS})/(?:[\w-]+/)*[\w-]+\.(?:py|md|yaml|json|svg|png))\b")
FOLDER_OR_MODULE = re.compile(rf"`((?:{FOLDERS})/[\w/-]+)`")
IN_PICTURE = re.compile(rf"\b((?:{FOLDERS})/[\w/]+)")
SECTION = re.compile(r'(docs/[\w/-]+\.md),\s+"([^"]+)"')
MODULE = re.compile(rf"`(?:docferry\.)?((?:{'|'.join(ROOMS)})\.[a-z]\w*(?:\.\w+)*)`")
NO_MODULES = ("config.system.", "client.calls", "client.failures", "client.latency", "client.events")
"""MongoDB's own collections, and the client's metrics."""
ELSEWHERE = re.compile(
    r"\b(?:DESIGN|HOUSE|RULES|STYLE|LIMITS|EMULATORS|AIRFLOW)(?:\.md\b|'s section|,? (?:section )?\d)"
)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_of_a_page_lead_to_files_and_headings(page: Path) -> None:
    broken = []
    for link, fragment in LINK.findall(page.read_text()):
        to = page.parent / link if link else page
        if not to.exists() or (fragment and fragment not in map(anchor, headings(to))):
            broken.append((link, fragment))
    assert broken == []


@pytest.mark.parametrize("page", CURRENT_PAGES, ids=name)
def test_files_folders_and_modules_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text()
    modules = FOLDER_OR_MODULE.findall(text)
    modules += [path for language, block in blocks(page) if language == "mermaid" for path in IN_PICTURE.findall(block)]
    cited = FILE.findall(text) + [path for path in modules if not is_file(f"{path}.py", page)]
    assert [path for path in cited if not is_file(path, page)] == []


def test_files_that_source_names_exist() -> None:
    made = ("tests/unit/house", "tests/support/house")
    missing = [
        (name(path), cited)
        for path in SOURCE
        if not name(path).startswith(made)
        for cited in FILE.findall(path.read_text())
        if not is_file(cited, path)
    ]
    assert missing == []


def test_sections_that_source_and_pages_name_exist() -> None:
    missing = [
        (name(path), page, section)
        for path in [*SOURCE, *CURRENT_PAGES]
        for page, section in SECTION.findall(path.read_text())
        if section not in headings(ROOT / page)
    ]
    assert missing == []


def test_modules_that_source_and_pages_name_exist() -> None:
    missing = [
        (name(path), cited)
        for path in [*SOURCE, *CURRENT_PAGES]
        for cited in MODULE.findall(path.read_text())
        if not _is_module_or_name(cited)
    ]
    assert missing == []


def test_nothing_cites_a_page_outside_the_repository() -> None:
    cited = [(name(path), found) for path in [*SOURCE, *PAGES] for found in ELSEWHERE.findall(path.read_text())]
    assert cited == []


@pytest.mark.parametrize("picture", sorted((ROOT / "docs").rglob("*.svg")), ids=name)
def test_pictures_are_well_formed(picture: Path) -> None:
    ElementTree.parse(picture)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_targets_that_a_page_names_are_in_the_makefile(page: Path) -> None:
    known = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(TARGET.findall(page.read_text())) - known == set()


def _is_module_or_name(cited: str) -> bool:
    """Whether `room.module.Name` is there: the longest part that is a module or package, and each further name in its text."""
    if cited.startswith(NO_MODULES):
        return True
    parts = cited.split(".")
    for length in range(len(parts), 0, -1):
        path = PACKAGE.joinpath(*parts[:length])
        module = path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "__init__.py"
        if module.exists():
            return all(re.search(rf"\b{rest}\b", module.read_text()) for rest in parts[length:])
    return False
