"""What a migration has consumed so far, from the ledger, beside the forecast for as much work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from docferry.core.cost.actual import Actual, Consumed, actual, each
from docferry.core.cost.calls import CallRates, added, compared, insert, of_all
from docferry.core.cost.prices import PriceBook
from docferry.core.cost.sizes import CollectionSizes
from docferry.core.cost.units import READ_UNIT_BYTES
from docferry.flows.backfill.finish import CollectionReport
from docferry.flows.backfill.plan import BackfillPlan
from docferry.flows.kernel.job import Job
from docferry.flows.ledger.load_headers import LoadHeaders
from docferry.flows.ledger.modes import list_instances
from docferry.flows.ledger.positions import read_replication
from docferry.flows.ledger.reports import recorded_reports
from docferry.flows.ledger.rooms.spent import FlowSpent, list_spent

READ_UNITS, WRITE_UNITS = "capacity.read_units", "capacity.write_units"
"""As `client.transport.counted` names them."""
READS = frozenset({"dynamodb.find", "dynamodb.find_one"})
DUAL_PUT = "dynamodb.put"
COMPARED = ("shadow.equal", "shadow.mismatch")
NO_WRITES = frozenset({*READS, DUAL_PUT, "dynamodb.get", "dynamodb.query", "dynamodb.batch_get", "dynamodb.scan"})


def consumed(job: Job, sizes: Sequence[CollectionSizes], rates: Mapping[str, CallRates]) -> list[Consumed]:
    """Loads, flows, and the application. `rates` say in which shares the application's calls are made, not how many."""
    rows = loads(job, sizes)
    rows += [_flow(job, one, sizes, rates) for one in list_spent(job.ledger)]
    return [*rows, *_application(job, sizes, rates)]


def loads(job: Job, sizes: Sequence[CollectionSizes]) -> list[Consumed]:
    """Each collection's load, as its chunks have counted it."""
    return [*_loads(job, sizes)]


def _loads(job: Job, sizes: Sequence[CollectionSizes]) -> Iterator[Consumed]:
    for measured in sizes:
        name = measured.collection
        header = LoadHeaders(job.ledger).read(name)
        if header is None or not header.counts.read:
            continue
        written = header.counts.written
        each_one = insert(measured)
        forecast = written * (each_one.follow + sum(each_one.index_writes.values()))
        forecast += header.counts.superseded * each_one.follow
        yield Consumed(
            what=f"load of {name}",
            read_units=0.0,
            write_units=float(header.counts.units),
            forecast_writes=forecast if measured.sampled else None,
            work=f"{written:,} documents",
        )


def _flow(job: Job, one: FlowSpent, sizes: Sequence[CollectionSizes], rates: Mapping[str, CallRates]) -> Consumed:
    reads: float | None = None
    writes: float | None = None
    work = ""
    if one.flow == "replicate":
        counts = read_replication(job.ledger).counts
        written, superseded = counts.get("written", 0), counts.get("superseded", 0)
        mean = added(of_all(each_one, rate).times(share) for each_one, rate, share in _writes(sizes, rates))
        writes = written * (mean.follow + sum(mean.index_writes.values())) + superseded * mean.follow
        work = f"{written:,} written, {superseded:,} superseded"
    if one.flow == "validate":
        reads, runs = _validations(job, {each_one.collection: each_one for each_one in sizes})
        work = f"{runs} reports"
    return Consumed(
        what=one.flow,
        read_units=one.spent.read_units,
        write_units=one.spent.write_units,
        forecast_reads=reads,
        forecast_writes=writes or None,
        work=work,
        untold=one.spent.untold,
    )


def _validations(job: Job, sizes: Mapping[str, CollectionSizes]) -> tuple[float, int]:
    """Read units of all recorded validations, and their number: each item is got, and the tables are scanned."""
    units, reports = 0.0, recorded_reports(job.ledger)
    for report in reports:
        for result in report.collections:
            measured = sizes.get(result.collection)
            if measured is None or not measured.items:
                continue
            documents = result.items / measured.items
            scanned = result.items * measured.item_bytes / READ_UNIT_BYTES
            units += documents * measured.get_units + scanned
    return units, len(reports)


Share = tuple[CollectionSizes, CallRates, float]


def _writes(sizes: Sequence[CollectionSizes], rates: Mapping[str, CallRates]) -> list[Share]:
    """Each collection's writes, and what makes all of them together one write."""
    only = {name: CallRates(insert=one.insert, update=one.update, delete=one.delete) for name, one in rates.items()}
    total = sum(one.writes for one in only.values())
    return [(one, only[one.collection], 1 / total) for one in sizes if total and one.collection in only]


def _reads(sizes: Sequence[CollectionSizes], rates: Mapping[str, CallRates]) -> list[Share]:
    only = {name: CallRates(by_key=one.by_key, by_index=one.by_index) for name, one in rates.items()}
    total = sum(one.reads for one in only.values())
    return [(one, only[one.collection], 1 / total) for one in sizes if total and one.collection in only]


def _application(job: Job, sizes: Sequence[CollectionSizes], rates: Mapping[str, CallRates]) -> Iterator[Consumed]:
    """The client's calls of all processes, those that ended long ago included."""
    counts: dict[str, int] = {}
    for instance in list_instances(job.ledger):
        for name, number in instance.counts.items():
            counts[name] = counts.get(name, 0) + number
    if READ_UNITS not in counts and WRITE_UNITS not in counts:
        return
    calls = {name: number for name, number in counts.items() if name.startswith("dynamodb.") and "failed" not in name}
    reads = sum(number for name, number in calls.items() if name in READS)
    puts = calls.get(DUAL_PUT, 0)
    writes = sum(number for name, number in calls.items() if name not in NO_WRITES)
    a_read = added(of_all(one, rate).times(share) for one, rate, share in _reads(sizes, rates))
    a_write = added(of_all(one, rate).times(share) for one, rate, share in _writes(sizes, rates))
    a_comparison = added(compared(one, rate).times(share) for one, rate, share in _reads(sizes, rates))
    comparisons = sum(counts.get(name, 0) for name in COMPARED)
    journal = 2.0 if job.migration.cutover.journal else 0.0
    of_reads, of_writes = each(a_read, reads), each(a_write, writes)
    dual = puts * (a_write.dual + sum(a_write.index_writes.values()))
    yield Consumed(
        what="the application",
        read_units=float(counts.get(READ_UNITS, 0)),
        write_units=float(counts.get(WRITE_UNITS, 0)),
        forecast_reads=(of_reads[0] + of_writes[0] + a_comparison.reads * comparisons) or None,
        forecast_writes=(of_writes[1] + writes * journal + dual) or None,
        work=f"{reads:,} reads, {writes:,} writes, {puts:,} dual puts, {comparisons:,} comparisons",
    )


def load_cost(plan: BackfillPlan, reports: Sequence[CollectionReport], book: PriceBook) -> Actual:
    """What this load consumed beside what its plan, from samples, said: of the collections that were not complete before."""
    loaded = [one for one in reports if not one.already_complete]
    names = {one.collection for one in loaded}
    if not loaded:
        return actual(book, [])
    return actual(
        book,
        [
            Consumed(
                what="this load",
                read_units=0.0,
                write_units=float(sum(one.counts.units for one in loaded)),
                forecast_writes=float(sum(one.write_units for one in plan.collections if one.collection in names)),
                work=f"{sum(one.counts.written for one in loaded):,} documents",
            )
        ],
    )
