"""Leases whose writes lose their answers: what we wrote ourselves is never taken for another's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
from docferry.errors import LeaseHeld, LeaseLost, Stopped, Unavailable
from docferry.flows.ledger.leases import Lease, held, held_async, take_or_create
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


# --- given back at the end of a block --------------------------------------------------------------------------------


class Silent(FakeLedger):
    """A ledger that fails from some moment on."""

    gone = False

    def write(self, *where: Any, **how: Any) -> Any:
        if self.gone:
            raise Unavailable("the ledger is away", operation="write")
        return super().write(*where, **how)


def taken(ledger: FakeLedger) -> Lease:
    return take_or_create(ledger, "points", "p", Identity(name="one", mark="m", ended=lambda mark: False), 60.0)


def block(lease: Lease, beside_a_loop: bool, error: BaseException | None = None) -> None:
    """Holds a lease, with a last checkpoint, and ends by an error or not."""

    async def inside() -> None:
        async with held_async(lease) as mine:
            mine.last = {"state": "last"}
            if error is not None:
                raise error

    if beside_a_loop:
        asyncio.run(inside())
        return
    with held(lease) as mine:
        mine.last = {"state": "last"}
        if error is not None:
            raise error


both = pytest.mark.parametrize("beside_a_loop", [False, True])


@both
@pytest.mark.parametrize("error", [None, ValueError("broken"), Stopped("asked")])
def test_lease_is_given_back_with_the_last_checkpoint_whatever_ends_the_block(
    beside_a_loop: bool, error: Exception | None
) -> None:
    ledger = FakeLedger()
    lease = taken(ledger)
    raised: Any = pytest.raises(type(error)) if error else nullcontext()
    with raised:
        block(lease, beside_a_loop, error)
    record = ledger.read("points", "p")
    assert record is not None
    assert (record.body["owner"], record.body["state"]) == ("", "last")


@both
def test_error_of_the_block_is_what_is_raised_and_tells_that_the_lease_was_kept(beside_a_loop: bool) -> None:
    ledger = Silent()
    lease = taken(ledger)
    ledger.gone = True
    with pytest.raises(ValueError, match="broken") as raised:
        block(lease, beside_a_loop, ValueError("broken"))
    assert "points/p could not be given back: the ledger is away" in "".join(raised.value.__notes__)
    with pytest.raises(LeaseLost):
        lease.check()


@both
def test_lease_that_cannot_be_given_back_after_the_work_is_an_error_and_runs_out(beside_a_loop: bool) -> None:
    ledger = Silent()
    lease = taken(ledger)
    ledger.gone = True
    with pytest.raises(Unavailable):
        block(lease, beside_a_loop)
    with pytest.raises(LeaseLost):
        lease.check()


@both
def test_lease_that_is_lost_is_left_to_its_new_holder(beside_a_loop: bool) -> None:
    ledger = FakeLedger()
    lease = taken(ledger)
    record = ledger.read("points", "p")
    assert record is not None
    theirs = ledger.write("points", "p", {**record.body, "owner": "two", "mark": "n"}, expect=record)
    with pytest.raises(LeaseLost):
        block(lease, beside_a_loop, LeaseLost("points/p"))
    assert ledger.read("points", "p") == theirs
