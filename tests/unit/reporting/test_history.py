"""History of lag, reads and consumption: rolled up, bounded, and in one query."""

from __future__ import annotations

import asyncio
from typing import Any

from bson.timestamp import Timestamp
from docferry.core.cutover.instances import INSTANCES, Instance
from docferry.errors import Unavailable
from docferry.flows.ledger.positions import REPLICATION, ReplicationState, replication_checkpoint
from docferry.flows.ledger.rooms.history import (
    COARSE_POINTS,
    FINE_POINTS,
    HISTORY,
    UNKNOWN,
    Series,
    list_history,
    note_point,
)
from docferry.flows.ledger.times import now_ms
from docferry.flows.reporting.history import HistoryKeeper, history_of, with_history
from docferry.ports.flows import StreamPosition
from docferry.testing.fakes import FakeLedger
from docferry.testing.jobs import make_job
from support.mappings import SHOP

AT = 1_780_000_200.0
"""The beginning of an hour is 1,800 seconds before it, so five minutes begin here."""


class Clock:
    def __init__(self) -> None:
        self.now = AT

    def __call__(self) -> float:
        return self.now


def replicating(ledger: FakeLedger, lag_s: int, left_s: int) -> None:
    position = StreamPosition(time=Timestamp(1, 1), token={"_data": "x"}, scope="shop")
    state = ReplicationState(position=position, at_ms=now_ms(), lag_s=lag_s, oplog_left_s=left_s)
    ledger.write(*REPLICATION, replication_checkpoint(state), expect=ledger.read(*REPLICATION))


def timed(ledger: FakeLedger, **took: int) -> None:
    counts = {f"took.{name}": count for name, count in took.items()}
    now = now_ms()
    one = Instance(id="i", name="web", mark="m", epoch=0, registered_ms=now, beat_ms=now, until_ms=now, counts=counts)
    ledger.write(INSTANCES, "i", one.to_body(), expect=ledger.read(INSTANCES, "i"))


def fine(ledger: FakeLedger, series: Series) -> list[tuple[float, tuple[int, ...]]]:
    return [(one.at_s - AT, one.values) for one in list_history(ledger)[series].fine]


def test_point_holds_the_worst_of_its_looks_and_is_written_once_the_next_begins() -> None:
    ledger, clock = FakeLedger(), Clock()
    keeper = HistoryKeeper(ledger, clock)
    for lag_s, left_s in ((2, 7000), (40, 5000), (1, 7100)):
        replicating(ledger, lag_s, left_s)
        keeper.look()
        clock.now += 60
    assert fine(ledger, Series.FORWARD) == [(0, (2, 7000))]  # the first look alone
    clock.now = AT + 300
    keeper.look()
    assert fine(ledger, Series.FORWARD) == [(0, (40, 5000))]
    keeper.flush()
    assert fine(ledger, Series.FORWARD) == [(0, (40, 5000)), (300, (1, 7100))]
    assert [one.values for one in list_history(ledger)[Series.FORWARD].coarse] == [(40, 5000)]


def test_latency_is_that_of_the_reads_since_the_last_look() -> None:
    ledger, clock = FakeLedger(), Clock()
    keeper = HistoryKeeper(ledger, clock)
    timed(ledger, **{"mongodb.2": 1_000, "dynamodb.2": 1_000})
    keeper.look()
    timed(ledger, **{"mongodb.2": 1_100, "mongodb.6": 3, "dynamodb.2": 1_000, "dynamodb.8": 50})
    keeper.look()
    keeper.flush()
    assert fine(ledger, Series.READS) == [(0, (2, 16, 103, 50))]


def test_value_that_is_not_known_gives_way_to_one_that_is() -> None:
    ledger = FakeLedger()
    for values in ((UNKNOWN, 7), (3, UNKNOWN), (UNKNOWN, 9)):
        note_point(ledger, Series.FORWARD, AT, values)
    assert fine(ledger, Series.FORWARD) == [(0, (3, 7))]


def test_thirty_days_are_a_record_of_bounded_size_for_each_series_and_one_query() -> None:
    ledger = FakeLedger()
    full = {
        "fine": [[int(AT) + 300 * number, 100_000, 100_000] for number in range(FINE_POINTS)],
        "coarse": [[int(AT) - 1800 + 3600 * number, 100_000, 100_000] for number in range(COARSE_POINTS)],
    }
    ledger.write(HISTORY, Series.FORWARD, full, expect=None)
    for hours in range(3):
        note_point(ledger, Series.FORWARD, AT + 31 * 86_400 + hours * 3600, (5, 5))
    found = list_history(ledger)[Series.FORWARD]
    assert (len(found.fine), len(found.coarse)) == (FINE_POINTS, COARSE_POINTS)
    assert [one.values[0] for one in found.coarse[-4:]] == [100_000, 5, 5, 5]
    (record,) = ledger.list(HISTORY)
    assert len(str(record.body)) < 40_000
    told = history_of(ledger)
    assert len(told["series"]["forward"]["coarse"]) == COARSE_POINTS


def test_replication_goes_on_where_history_cannot_be_kept_and_says_so() -> None:
    said, told = asyncio.Event(), list[str]()

    class Told:
        def say(self, text: str) -> None:
            told.append(text)
            said.set()

        def advance(self, *_: Any) -> None: ...

    class Refusing(FakeLedger):
        def list(self, section: str, prefix: str = "") -> Any:
            raise Unavailable("DynamoDB says no")

    async def replication() -> str:
        await said.wait()
        return "done"

    job = make_job(migration=SHOP, ledger=Refusing(), progress=Told())
    assert asyncio.run(with_history(job, replication(), sample_s=0.01)) == "done"
    assert "has a gap: DynamoDB says no" in told[0]
