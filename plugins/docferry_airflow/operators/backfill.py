"""Load the collections: plan all, then prepare, load and finish each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from docferry_airflow.lineage import LineageOperator, Rows
from docferry_airflow.operators.base import MigrationOperator, Work
from docferry_airflow.reports import ChunksLink, LettersLink, RoomLink

if TYPE_CHECKING:
    from docferry.config import Migration
    from docferry.flows.backfill.plan import BackfillPlan


OF_A_COLLECTION = (RoomLink(), LettersLink(), ChunksLink())
"""The buttons of a task that is about one collection."""


class PlanBackfillOperator(MigrationOperator):
    """What the load will take: documents, write units with indexes, hours at the budget, the oplog window. Reads only.

    :param collections: Only these; empty means all of the file.
    :param waive_oplog_window: Go on although the load is longer than half of the oplog window.
    """

    template_fields: Sequence[str] = ("migration_file", "collections", "waive_oplog_window")

    def __init__(
        self, *, collections: Sequence[str] | str = (), waive_oplog_window: bool | str = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.collections = collections
        self.waive_oplog_window = waive_oplog_window

    def carry_out(self, work: Work) -> dict[str, Any]:
        from docferry.config.price_book import load_price_book
        from docferry.flows.backfill.plan import plan_backfill, require_window
        from docferry.flows.cost.dry_run import dry_run_of

        with work.job() as job:
            plan = plan_backfill(job, tuple(self.collections or ()))
            cost = dry_run_of(job.migration, job.source, load_price_book(), plan=plan)
        for line in (*plan_lines(plan), *cost.lines()):
            self.log.info(line)
        require_window(plan, waived=bool(self.waive_oplog_window))
        return plan.to_dict() | {"cost": cost.to_dict()}


def plan_lines(plan: BackfillPlan) -> list[str]:
    """What a load would take, for a log."""
    lines = [
        f"{one.collection} -> {one.table}: {one.documents:,} documents, about {one.items:,} items and "
        f"{one.write_units:,} write units, {one.chunks} chunk(s), {one.state}"
        + (f"; {one.unstorable_in_sample} of {one.sample} sampled cannot be stored" if one.unstorable_in_sample else "")
        for one in plan.collections
    ]
    rate = f"{plan.budget_wcu:,.0f} WCU/s" if plan.budget_wcu else "no limit"
    lines.append(f"{plan.write_units:,} write units, indexes included: {plan.hours:.2f} h at {rate}")
    return [*lines, f"the oplog reaches back {plan.oplog_window_hours:.2f} h; half of that must be enough"]


class PrepareCollectionOperator(MigrationOperator):
    """Claim a collection for this DAG run, record the stream position, cut the `_id` space.

    Returns the ranges to load, each with its label and its chunks; none if the collection has been loaded before.

    :param collection: The collection.
    :param collections: Skip unless it is one of these; empty means all.
    :param plan_only: Skip.
    """

    operator_extra_links = OF_A_COLLECTION
    template_fields: Sequence[str] = ("migration_file", "collections", "plan_only")

    def __init__(
        self, *, collection: str, collections: Sequence[str] | str = (), plan_only: bool | str = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.collection = collection
        self.collections = collections
        self.plan_only = plan_only

    def carry_out(self, work: Work) -> list[dict[str, Any]]:
        from docferry.flows.backfill.chunks import prepare

        if self.plan_only or (self.collections and self.collection not in self.collections):
            raise AirflowSkipException("a dry run" if self.plan_only else f"{self.collection} was not asked for")
        with work.job() as job:
            prepared = prepare(job, self.collection)
        if prepared.complete:
            self.log.info("%s was loaded before: nothing to do", self.collection)
        return [{"label": one.label, "chunks": list(one.chunks)} for one in prepared.ranges]


class LoadRangeOperator(LineageOperator):
    """Load a range of chunks. Each chunk is leased, and checkpointed behind its acknowledged pages.

    :param collection: The collection.
    :param id_range: One range as PrepareCollectionOperator returns it.
    """

    operator_extra_links = OF_A_COLLECTION
    template_fields: Sequence[str] = ("migration_file", "collection", "id_range")

    def __init__(self, *, collection: str, id_range: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.collection = collection
        self.id_range = id_range

    def touched(self) -> Sequence[str]:
        return (self.collection,)

    def rows(self, migration: Migration, summary: dict[str, int]) -> Rows:
        (table,) = (one.table for one in migration.collections if one.name == self.collection)
        return Rows(collections={self.collection: summary["read"]}, tables={table: summary["items"]})

    def carry_out(self, work: Work) -> dict[str, int]:
        from docferry.flows.backfill.load import load_range

        self.log.info("%s, chunks %s", self.id_range["label"], ", ".join(self.id_range["chunks"]))
        with work.job() as job:
            counts = work.with_target(
                lambda target: load_range(job, target, self.collection, tuple(self.id_range["chunks"]))
            )
        return counts.to_dict()


class FinishCollectionOperator(MigrationOperator):
    """Add up a collection's chunks: read = written + superseded + dead-lettered + outside the filter, or the task fails.

    :param collection: The collection.
    """

    operator_extra_links = OF_A_COLLECTION

    def __init__(self, *, collection: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.collection = collection

    def carry_out(self, work: Work) -> dict[str, Any]:
        from docferry.flows.backfill.finish import finish

        with work.job() as job:
            report = finish(job, self.collection)
        counts = report.counts
        self.log.info(
            "%s: %s documents read = %s written + %s superseded + %s dead letters + %s outside the filter; %s items, "
            "%.0f documents/s%s",
            *(
                self.collection,
                f"{counts.read:,}",
                f"{counts.written:,}",
                counts.superseded,
                counts.dead,
                counts.outside,
            ),
            *(f"{counts.items:,}", report.rate, " (loaded before)" if report.already_complete else ""),
        )
        return report.to_dict()


class ReportOperator(MigrationOperator):
    """What the ledger knows about every collection: how far it is, what became of its documents, open dead letters."""

    def carry_out(self, work: Work) -> dict[str, Any]:
        from docferry.config.price_book import load_price_book
        from docferry.core.cost.actual import actual
        from docferry.flows.cost.actual import loads
        from docferry.flows.cost.measured import measure_collections
        from docferry.flows.reporting.history import note_forecast
        from docferry.flows.reporting.status import status_of

        status = status_of(work.migration, work.connections.ledger(work.migration))
        for one in status["collections"]:
            self.log.info(
                "%(collection)s: %(state)s, %(read)d documents read = %(written)d written + %(superseded)d superseded "
                "+ %(dead)d dead letters + %(outside)d outside the filter; %(items)d items in %(chunks_done)d of %(chunks)d "
                "chunks; %(dead_letters_open)d dead letters are open",
                one,
            )
        with work.job() as job:
            cost = actual(load_price_book(), loads(job, measure_collections(job.migration, job.source)))
            note_forecast(job.ledger, *cost.writes_beside_forecast)
        for line in cost.lines():
            self.log.info(line)
        return status | {"cost": cost.to_dict()}
