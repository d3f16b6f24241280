"""What flows and the application consume is counted, and kept in the ledger, whatever becomes of them."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from docferry.client.transport.counted import READ_UNITS, WRITE_UNITS, CountedCalls
from docferry.errors import ConditionFailed, Stopped, Unavailable
from docferry.flows.cost.counting import counted
from docferry.flows.kernel.job import Job
from docferry.flows.ledger.rooms.spent import SpentBook, list_spent
from docferry.ports.flows import Ledger, Record, SpentUnits
from docferry.testing.fakes import FakeLedger, FakeTarget
from docferry.testing.jobs import make_job
from docferry.wiring import who
from support.backfill.rig import Quiet
from support.replicate.fake_world import MIGRATION


def book_of(ledger: Ledger, spent: SpentUnits) -> SpentBook:
    return SpentBook(ledger, "validate", spent)


def kept(ledger: Ledger) -> dict[str, SpentUnits]:
    return {one.flow: one.spent for one in list_spent(ledger)}


def test_a_book_adds_what_is_new_each_time_it_is_kept() -> None:
    ledger, spent = FakeLedger(), SpentUnits(read_units=100)
    book = book_of(ledger, spent)
    book.keep()
    assert kept(ledger) == {}, "nothing was spent since the book was opened"
    spent.read_units += 1.5
    book.keep()
    spent.write_units, spent.untold = spent.write_units + 3, 2
    book.keep()
    book.keep()
    assert kept(ledger) == {"validate": SpentUnits(1.5, 3.0, 2)}


def test_two_processes_of_one_flow_are_added_up() -> None:
    ledger, one, other = FakeLedger(), SpentUnits(), SpentUnits()
    books = [book_of(ledger, one), book_of(ledger, other)]
    one.write_units, other.write_units = 5, 7
    for book in books:
        book.keep()
    assert kept(ledger) == {"validate": SpentUnits(0, 12, 0)}


class RacingLedger(FakeLedger):
    """Another process writes the record first, once."""

    raced = False

    def write(self, section: str, key: str, body: Mapping[str, Any], *, expect: Record | None, **more: Any) -> Record:
        if section == "spent" and not self.raced:
            self.raced = True
            super().write(section, key, body, expect=expect, **more)
            raise ConditionFailed("write", operation="write", code="")
        return super().write(section, key, body, expect=expect, **more)


def test_a_race_for_the_record_loses_nothing() -> None:
    ledger, spent = RacingLedger(), SpentUnits()
    book = book_of(ledger, spent)
    spent.write_units = 4
    book.keep()
    assert kept(ledger) == {"validate": SpentUnits(0, 8, 0)}, "the other process's 4, and ours"


class Saying(Quiet):
    """Progress that remembers."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def job_with(ledger: Ledger, progress: Saying | None = None) -> Job:
    return make_job(
        migration=MIGRATION, ledger=ledger, identity=who(), progress=progress or Saying(), stop=threading.Event()
    )


def run(job: Job, target: FakeTarget, error: Exception | None = None) -> None:
    async def flow() -> str:
        target.spent.read_units += 2.5
        if error is not None:
            raise error
        return "done"

    async def running() -> None:
        assert await counted(job, target, "validate", flow()) == "done"

    asyncio.run(running())


def test_what_a_flow_consumed_is_kept_at_its_end_and_when_it_fails() -> None:
    job, target = job_with(FakeLedger()), FakeTarget()
    run(job, target)
    with pytest.raises(Stopped):
        run(job, target, Stopped("asked to stop"))
    assert kept(job.ledger) == {"validate": SpentUnits(5.0, 0.0, 0)}


def test_a_ledger_that_is_away_at_the_end_does_not_decide_what_becomes_of_the_flow() -> None:
    class Away(FakeLedger):
        def read(self, section: str, key: str) -> Record | None:
            raise Unavailable("the ledger does not answer", operation="read")

    progress = Saying()
    run(job_with(Away(), progress), FakeTarget())
    assert any("could not be noted" in text for text in progress.said)


class Told:
    """DynamoDB, which tells its price; or refuses a condition."""

    blocking = True

    def __init__(self, *consumed: Any, refuses: bool = False) -> None:
        self.consumed, self.refuses = list(consumed), refuses
        self.requests: list[Mapping[str, Any]] = []

    async def call(self, operation: str, request: Mapping[str, Any], guard: Any = None) -> dict[str, Any]:
        self.requests.append(request)
        if self.refuses:
            raise ConditionFailed("no", operation=operation, code="ConditionalCheckFailedException")
        return {"ConsumedCapacity": self.consumed.pop(0)}

    async def sleep(self, seconds: float) -> None: ...

    def forked(self) -> None: ...

    async def close(self) -> None: ...


class Counting(Counter[str]):
    def count(self, name: str, number: int) -> None:
        self[name] += number


def asked(calls: Any, operation: str, request: Mapping[str, Any]) -> None:
    asyncio.run(calls.call(operation, request))


def test_units_of_reads_and_writes_are_told_in_whole_ones() -> None:
    found = Counting()
    calls = CountedCalls(
        Told(
            {"CapacityUnits": 0.5},
            {"CapacityUnits": 1.0},
            [{"CapacityUnits": 4}, {"CapacityUnits": 2}],
            {"CapacityUnits": 0.5},
        ),
        found.count,
    )
    for operation in ("Query", "GetItem", "TransactWriteItems", "Query"):
        asked(calls, operation, {"TableName": "T"})
    assert found == {READ_UNITS: 2, WRITE_UNITS: 6}


def test_each_request_asks_for_its_price() -> None:
    told = Told({"CapacityUnits": 1})
    asked(CountedCalls(told, Counting().count), "GetItem", {"TableName": "T"})
    assert told.requests == [{"TableName": "T", "ReturnConsumedCapacity": "TOTAL"}]


@pytest.mark.parametrize(("operation", "units"), [("PutItem", 2), ("TransactWriteItems", 8)])
def test_a_refused_condition_is_paid_for_by_what_was_to_be_written(operation: str, units: int) -> None:
    found = Counting()
    item = {"PK": {"S": "p"}, "SK": {"S": "s"}, "x": {"S": "x" * 1500}}
    request = {"Item": item} if operation == "PutItem" else {"TransactItems": [{"Put": {"Item": item}}] * 2}
    with pytest.raises(ConditionFailed):
        asked(CountedCalls(Told(refuses=True), found.count), operation, request)
    assert found == {WRITE_UNITS: units}


def test_threads_lose_no_half_unit() -> None:
    found = Counting()
    calls = CountedCalls(Told(*[{"CapacityUnits": 0.5}] * 400), found.count)

    def fifty() -> None:
        for _ in range(50):
            asked(calls, "Query", {})

    threads = [threading.Thread(target=fifty) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {READ_UNITS: 200}
