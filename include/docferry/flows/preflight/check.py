"""Everything that can be known of a migration before it begins, in one report: what refuses it, and what is to be known of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from docferry.config import Migration
from docferry.errors import Problem
from docferry.flows.preflight.fields import FieldSeen, look_at_fields
from docferry.flows.preflight.mongodb import check_source, check_stream
from docferry.flows.preflight.names import check_names
from docferry.ports.flows import Source


@dataclass(slots=True, kw_only=True)
class CheckReport:
    """`problems` refuse the migration; `fields` are what the sampled documents say of the mapping; `notes` are sentences."""

    problems: list[Problem] = field(default_factory=list)
    fields: list[FieldSeen] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "ok": self.ok,
            "problems": [{"where": one.where, "what": one.what, "suggestion": one.suggestion} for one in self.problems],
            "fields": [asdict(one) for one in self.fields],
            "notes": list(self.notes),
        }

    def lines(self) -> list[str]:
        """The report for a person: what is wrong, and then what is to be known."""
        return [*(f"  - {one}" for one in self.problems), *(f"  note: {one}" for one in (*self.fields, *self.notes))]


def check_migration(migration: Migration, source: Source) -> CheckReport:
    """Ask MongoDB everything. Reads only. Raises StoreError."""
    report = CheckReport(problems=check_source(migration, source))
    missing = check_names(migration, source)
    report.problems += [*missing, *check_stream(migration, source)]
    if not any(one.where == "source" for one in report.problems):
        wrong, report.fields = look_at_fields(migration, source)
        report.problems += wrong
    return report
