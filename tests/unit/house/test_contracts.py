"""CONTRIBUTING says each contract of import-linter by its name, with its reason."""

from __future__ import annotations

import re
import tomllib

from support.place import ROOT

LINE = re.compile(r"^- \*\*(.+?)\*\*: \S.+$", re.MULTILINE)


def test_contributing_lists_the_contracts_that_are_checked() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    page = (ROOT / "CONTRIBUTING.md").read_text()
    section = page.partition("## What may use what")[2].partition("\n## ")[0]
    assert sorted(LINE.findall(section)) == sorted(contract["name"] for contract in contracts)
