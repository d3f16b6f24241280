"""By batch puts or by import: what a planned load costs both ways, and what speaks against an import."""

from __future__ import annotations

from collections.abc import Iterator

from docferry.core.cost.prices import PriceBook
from docferry.core.imports.estimate import LoadChoice, choose_load
from docferry.errors import TableMissing
from docferry.flows.backfill.chunks import is_followed
from docferry.flows.backfill.plan import BackfillPlan
from docferry.flows.kernel.job import Job


def choice_of(job: Job, plan: BackfillPlan, book: PriceBook) -> LoadChoice:
    """Of what is not loaded yet. Reads only. Raises StoreError."""
    left = [one for one in plan.collections if one.state != "complete"]
    return choose_load(
        book,
        units=sum(one.write_units for one in left),
        hours=plan.hours,
        stored_bytes=sum(one.stored_bytes for one in left),
        documents=sum(one.documents for one in left),
        impossible=tuple(_against(job, {one.table for one in left})),
        fits=plan.fits,
    )


def _against(job: Job, tables: set[str]) -> Iterator[str]:
    for table in job.migration.tables:
        if table.name in tables and table.shared:
            yield f"table {table.name} is shared with other migrations"
        elif table.name in tables and job.estate.fetch_table(table.name) is not None:
            yield f"table {table.name} is there already, and an import makes a new one"
    if any(one.overflow == "s3" for one in job.migration.collections if one.table in tables):
        yield "parts of items in S3 are put beside a table that is there"
    try:
        followed = is_followed(job.ledger)
    except TableMissing:
        followed = False
    if followed:
        yield "replication has begun"
