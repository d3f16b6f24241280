"""Source as a test writes it, and what is found in it."""

from __future__ import annotations

import os.path
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

from docferry.core.source.calls import DriverCall
from docferry.core.source.program.finding import find_calls
from docferry.core.source.shapes import shown
from docferry.wiring_design import application_source

from support.place import ROOT

APPLICATIONS = ROOT / "tests" / "support" / "source" / "applications"
SHOP = ROOT / "include" / "migrations" / "shop.yaml"
PARSERS = application_source(APPLICATIONS).parsers
_MARK = re.compile(r"(?:#|//) ((?:[PJ]\d\d ?)+)\s*$")


def found_in(**files: str) -> list[str]:
    """The calls of an application of these files (`users__py="..."`), in one line each."""
    return [shown(one) for one in calls_in(**files)]


def calls_in(**files: str) -> list[DriverCall]:
    named = {name.replace("__", "."): dedent(text) for name, text in files.items()}
    return find_calls([PARSERS[os.path.splitext(name)[1]](name, text) for name, text in named.items()])[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """A row of an application's table."""

    mark: str
    call: str
    verdict: str
    by: str
    says: str


def expected_of(application: str) -> list[Expected]:
    lines = (APPLICATIONS / f"{application}.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if re.match(r"\| [PJ]\d\d ", line)]
    return [Expected(mark=mark, call=call, verdict=verdict, by=by, says=says) for mark, call, verdict, by, says in rows]


def marks_in(application: Path) -> Iterator[tuple[str, int, str]]:
    """(file, line, mark) of each comment that marks a call; several on a line in their order."""
    for path in sorted(one for one in application.rglob("*") if one.is_file()):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            found = _MARK.search(line)
            for mark in found.group(1).split() if found else ():
                yield path.relative_to(application).as_posix(), number, mark
