"""What the metrics are at this moment, from the ledger, and from MongoDB where only it knows. Reads only.

A metric that cannot be told now has no value: nothing is guessed, and an alarm treats missing values as its table says
(`core.metric_names`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from docferry.config.price_book import load_price_book
from docferry.core import metric_names as names
from docferry.core.cutover.instances import Instance, unserved_by
from docferry.core.cutover.modes import Mode, ModeState
from docferry.core.metric_data import Measurement
from docferry.errors import MigrationError
from docferry.flows.kernel.job import Job
from docferry.flows.ledger.dead_letters import list_letters
from docferry.flows.ledger.load_headers import Counts, LoadHeader, LoadHeaders, list_chunks
from docferry.flows.ledger.modes import list_instances, read_mode
from docferry.flows.ledger.positions import read_replication
from docferry.flows.ledger.reports import RecordedReport, latest_report
from docferry.flows.ledger.rooms.monitor import Totals
from docferry.flows.ledger.rooms.reverse_stream import read_reverse
from docferry.flows.ledger.rooms.spent import list_spent
from docferry.flows.ledger.rooms.strays import list_strays
from docferry.flows.ledger.times import now_ms
from docferry.flows.preflight.thresholds import SEEN_S
from docferry.flows.preflight.windows import windows_of
from docferry.flows.reverse.report import KEEP_S

MONTH_S = 30.4375 * 86_400
LEAST_S = 1.0
"""A rate is one of at least so many seconds."""
READ_UNITS, WRITE_UNITS = "capacity.read_units", "capacity.write_units"
HELD_MS, NOT_ITS_OWN = "held_ms", "guards.not_its_own"
"""As the client's processes count them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One look: what was measured, the totals that rates are made of, and why some of it could not be told."""

    measurements: tuple[Measurement, ...]
    totals: Totals
    untold: tuple[str, ...] = ()


class _Facts:
    """What several metrics are made of, read once for a look."""

    def __init__(self, job: Job) -> None:
        self.job, self.now = job, now_ms()
        self.mode: ModeState = read_mode(job.ledger)
        self.headers = LoadHeaders(job.ledger).all()
        self.counts = {name: _counted(job, one) for name, one in self.headers.items() if name in job.migration.mappings}
        self.instances: Sequence[Instance] = list_instances(job.ledger)

    def total(self, count: str) -> int:
        """Of all the application's processes so far."""
        return sum(one.counts.get(count, 0) for one in self.instances)

    def totals(self) -> Totals:
        spent = [one.spent for one in list_spent(self.job.ledger)]
        loads = [read for read, _ in self.counts.values()]
        return Totals(
            at_ms=self.now,
            loaded=sum(one.read for one in loads),
            read_units=sum(one.read_units for one in spent) + self.total(READ_UNITS),
            write_units=sum(one.write_units for one in spent)
            + self.total(WRITE_UNITS)
            + sum(one.units for one in loads),
        )


def measure(job: Job, before: Callable[[Totals], Totals | None]) -> Measured | None:
    """Measured once. `before` is told the totals of now, and says those that rates are made from; None: then nothing is measured.

    Raises: TableMissing before the migration is provisioned; StoreError, where the ledger does not answer.
    """
    facts = _Facts(job)
    totals = facts.totals()
    if (earlier := before(totals)) is None:
        return None
    found: list[Measurement] = []
    untold: list[str] = []
    for part in (_progress, _consistency, _forward, _reverse, _letters, _hold, _application):
        try:
            found += part(facts)
        except MigrationError as error:
            untold.append(f"{part.__name__.strip('_')}: {error}")
    found += _rates(facts, earlier, totals)
    return Measured(measurements=tuple(found), totals=totals, untold=tuple(untold))


def _counted(job: Job, header: LoadHeader) -> tuple[Counts, int]:
    """(counts, documents expected) of one collection's load so far."""
    if header.complete:
        return header.counts, header.counts.read
    chunks = list_chunks(job.ledger, header.collection)
    return sum((one.counts for one in chunks), Counts()), sum(one.expected for one in chunks)


def _progress(facts: _Facts) -> Iterator[Measurement]:
    read = expected = 0
    for name in facts.job.migration.mappings:
        counts, planned = facts.counts.get(name, (Counts(), 0))
        read += counts.read
        # One that is not cut into chunks yet is as large as MongoDB says.
        expected += max(planned or facts.job.source.collection_facts(name).documents, counts.read)
    share = 100.0 * read / expected if expected else 100.0
    yield Measurement.of(names.MIGRATION_PROGRESS, share, "MongoDB-to-DynamoDB")


def _consistency(facts: _Facts) -> Iterator[Measurement]:
    report = latest_report(facts.job.ledger)
    began = [one.started_ms for one in facts.headers.values() if one.started_ms]
    since = report.at_ms if report else min(began, default=0)
    if since:
        yield Measurement.of(names.VALIDATION_AGE, max(0.0, (facts.now - since) / 1000))
    if report is not None:
        yield Measurement.of(names.DATA_CONSISTENCY, consistency_of(report))


def consistency_of(report: RecordedReport) -> float:
    """Percent of what was compared that is equal. 100 only where the whole report says so."""
    compared = sum(max(one.documents, one.items) for one in report.collections)
    wrong = sum(one.mismatches + one.pending for one in report.collections)
    share = 100.0 * max(0, compared - wrong) / compared if compared else 100.0 * report.ok
    return share if report.ok else min(share, 99.99)


def _forward(facts: _Facts) -> Iterator[Measurement]:
    """While MongoDB leads and replication has begun. The lag grows with the age of what the replicator noted last."""
    state = read_replication(facts.job.ledger)
    if facts.mode.leader.dynamodb_leads or state.position is None:
        return
    fresh = state.noted_s_ago <= SEEN_S
    if state.lag_s is not None and state.at_ms:
        yield Measurement.of(names.REPLICATION_LAG, state.lag_s + max(0.0, state.noted_s_ago), "forward")
    yield Measurement.of(names.DOCUMENT_RATE, state.rate if fresh else 0.0, "replicate")
    windows = windows_of(facts.job.source, state.position.time)
    yield Measurement.of(names.WINDOW_LEFT, 100.0 * windows.oplog_left_s / windows.oplog_s, "oplog")
    if windows.images_s:
        yield Measurement.of(names.WINDOW_LEFT, 100.0 * (windows.images_left_s or 0.0) / windows.images_s, "images")


def _reverse(facts: _Facts) -> Iterator[Measurement]:
    state = read_reverse(facts.job.ledger)
    if facts.mode.leader is not Mode.DYNAMODB_ONLY or not state.started:
        return
    behind_s = max(0.0, (facts.now - state.reached_ms) / 1000)
    fresh = state.at_ms and facts.now - state.at_ms <= SEEN_S * 1000
    yield Measurement.of(names.REPLICATION_LAG, behind_s, "reverse")
    yield Measurement.of(names.DOCUMENT_RATE, state.rate if fresh else 0.0, "reverse")
    yield Measurement.of(names.WINDOW_LEFT, 100.0 * max(0.0, KEEP_S - behind_s) / KEEP_S, "stream")


def _letters(facts: _Facts) -> Iterator[Measurement]:
    ledger = facts.job.ledger
    letters = sum(len(list_letters(ledger, name)) for name in facts.job.migration.mappings)
    yield Measurement.of(names.DEAD_LETTERS, letters + read_reverse(ledger).letters)
    yield Measurement.of(names.STRAY_WRITES, len(list_strays(ledger)))


def _hold(facts: _Facts) -> Iterator[Measurement]:
    held = facts.mode.mode is Mode.HOLD
    overdue_s = max(0.0, (facts.now - facts.mode.deadline_ms) / 1000) if held else 0.0
    yield Measurement.of(names.HOLD_OVERDUE, overdue_s)


def _application(facts: _Facts) -> Iterator[Measurement]:
    yield Measurement.of(names.HELD_TIME, facts.total(HELD_MS))
    yield Measurement.of(names.GUARD_CONFLICTS, facts.total(NOT_ITS_OWN))
    yield Measurement.of(names.UNSERVED_CALLS, unserved_by(facts.instances, ()).total())


def _rates(facts: _Facts, before: Totals, now: Totals) -> Iterator[Measurement]:
    """From the last look to this one. Where a record is gone meanwhile, a total is less than before: then there is none."""
    seconds = (now.at_ms - before.at_ms) / 1000 if before.at_ms else 0.0
    if seconds < LEAST_S:
        return
    if any(not one.complete for one in facts.headers.values()) and now.loaded >= before.loaded:
        yield Measurement.of(names.DOCUMENT_RATE, (now.loaded - before.loaded) / seconds, "backfill")
    reads, writes = now.read_units - before.read_units, now.write_units - before.write_units
    if reads >= 0 and writes >= 0:
        book = load_price_book()
        usd = (reads * book.read_request_million + writes * book.write_request_million) / 1e6
        yield Measurement.of(names.MONTHLY_COST, usd * MONTH_S / seconds, "DynamoDB")
