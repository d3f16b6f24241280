"""Leases whose writes lose their answers: what we wrote ourselves is never taken for somebody else's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from docferry.errors import LeaseHeld, LeaseLost, Unavailable
from docferry.flows.ledger.leases import Lease, take_or_create
from docferry.ports.flows import Identity
from docferry.testing.fakes import FakeLedger

GONE = Unavailable("the answer got lost", operation="PutItem")


def identity(name: str) -> Identity:
    return Identity(name=name, mark=name, ended=lambda mark: False)


@pytest.fixture
def ledger() -> FakeLedger:
    return FakeLedger()


@pytest.fixture
def lease(ledger: FakeLedger) -> Iterator[Lease]:
    made = take_or_create(ledger, "work", "a", identity("one"), 60.0)
    yield made
    made.abandon()


def test_checkpoint_whose_answer_got_lost_does_not_cost_the_lease(ledger: FakeLedger, lease: Lease) -> None:
    ledger.faults.lose_next_answers(GONE)
    with pytest.raises(Unavailable):
        lease.update({"place": 1})
    lease.update({"other": 2})
    lease.check()
    record = ledger.read("work", "a")
    assert record is not None
    assert (record.body["place"], record.body["other"], record.body["owner"]) == (1, 2, "one")


def test_lease_is_given_back_after_a_checkpoint_whose_answer_got_lost(ledger: FakeLedger, lease: Lease) -> None:
    ledger.faults.lose_next_answers(GONE)
    with pytest.raises(Unavailable):
        lease.update({"place": 1})
    lease.release({"place": 2})
    record = ledger.read("work", "a")
    assert record is not None
    assert (record.body["place"], record.body["owner"]) == (2, "")


def test_lease_that_somebody_took_is_lost_at_the_next_checkpoint(ledger: FakeLedger, lease: Lease) -> None:
    record = ledger.read("work", "a")
    assert record is not None
    ledger.write("work", "a", {**record.body, "until": 0}, expect=record)
    other = take_or_create(ledger, "work", "a", identity("two"), 60.0)
    with pytest.raises(LeaseLost):
        lease.update({"place": 1})
    with pytest.raises(LeaseLost):
        lease.check()
    other.update({"place": 2})
    other.abandon()


def test_two_of_one_process_do_not_both_take_it(ledger: FakeLedger, lease: Lease) -> None:
    record = ledger.read("work", "a")
    assert record is not None
    lease.release()
    free = ledger.read("work", "a")
    assert free is not None
    first = Lease(ledger, free, identity("one"), 60.0)
    with pytest.raises(LeaseLost):
        Lease(ledger, free, identity("one"), 50.0)
    with pytest.raises(LeaseHeld, match="one"):
        take_or_create(ledger, "work", "a", identity("one"), 60.0)
    first.abandon()
