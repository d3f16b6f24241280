"""Around replication, in either direction: what the ledger says of lag, reads and consumption is kept over time, for charts."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from docferry.config.price_book import load_price_book
from docferry.core.cutover.instances import Instance
from docferry.core.cutover.latency import percentile_ms, took_of
from docferry.errors import MigrationError, RetryExhausted, Stopped, TransientStoreError
from docferry.flows.kernel.job import Job
from docferry.flows.kernel.threads import in_thread
from docferry.flows.ledger.leases import HURRIED_S
from docferry.flows.ledger.load_headers import LoadHeaders
from docferry.flows.ledger.modes import list_instances
from docferry.flows.ledger.positions import read_replication
from docferry.flows.ledger.rooms.history import (
    FINE_S,
    UNKNOWN,
    Series,
    Values,
    folded,
    history_body,
    list_history,
    note_point,
)
from docferry.flows.ledger.rooms.reverse_stream import read_reverse
from docferry.flows.ledger.rooms.spent import list_spent
from docferry.flows.ledger.times import now_ms
from docferry.flows.preflight.thresholds import SEEN_S
from docferry.flows.reverse.report import KEEP_S
from docferry.ports.flows import Ledger

T = TypeVar("T")
SAMPLE_S = 60.0
"""A point of five minutes holds the worst of five looks."""
DATABASES = ("mongodb", "dynamodb")


async def with_history(job: Job, replication: Coroutine[Any, Any, T], sample_s: float = SAMPLE_S) -> T:
    """What `replication` returns; history is kept beside it. A look that fails is said and left out: charts have a gap then."""
    keeper = HistoryKeeper(job.ledger)
    keeping = asyncio.create_task(_keep(keeper, job, sample_s))
    try:
        return await replication
    finally:
        keeping.cancel()
        await asyncio.wait({keeping})
        if not keeping.cancelled() and (trouble := keeping.exception()) is not None:
            job.progress.say(f"the history of lag and latency was not kept to the end: {type(trouble).__name__}")
        await _keep_what_is_left(keeper, job)


async def _keep(keeper: HistoryKeeper, job: Job, sample_s: float) -> None:
    with suppress(Stopped):
        while not job.stop.is_set():
            await asyncio.sleep(sample_s)
            try:
                await in_thread(keeper.look, stop=job.stop)
            except (TransientStoreError, RetryExhausted) as error:
                job.progress.say(f"the history of lag and latency has a gap: {error}")


async def _keep_what_is_left(keeper: HistoryKeeper, job: Job) -> None:
    try:
        await in_thread(keeper.flush, within_s=HURRIED_S)
    except MigrationError as error:
        job.progress.say(f"the history of lag and latency lacks its last minutes: {error}")


class HistoryKeeper:
    """Looks at the ledger, and adds what it sees to the history, once for each point. Not for two threads at once."""

    def __init__(self, ledger: Ledger, clock: Callable[[], float] = time.time) -> None:
        self._ledger, self._clock = ledger, clock
        self._timed: dict[str, dict[str, Counter[int]]] | None = None
        self._held: dict[Series, tuple[float, Values]] = {}
        self._noted: set[Series] = set()

    def look(self) -> None:
        """Raises StoreError."""
        at_s = self._clock()
        if any(int(held_s) // FINE_S != int(at_s) // FINE_S for held_s, _ in self._held.values()):
            self.flush()
        for series, values in self._seen():
            before = self._held.get(series)
            self._held[series] = at_s, values if before is None else folded(series, before[1], values)
        if new := self._held.keys() - self._noted:  # a chart that begins is not to wait for five minutes
            self._noted |= new
            self.flush()

    def flush(self) -> None:
        """Write what is held. Raises StoreError."""
        while self._held:
            series, (at_s, values) = next(iter(self._held.items()))
            note_point(self._ledger, series, at_s, values)
            del self._held[series]

    def _seen(self) -> Iterator[tuple[Series, Values]]:
        forward, reverse = read_replication(self._ledger), read_reverse(self._ledger)
        if _is_fresh(forward.at_ms):
            yield Series.FORWARD, (_whole(forward.lag_s), _whole(forward.oplog_left_s))
        if reverse.started and _is_fresh(reverse.at_ms):
            left_s = KEEP_S - (now_ms() - reverse.reached_ms) / 1000
            yield Series.REVERSE, (_whole(reverse.lag_s), _whole(max(0.0, left_s)))
        if (reads := self._reads(list_instances(self._ledger))) is not None:
            yield Series.READS, reads
        yield Series.SPENT, _spent(self._ledger)

    def _reads(self, instances: Sequence[Instance]) -> Values | None:
        """Of what each process has timed since the last look; None at the first, and if there was nothing."""
        before, self._timed = self._timed, {one.id: took_of(one.counts) for one in instances}
        if before is None:
            return None
        since: dict[str, Counter[int]] = {name: Counter() for name in DATABASES}
        for id_, timed in self._timed.items():
            for name in DATABASES:
                since[name] += timed.get(name, Counter()) - before.get(id_, {}).get(name, Counter())
        p95 = [percentile_ms(since[name], 0.95, 1) for name in DATABASES]
        return (*map(_whole, p95), *(since[name].total() for name in DATABASES)) if any(p95) else None


def _is_fresh(at_ms: int | None) -> bool:
    return bool(at_ms) and (now_ms() - (at_ms or 0)) / 1000 <= SEEN_S


def _whole(value: float | None) -> int:
    return UNKNOWN if value is None else round(value)


def _spent(ledger: Ledger) -> Values:
    found = list_spent(ledger)
    loaded = sum(header.counts.units for header in LoadHeaders(ledger).all().values())
    writes = loaded + sum(one.spent.write_units for one in found)
    return round(sum(one.spent.read_units for one in found)), round(writes)


def note_forecast(ledger: Ledger, consumed: float, forecast: float) -> None:
    """Write units of the loads so far, beside those that were forecast for the same work. Raises StoreError."""
    note_point(ledger, Series.FORECAST, time.time(), (round(consumed), round(forecast)))


def history_of(ledger: Ledger) -> dict[str, Any]:
    """Plain values for JSON: each series with its points, and the prices by which units become money. One query."""
    book = load_price_book()
    prices = {"read_million": book.read_request_million, "write_million": book.write_request_million}
    series = {str(name): history_body(found) for name, found in list_history(ledger).items()}
    return {"series": series, "prices": prices | {"book": book.title}, "at_ms": now_ms()}
