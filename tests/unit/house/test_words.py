"""The words of the product: a sentence says which process, person or program does what."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.house.text import CURRENT_PAGES, SOURCE, name
from support.place import ROOT

BANNED = {
    r"\bwhoever\b": "say which process, program or person",
    r"\bsomebody\b": "say which process, program or person",
    r"\bnobody(?:'s)?\b": "say `no process`, `no client`, `nothing`",
    r"\bof before\b": "say `former`, `earlier`, or what it was",
    r"\b(?:he|him|his|himself)\b": "a process is `it`, a person is `they`",
}
READ_BY_USERS = [
    *(path for path in SOURCE if path.relative_to(ROOT).parts[0] in {"include", "plugins", "dags"}),
    *CURRENT_PAGES,
    *sorted((ROOT / "docs").rglob("*.svg")),
]


@pytest.mark.parametrize("word", BANNED)
def test_source_and_pages_say_who_does_what(word: str) -> None:
    found = [(name(path), *lines) for path in READ_BY_USERS if (lines := lines_with(path, word))]
    assert found == [], BANNED[word]


def lines_with(path: Path, word: str) -> list[str]:
    pattern = re.compile(word, re.IGNORECASE)
    return [
        f"{number}: {line.strip()}"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if pattern.search(line)
    ]
