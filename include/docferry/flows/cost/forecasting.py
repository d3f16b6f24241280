"""The forecast of a migration whose MongoDB can be asked."""

from __future__ import annotations

from docferry.config import Migration
from docferry.core.cost.calls import ONLY_COUNTED
from docferry.core.cost.forecast import Forecast, PricedDesign, Workload, forecast
from docferry.core.cost.prices import PriceBook
from docferry.core.cost.roi import MongoBill
from docferry.flows.cost.measured import SAMPLE, CallCounts, count_calls, measure_collections
from docferry.ports.analyze import AnalysisSource
from docferry.ports.flows import Source


def priced_design(migration: Migration) -> PricedDesign:
    """What of a migration file decides about money."""
    return PricedDesign(
        migration=migration.name,
        region=migration.target.region,
        tables=migration.tables,
        replicas=len(migration.target.replicas),
        dax=migration.dax,
        journal=migration.cutover.journal,
    )


def with_counted(migration: Migration, given: Workload, counted: CallCounts) -> Workload:
    """`given`, and for the collections that it does not name what was counted."""
    more = {
        one.name: counted.rates[one.name]
        for one in migration.collections
        if one.name not in given.rates and one.name in counted.rates
    }
    notes = [counted.missing] if counted.missing else []
    asked = sorted(name for name, one in more.items() if one.reads or one.writes)
    notes += [f"{', '.join(asked)}: {ONLY_COUNTED}"] if asked else []
    return given.with_rates({**more, **given.rates}, notes)


def is_complete(migration: Migration, given: Workload) -> bool:
    """Whether nothing need be counted."""
    return all(one.name in given.rates for one in migration.collections)


def forecast_of(
    migration: Migration,
    source: Source,
    counter: AnalysisSource,
    given: Workload,
    book: PriceBook,
    bill: MongoBill | None,
    documents: int = SAMPLE,
) -> Forecast:
    """Measured documents, given calls, and counted ones where none are given. Reads only. Raises StoreError, ConfigError."""
    sizes = measure_collections(migration, source, documents)
    if not is_complete(migration, given):
        given = with_counted(migration, given, count_calls(migration, counter))
    return forecast(priced_design(migration), sizes, given, book, bill)
