"""The books of a stream: nothing that was read is unaccounted for, and nothing is counted twice."""

from __future__ import annotations

import pytest
from docferry.errors import InvariantBroken
from docferry.flows.kernel.books import Books
from docferry.flows.ledger.positions import COUNTED
from docferry.flows.ledger.rooms.reverse_stream import COUNTERS
from docferry.flows.replicate.report import ChangeOutcome, ReplicationReport
from docferry.flows.reverse.report import ReverseReport


def of(read: int, *outcomes: ChangeOutcome) -> Books[ChangeOutcome]:
    books = Books("events", ChangeOutcome)
    for _ in range(read):
        books.take()
    for outcome in outcomes:
        books.enter(outcome)
    return books


def test_an_event_without_an_outcome_is_our_bug() -> None:
    books = of(3, ChangeOutcome.WRITTEN, ChangeOutcome.DEAD)
    with pytest.raises(InvariantBroken, match="3 events were read, which do not add up"):
        ReplicationReport(books=books).check()
    books.enter(ChangeOutcome.SUPERSEDED)
    ReplicationReport(books=books).check()


def test_an_outcome_that_was_entered_twice_is_our_bug() -> None:
    with pytest.raises(InvariantBroken):
        of(1, ChangeOutcome.WRITTEN, ChangeOutcome.WRITTEN).check()


def test_what_will_be_read_again_is_not_counted() -> None:
    books = of(3, ChangeOutcome.WRITTEN)
    books.give_back(2)
    books.check()
    assert books.counted() == {"events": 1, "written": 1, "superseded": 0, "dead": 0, "passed": 0, "outside": 0}


def test_the_ledger_is_told_of_all_runs_and_the_report_of_this_one() -> None:
    first = of(2, ChangeOutcome.WRITTEN, ChangeOutcome.DEAD)
    second = of(1, ChangeOutcome.WRITTEN)
    second.go_on_from(first.totals())
    assert second.totals() == {"events": 3, "written": 2, "superseded": 0, "dead": 1, "passed": 0, "outside": 0}
    assert second.counted()["events"] == 1


def test_each_direction_counts_what_the_ledger_keeps_and_status_shows() -> None:
    assert {*ReverseReport().books.counted(), "healed"} == set(COUNTERS)
    assert set(ReplicationReport().books.counted()) == set(COUNTED)
