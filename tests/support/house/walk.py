"""A page whose commands are run as they stand: its files, its commands block by block, and what it says that they print."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SAVED = re.compile(r"Save (?:this|it) as `([\w.]+)`:\Z")
NUMBER = re.compile(r"\d[\d.,:T+-]*\d|\d")
DIGEST = re.compile(r"\b(?=[0-9a-f]*\d)(?:[0-9a-f]{8}|[0-9a-f]{12})\b")
HOST = re.compile(r"@\S+")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
HEADING = re.compile(r"^## ([^\n]*)$", re.M)
MARK = "===== block"


@dataclass(slots=True)
class Step:
    """A block of commands, and the lines that the page shows below it."""

    section: str
    commands: str
    shown: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Walk:
    """What a page says, in its order."""

    files: dict[str, str]
    steps: Sequence[Step]

    def script(self, *, without: str) -> str:
        """The commands of all sections but one as a script of bash, which says which block it begins."""
        blocks = [f"echo '{MARK} {n}'\n{one.commands}" for n, one in enumerate(self.steps) if one.section != without]
        return "set -e\n" + "\n".join(blocks)

    def commands(self, section: str) -> str:
        return "\n".join(one.commands for one in self.steps if one.section == section)


def walk_of(page: Path) -> Walk:
    """Read a page. A `python` block is a file whose name ends the paragraph above it; a `text` block is what the commands
    before it print."""
    files: dict[str, str] = {}
    steps: list[Step] = []
    section = ""
    parts = BLOCK.split(page.read_text())
    for prose, language, text in zip(parts[::3], parts[1::3], parts[2::3], strict=False):
        section = (HEADING.findall(prose) or [section])[-1]
        if language == "sh":
            steps.append(Step(section=section, commands=text))
        elif language == "text":
            steps[-1].shown += text.splitlines()
        elif language == "python":
            named = SAVED.search(prose.strip())
            assert named, f"the page does not say where this is saved: {text[:60]}"
            files[named[1]] = text
    return Walk(files=files, steps=steps)


def printed_by_block(output: str) -> dict[int, list[str]]:
    """What each block has printed, by its number."""
    found: dict[int, list[str]] = {}
    for part in output.split(f"{MARK} ")[1:]:
        number, _, text = part.partition("\n")
        found[int(number)] = text.splitlines()
    return found


def not_printed(shown: Sequence[str], printed: Sequence[str]) -> list[str]:
    """The lines of a page that were not printed, in their order. Numbers, digests and hosts may be others; `...` stands for any
    text at the end of a line, and for any lines."""
    rest = iter([_form(line) for line in printed])
    return [line for line in shown if line.strip() != "..." and not _comes(line, rest)]


def _comes(line: str, rest: Iterator[str]) -> bool:
    wanted = _form(line)
    # What comes next goes on behind the line that was found.
    return any(one == wanted or (wanted.endswith(" ...") and one.startswith(wanted[:-4])) for one in rest)


def _form(line: str) -> str:
    line = HOST.sub("@host", DIGEST.sub("#", line))
    return " ".join(NUMBER.sub("#", line).split())
