"""Everything that can be known of a migration before it begins, in one report: what refuses it, and what is to be known of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from docferry.config import Migration
from docferry.core.estate.resources import AwsCall
from docferry.errors import Problem, StoreError, TableMissing
from docferry.flows.kernel.migrated import hottest_of
from docferry.flows.ledger.budget import budget_of
from docferry.flows.ledger.mapping_fingerprint import changed_mappings
from docferry.flows.ledger.rooms.owners import not_owned
from docferry.flows.preflight.fates import fates_of
from docferry.flows.preflight.fields import FieldSeen, look_at_fields, look_at_filters, look_at_transforms
from docferry.flows.preflight.mongodb import check_stream, collection_problems, index_problems, server_problems
from docferry.flows.preflight.names import check_names
from docferry.flows.preflight.permissions import PermissionReport, permissions_of
from docferry.flows.preflight.wide import wide_notes
from docferry.ports.flows import Estate, Ledger, Source


@dataclass(slots=True, kw_only=True)
class CheckReport:
    """`problems` refuse the migration; `fields` are what the sampled documents say of the mapping; `notes` are sentences."""

    problems: list[Problem] = field(default_factory=list)
    fields: list[FieldSeen] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    permissions: PermissionReport | None = None

    @property
    def ok(self) -> bool:
        return not self.problems and not (self.permissions and self.permissions.lacking)

    @property
    def found(self) -> str:
        """How much is wrong."""
        lacking = len(self.permissions.lacking) if self.permissions else 0
        return f"{len(self.problems)} problem(s)" + (f", {lacking} lacking permission(s)" if lacking else "")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "ok": self.ok,
            "problems": [{"where": one.where, "what": one.what, "suggestion": one.suggestion} for one in self.problems],
            "fields": [asdict(one) for one in self.fields],
            "notes": list(self.notes),
        } | ({"permissions": asdict(self.permissions)} if self.permissions else {})

    def lines(self) -> list[str]:
        """The report for a person: what is wrong, and then what is to be known."""
        asked = self.permissions or PermissionReport(lacking=(), unchecked=())
        told = [f"  - {one}" for one in self.problems] + [f"  lacking: {one}" for one in asked.lacking]
        return told + [f"  note: {one}" for one in (*self.fields, *self.notes, *asked.unchecked)]


def check_migration(migration: Migration, source: Source) -> CheckReport:
    """Ask MongoDB everything. Reads only. Raises StoreError."""
    facts = source.facts_of([settings.name for settings in migration.collections])
    report = CheckReport(problems=list(server_problems(source.server_facts())))
    served = not report.problems
    report.problems += [*collection_problems(migration, facts), *index_problems(migration, facts)]
    report.problems += check_names(migration, source)
    report.problems += check_stream(migration, source)
    if served:
        wrong, report.fields = look_at_fields(migration, source)
        report.problems += [*wrong, *look_at_transforms(migration, source)]
        split, told = look_at_filters(migration, source, facts)
        report.problems += split
        report.notes += told
    report.notes += [*fates_of(migration.collections, facts, source.catalog()), *wide_notes(migration, source)]
    if served:
        report.notes += _hot_notes(migration, source)
    return report


def _hot_notes(migration: Migration, source: Source) -> Iterator[str]:
    """Partitions that the load is paced for."""
    rate = budget_of(migration)
    for name, mapping in migration.mappings.items():
        found = hottest_of(source, mapping)
        if found is not None and found.is_hot(rate):
            yield f"{name}: {found.text(rate)}. {_HOT}"


_HOT = (
    "The load goes no faster than that, and so would the application's own writes. Spread the key (a suffix of a few values), or "
    "index only what is asked for (`when`)"
)


def notes_of_file(migration: Migration) -> Iterator[str]:
    """What the file alone leaves out, if only by saying nothing."""
    unordered = [name for name, mapping in migration.mappings.items() if not mapping.keeps_order]
    if unordered:
        yield (
            f"{', '.join(unordered)}: the order of fields is not kept (order: ignore, as where the file says nothing). MongoDB "
            "compares whole subdocuments by it, DynamoDB has none: order: keep has it beside each item"
        )


def check_permissions(migration: Migration, source: Source, estate: Estate | None, report: CheckReport) -> None:
    """Add what phases lack, and what could not be known. Raises StoreError."""
    report.permissions = permissions_of(migration, source, estate)


def check_ledger(migration: Migration, ledger: Ledger, report: CheckReport, estate: Estate | None = None) -> None:
    """Add what the ledger says, and with `estate` the tables' tags: a collection that was loaded by another mapping, a table that
    is another migration's. A note says so if they cannot be asked."""
    try:
        report.problems += not_owned(migration, ledger, estate.fetch_table if estate is not None else None)
    except StoreError as error:
        report.notes.append(f"it was not asked whose the tables are: {error}")
    if estate is not None:
        _check_buckets(migration, estate, report)
    try:
        report.problems += changed_mappings(migration, ledger)
    except TableMissing:
        return  # nothing has been provisioned, so nothing was loaded
    except StoreError as error:
        report.notes.append(f"the ledger was not asked by which mapping collections were loaded: {error}")


def _check_buckets(migration: Migration, estate: Estate, report: CheckReport) -> None:
    """Where objects are to be put."""
    for where, url in _buckets_of(migration):
        bucket = url.removeprefix("s3://").partition("/")[0]
        head = AwsCall(
            service="s3", operation="head_bucket", arguments={"Bucket": bucket}, absent=("404", "NoSuchBucket")
        )
        try:
            if estate.ask(head) is None:
                what = f"names the bucket {bucket}, which does not exist"
                advice = "make it, with encryption, and without public access"
                report.problems.append(Problem(where=where, what=what, suggestion=advice))
        except StoreError as error:
            report.problems.append(Problem(where=where, what=f"the bucket {bucket} cannot be used: {error}"))


def _buckets_of(migration: Migration) -> Iterator[tuple[str, str]]:
    if any(one.overflow == "s3" for one in migration.collections):
        yield "target.objects", migration.target.objects
    if migration.backfill.strategy == "import":
        yield "backfill.import_to", migration.backfill.import_to
