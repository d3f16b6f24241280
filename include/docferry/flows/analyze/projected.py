"""What a sample and today's calls say of larger ones: heat of the heaviest partitions, and cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from docferry.config import Migration
from docferry.core.analyze.proof import MULTIPLES, Heat
from docferry.core.cost.calls import CallRates, of_all
from docferry.core.cost.forecast import Workload, forecast
from docferry.core.cost.prices import PriceBook
from docferry.core.cost.sizes import CollectionSizes
from docferry.core.cost.units import read_units
from docferry.flows.analyze.sampled import SampledCollection
from docferry.flows.analyze.side_by_side import PAGE
from docferry.flows.cost.forecasting import priced_design


def heat_of(sample: SampledCollection, rates: CallRates) -> Iterator[Heat]:
    """Of the table and of each index: the heaviest partition, as if all reads of the collection came that way."""
    sizes = sample.sizes
    if sizes is None or not sizes.items:
        return
    units = of_all(sizes, rates)
    entries = {one.name: one for one in sizes.indexes}
    for name, counted in sample.partitions.items():
        heaviest = max(counted.values())
        share = heaviest / counted.total()
        if heaviest == 1 and not sample.complete:
            share = 1 / max(sample.total, 1)  # as far as the sample tells, each document has a partition of its own
        if name:
            page = min(PAGE, share * sample.total * entries[name].entries)
            reads, writes = read_units(page * entries[name].bytes_in), units.index_writes.get(name, 0.0)
        else:
            reads, writes = sizes.read_units, units.writes
        yield Heat(
            collection=sample.collection,
            where=f"index {name}" if name else "the table",
            partitions=len(counted),
            share=share,
            write_units_s=share * writes,
            read_units_s=share * rates.reads * reads,
        )


def usd_of(
    migration: Migration, sizes: Sequence[CollectionSizes], rates: Mapping[str, CallRates], book: PriceBook
) -> dict[int, float]:
    """A month on demand at each multiple of today's data and calls."""
    design = priced_design(migration)
    found = {}
    for multiple in MULTIPLES:
        more = {
            name: replace(one, by_key=one.by_key * multiple, update=one.update * multiple)
            for name, one in rates.items()
        }
        grown = [replace(one, documents=one.documents * multiple) for one in sizes]
        found[multiple] = forecast(design, grown, Workload(rates=more), book).on_demand.usd
    return found
