"""Every refusal of the client is named on its page, and no other: what an error says is found there by its words."""

from __future__ import annotations

import re

from support.house.refusals import refusals
from support.place import ROOT

PAGE = (ROOT / "docs" / "client-calls.md").read_text()


def test_page_names_every_refusal_and_no_other() -> None:
    section = PAGE.partition("\n## Every refusal\n")[2]
    double = re.findall(r"`` (.*?) ``", section)
    named = {
        *double,
        *(one for one in re.findall(r"`([^`]+)`", re.sub(r"`` .*? ``", "", section)) if " " in one or "…" in one),
    }
    assert refusals() - named == set()
    assert {one for one in named if "…" in one} - refusals() == set()
