"""The calls of an application, judged by the client of a migration file: of its source, and those that its clients count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from docferry.config import load_migration, parse_migration
from docferry.core.analyze.facts import QueryShape
from docferry.core.analyze.report import Report
from docferry.core.source.bare_file import bare_file
from docferry.core.source.calls import CallVerdict, SourceFindings
from docferry.core.source.shapes import counted_in
from docferry.core.source.table import findings_tables, summary
from docferry.flows.analyze.source import SourceCalls, SourceScan, read_source
from docferry.ports.flows import Progress, StopSignal
from docferry.rehearsal.trial import trial_of
from docferry.wiring_design import application_source


def calls_in(directory: Path, seen: Sequence[QueryShape], progress: Progress, stop: StopSignal) -> SourceCalls:
    """The driver calls of an application. Raises: ConfigError, Stopped."""
    ports = application_source(directory)
    return read_source(SourceScan(tree=ports.tree, parsers=ports.parsers, progress=progress, stop=stop, seen=seen))


def judged(calls: SourceCalls, file: Path | None, proposed: str = "") -> SourceFindings:
    """What becomes of each: by a migration file, by one that was just proposed, or by no more than each collection's `_id`."""
    if file is not None:
        migration, by = load_migration(file), f"the migration file {file}"
    elif proposed:
        migration, by = parse_migration(proposed.encode(), "the proposed migration file"), "the proposed migration file"
    else:
        names = [one.collection for one in calls.calls if one.collection]
        migration = parse_migration(bare_file(names).encode(), "the calls' collections")
        by = "the table key alone: no migration file is given (--file), so each collection lies under its _id, without an index"
    with trial_of(migration) as trial:
        return calls.judged(trial.judge, by)


def with_counted(calls: SourceCalls, shapes: Mapping[str, int]) -> SourceCalls:
    """The calls, with what the running clients count as what DynamoDB could not do."""
    return replace(calls, calls=counted_in(calls.calls, shapes))


def with_source(report: Report, found: SourceFindings) -> Report:
    """The report of a database, with that of its application."""
    return replace(report, first=summary(found), tables=findings_tables(found))


def is_served(found: SourceFindings) -> bool:
    """Whether DynamoDB will serve every call. What was not read may have others."""
    return not found.passed_over and found.count(CallVerdict.SERVED) == len(found.calls)
