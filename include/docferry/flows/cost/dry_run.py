"""What a dry run says of money, from samples."""

from __future__ import annotations

from docferry.config import Migration
from docferry.core.cost.dry_run import DryRunCost, dry_run_cost
from docferry.core.cost.prices import PriceBook
from docferry.flows.backfill.plan import PLAN_SAMPLE, BackfillPlan
from docferry.flows.cost.forecasting import priced_design
from docferry.flows.cost.measured import measure_collections
from docferry.ports.flows import Source


def dry_run_of(
    migration: Migration,
    source: Source,
    book: PriceBook,
    *,
    plan: BackfillPlan | None = None,
    image_bytes: float | None = None,
) -> DryRunCost:
    """What would be paid. Of a load that is planned: for what is not loaded yet. Reads only. Raises StoreError, ConfigError."""
    sizes = measure_collections(migration, source, PLAN_SAMPLE)
    loaded: dict[str, float] | None = None
    if plan is not None:
        loaded = {}
        for one in plan.collections:
            units = 0 if one.state == "complete" else one.write_units
            loaded[one.table] = loaded.get(one.table, 0.0) + units
    return dry_run_cost(priced_design(migration), sizes, book, loaded=loaded, image_bytes=image_bytes)
