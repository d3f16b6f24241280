"""Compare both databases in both directions, and mend what differs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from docferry.errors import ValidationFailed

from docferry_airflow.lineage import LineageOperator, Rows
from docferry_airflow.operators.base import ConfirmedOperator, Work
from docferry_airflow.reports import LettersLink, RoomLink, ValidationLink

if TYPE_CHECKING:
    from docferry.config import Migration
    from docferry.flows.validate.first_pass import ValidationReport


class ValidateOperator(LineageOperator):
    """Compare every document with its items, and every item with its document. Fails if they differ.

    The leader is right: while DynamoDB leads, MongoDB is judged.

    The full report, with both values of the first differences, goes to the ledger; the log names places only.

    :param collections: Only these; empty means all.
    :param sample: Compare only so many documents of each collection; None means all.
    """

    movement = "none"
    operator_extra_links = (RoomLink(), LettersLink(), ValidationLink())
    template_fields: Sequence[str] = ("migration_file", "collections", "sample")

    def __init__(
        self, *, collections: Sequence[str] | str = (), sample: int | str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.collections = collections
        self.sample = sample

    def touched(self) -> Sequence[str]:
        return tuple(self.collections or ())

    def rows(self, migration: Migration, summary: dict[str, Any]) -> Rows:
        return Rows(collections={one["collection"]: one["documents"] for one in summary["collections"]})

    def carry_out(self, work: Work) -> dict[str, Any]:
        from docferry.flows.validate.first_pass import validate

        only, sample = tuple(self.collections or ()), int(self.sample) if self.sample else None
        with work.job() as job:
            report = work.counted(job, "validate", lambda target: validate(job, target, only, sample))
        for line in _report_lines(report):
            self.log.info(line)
        summary = _summary(report)
        if not report.ok:
            raise ValidationFailed(_failure(report), summary)
        return summary


def _failure(report: ValidationReport) -> str:
    if report.verdict == "UNDECIDED":
        return f"{report.pending} documents or items could not be judged: {report.why_pending}"
    wrong = {one.collection: one.mismatches for one in report.collections if one.mismatches}
    named = ", ".join(f"{count} in {name}" for name, count in wrong.items()) or "items of no collection"
    mends = (
        "reverse replication corrects MongoDB" if report.direction == "reverse" else "the DAG `repair` corrects them"
    )
    return f"the databases differ: {named}. `docferry validate` shows the values; {mends}"


def _summary(report: ValidationReport) -> dict[str, Any]:
    """The report without its differences: they hold values, and XCom is no place for those."""
    return {name: value for name, value in report.to_dict().items() if name != "differences"}


def _report_lines(report: ValidationReport) -> list[str]:
    lines = [
        f"{one.collection}: {one.documents:,} documents, {one.items:,} items, {one.unstorable} dead letters; "
        f"{one.missing} missing, {one.different} different, {one.extra} extra, {one.pending} pending"
        for one in report.collections
    ]
    lines += [f"{found.kind.value}: {found.pk} / {found.sk} {found.path}".rstrip() for found in report.differences]
    lines += [report.equal] if report.equal else []
    return [*lines, f"{report.verdict.lower()}: {report.confidence}"]


class RepairOperator(ConfirmedOperator):
    """Write again what is missing or different, and bury what is extra, by the version rules: nothing newer is touched.

    :param collections: Only these; empty means all.
    :param confirmed: The migration's name, typed; not needed for a dry run.
    :param plan_only: Compare, and only say what differs; fails with what would refuse it.
    """

    template_fields: Sequence[str] = (*ConfirmedOperator.template_fields, "collections")

    def __init__(self, *, collections: Sequence[str] | str = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.collections = collections

    def carry_out(self, work: Work) -> dict[str, Any]:
        from docferry.flows.validate.repair import repair

        only = tuple(self.collections or ())
        self.require_confirmed("repair", work)
        with work.job() as job:
            if self.plan_only:
                found = work.with_target(lambda target: repair(job, target, only, dry_run=True)).before
                for line in _report_lines(found) if found else ():
                    self.log.info(line)
                return {"found": _summary(found) if found else None}
            report = work.counted(job, "repair", lambda target: repair(job, target, only))
        summary = {name: value for name, value in report.to_dict().items() if name != "found"}
        self.log.info("repaired: %s", ", ".join(f"{name} {value}" for name, value in summary.items()))
        return summary
