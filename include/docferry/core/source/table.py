"""What becomes of each call, as a table: of an application's source, and of the shapes that its clients count. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from docferry.core.pages import Table, html_page, markdown_page
from docferry.core.source.calls import CallVerdict, JudgedCall, SourceFindings
from docferry.core.source.shapes import shown

SCHEMA = 1
_MODES = {"served": "served", "counted": "served by MongoDB, counted", "refused": "refused"}
NOTE = (
    "served: in every mode. needs an access pattern: MongoDB serves and counts it while it leads; DynamoDB refuses it until the "
    "migration file leads to it. refused: what to write instead. unknown: look at the line. JudgedCall by docferry's own client, "
    "which takes pymongo's calls: calls of mongoengine, mongoose and the Node.js driver are judged as the call that they make, "
    "for a client that keeps docs/protocol.md."
)


def verdict_table(calls: Sequence[JudgedCall], title: str = "Calls in the source, and what becomes of them") -> Table:
    """One row a call."""
    return Table(
        title=title,
        head=("where", "call", "verdict", "while MongoDB leads", "once DynamoDB leads", "why", "what to do", "seen"),
        rows=[_row(one) for one in calls],
        note=NOTE,
        numbers=frozenset({7}),
    )


def _row(one: JudgedCall) -> tuple[str, ...]:
    seen = f"{one.call.calls:,}" if one.call.calls is not None else ""
    return (
        one.call.place, shown(one.call), str(one.verdict), _before(one), _after(one), one.why, one.advice, seen,
    )  # fmt: skip


def _before(one: JudgedCall) -> str:
    said = {mode: state for mode, state in one.modes.items() if mode != "DYNAMODB_ONLY"}
    if set(said.values()) == {"served", "counted"}:
        return "served; counted in " + " and ".join(mode for mode, state in said.items() if state == "counted")
    return " or ".join(dict.fromkeys(_MODES[state] for state in said.values()))


def _after(one: JudgedCall) -> str:
    said = _MODES.get(one.modes.get("DYNAMODB_ONLY", ""), "")
    return f"{said} by {one.by}" if said == "served" and one.by else said


def summary(found: SourceFindings) -> list[str]:
    """What comes first of a report."""
    counts = ", ".join(f"{found.count(verdict)} {verdict}" for verdict in CallVerdict)
    lines = [f"Source: {len(found.calls)} driver calls in {found.files:,} files of {found.directory}: {counts}."]
    lines.append(f"Judged by {found.judged_by}.")
    if found.skipped:
        shown_of = ", ".join(f"{one.path} ({one.why})" for one in found.skipped[:10])
        more = f", and {len(found.skipped) - 10} more" if len(found.skipped) > 10 else ""
        lines.append(f"Skipped: {shown_of}{more}.")
    lines += [f"Not read: {one.path}: {one.why}." for one in found.passed_over[:20]]
    if len(found.passed_over) > 20:
        lines.append(f"Not read: {len(found.passed_over) - 20} more, see the report.")
    return lines


def findings_tables(found: SourceFindings) -> list[Table]:
    """The tables of a report."""
    rows = [(one.path, one.why) for one in [*found.passed_over, *found.skipped]]
    tables = [verdict_table(found.calls)]
    if rows:
        tables.append(Table(title="Source that was not read", head=("file or directory", "why"), rows=rows))
    return tables


def findings_text(calls: Sequence[JudgedCall]) -> str:
    """For a terminal: each call that needs something, by file, and what that is."""
    return "\n".join(_lines(calls))


def _lines(calls: Sequence[JudgedCall]) -> Iterator[str]:
    file: str | None = None
    for one in calls:
        if one.call.file != file:
            file = one.call.file
            yield file or "seen running, and in no file of the source:"
        line = f"{one.call.line:>6}" if one.call.file else " " * 6
        times = f", seen {one.call.calls:,} time(s)" if one.call.calls is not None else ""
        by = f" by {one.by}" if one.verdict is CallVerdict.SERVED and one.by else ""
        yield f"{line}  {one.verdict}{by}: {shown(one.call)}{times}"
        if one.why:
            yield f"        {one.why}" + (f"; {one.advice}" if one.advice else "")


def findings_body(found: SourceFindings) -> dict[str, Any]:
    """For machines."""
    return {
        "schema": SCHEMA,
        "directory": found.directory,
        "files": found.files,
        "judged_by": found.judged_by,
        "counts": {str(verdict): found.count(verdict) for verdict in CallVerdict},
        "calls": judged_bodies(found.calls),
        "passed_over": [asdict(one) for one in found.passed_over],
        "skipped": [asdict(one) for one in found.skipped],
    }


def judged_bodies(calls: Sequence[JudgedCall]) -> list[dict[str, Any]]:
    """Calls with their verdicts, for machines: names and operators, no values."""
    return [
        {
            "file": one.call.file, "line": one.call.line, "driver": one.call.driver, "written": one.call.written,
            "collection": one.call.collection, "method": one.call.method, "call": shown(one.call), "verdict": str(one.verdict),
            "modes": dict(one.modes), "by": one.by, "why": one.why, "advice": one.advice, "seen": one.call.calls,
        }
        for one in calls
    ]  # fmt: skip


def source_files(found: SourceFindings) -> dict[str, str]:
    """The report of source alone: file name -> text."""
    title, about = f"Driver calls in {found.directory}", f"{found.files:,} files were read; nothing of them was run"
    return {
        "source.html": html_page(title, about, summary(found), findings_tables(found)),
        "source.md": markdown_page(title, summary(found), findings_tables(found)),
        "source.json": json.dumps(findings_body(found), indent=1),
    }
