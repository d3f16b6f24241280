"""Transactions while DynamoDB leads, in any order of their requests: nothing is lost, and none sees what never was."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator
from random import Random
from typing import Any

import pytest
from docferry.client.items.optimistic import LIVES_S, OptimisticTransaction, TransactionPutter, TransactionReader
from docferry.client.items.putter import Putter
from docferry.client.items.reader import DocumentReader
from docferry.client.journal.lanes import InstanceLanes
from docferry.client.journal.write import CommitTicket, WriteJournal
from docferry.client.transport.sync_driver import run
from docferry.config import parse_migration
from docferry.core.limits import TRANSACTION_ITEMS
from docferry.errors import CallRefused, ConditionFailed, KeyTaken, TimedOut
from docferry.testing.fakes import FakeJournal
from support.client.memory_table import MemoryTable, at_once

MAPPING = parse_migration(b"""
migration: bank
source: {database: bank}
tables: {Bank: {}}
backfill: {budget_wcu: 0}
collections:
  accounts:
    table: Bank
    item: {entity: ACCOUNT, key: {PK: "ACCOUNT#{_id}", SK: ACCOUNT}}
""").mapping("accounts")
ACCOUNTS, EACH, SEEDS = 4, 10, 150
Change = Callable[["Account"], Awaitable[None]]


class Conflict(Exception):
    """It may be begun anew."""


class Ended(Conflict):
    """It was over before."""


class Account:
    """The accounts as one transaction sees them."""

    def __init__(self, calls: MemoryTable, journal: WriteJournal | None = None) -> None:
        self.calls, self.journal, self.led = calls, journal, True
        self.transaction = OptimisticTransaction(calls, lambda: self.led, Conflict, Ended)
        self.reader = TransactionReader(MAPPING, calls, self.transaction)
        self.putter = TransactionPutter(MAPPING, calls, lambda: None, self.transaction)
        self.ticket = CommitTicket()

    async def get(self, number: int) -> int | None:
        document = self.reader.document(await self.reader.place(MAPPING.root_key({"_id": number})))
        return int(document["n"]) if document is not None else None

    async def put(self, number: int, n: int | None, moved: int | None = None) -> None:
        place = await self.reader.place(MAPPING.root_key({"_id": number}))
        after = None if n is None else {"_id": number if moved is None else moved, "n": n}
        await self.putter.replace(place, after, 0)

    async def commit(self) -> None:
        await self.transaction.commit(
            lambda mapping: Putter(mapping, self.calls, lambda: None, self.journal), 5, self.ticket
        )


def bank(calls: MemoryTable) -> MemoryTable:
    gate, calls.gate = calls.gate, at_once
    for number in range(ACCOUNTS):
        run(Putter(MAPPING, calls, lambda: None).replace(None, {"_id": number, "n": EACH}, 5))
    calls.gate = gate
    return calls


def balances(calls: MemoryTable) -> list[int | None]:
    calls.gate = at_once
    reader = DocumentReader(MAPPING, calls)
    found = [
        reader.document(place) for place in run(reader.places([MAPPING.root_key({"_id": n}) for n in range(ACCOUNTS)]))
    ]
    return [one["n"] if one is not None else None for one in found]


# --- one after the other ---------------------------------------------------------------------------------------------


def test_its_own_reads_see_its_writes_and_others_do_not_until_it_is_committed() -> None:
    calls = bank(MemoryTable())
    one, other = Account(calls), Account(calls)

    async def work() -> list[Any]:
        await one.put(0, 3)
        await one.put(1, None)
        found = [await one.get(0), await one.get(1), await other.get(0), await other.get(1)]
        await one.commit()
        return found

    assert run(work()) == [3, None, EACH, EACH]
    assert balances(calls) == [3, None, EACH, EACH]


def test_commit_is_one_request_with_a_check_of_what_was_read_and_not_changed() -> None:
    calls = bank(MemoryTable())
    one = Account(calls)

    async def work() -> None:
        await one.get(0)
        await one.get(9)
        await one.put(1, 7)
        calls.asked.clear()
        await one.commit()

    run(work())
    assert calls.asked == ["TransactWriteItems"]
    kinds = [next(iter(asked)) for asked in (one.ticket.request or {})["TransactItems"]]
    assert kinds == ["Put", "ConditionCheck", "ConditionCheck"]


@pytest.mark.parametrize("number", [0, 9], ids=["there", "not there"])
def test_what_was_read_and_is_changed_by_another_prevents_the_commit(number: int) -> None:
    calls = bank(MemoryTable())
    one, other = Account(calls), Account(calls)

    async def work() -> None:
        await one.get(number)
        await one.put(1, 7)
        await other.put(number, 1)
        await other.commit()
        await one.commit()

    with pytest.raises(ConditionFailed):
        run(work())
    assert balances(calls)[1] == EACH


def test_read_tells_nothing_that_does_not_fit_to_what_was_read_before() -> None:
    calls = bank(MemoryTable())
    one, other = Account(calls), Account(calls)

    async def work() -> None:
        await one.get(0)
        await other.put(0, 0)
        await other.put(1, 2 * EACH)
        await other.commit()
        await one.get(1)

    with pytest.raises(Conflict):
        run(work())
    with pytest.raises(Ended):
        run(one.get(2))


def test_document_moves_to_another_key_and_what_is_there_is_not_overwritten() -> None:
    calls = bank(MemoryTable())
    one = Account(calls)

    async def taken() -> None:
        await one.put(0, 1, moved=1)

    with pytest.raises(KeyTaken):
        run(taken())

    async def in_the_place_of_another() -> None:
        await one.put(1, None)
        await one.put(0, 1, moved=1)

    with pytest.raises(CallRefused):
        run(in_the_place_of_another())


def test_removed_document_comes_back_and_a_new_one_goes() -> None:
    calls = bank(MemoryTable())
    one = Account(calls)

    async def work() -> None:
        await one.put(0, None)
        await one.put(0, 4)
        await one.put(9, 1)
        await one.put(9, None)
        await one.commit()

    run(work())
    assert balances(calls)[0] == 4
    assert ("ACCOUNT#9", "ACCOUNT") not in calls.items


def test_more_than_a_transaction_takes_is_refused_before_anything_is_written() -> None:
    calls = bank(MemoryTable())
    one = Account(calls)

    async def work(number: int) -> None:
        for at in range(number):
            await one.put(100 + at, 1)
        await one.get(0)
        await one.commit()

    with pytest.raises(CallRefused, match="Nothing was written"):
        run(work(TRANSACTION_ITEMS))
    assert len(calls.items) == ACCOUNTS
    one = Account(calls)
    run(work(TRANSACTION_ITEMS - 1))
    assert len(calls.items) == ACCOUNTS + TRANSACTION_ITEMS - 1


def test_it_ends_with_the_mode_and_with_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = bank(MemoryTable())
    for late in (False, True):
        one = Account(calls)
        run(one.put(0, 1))
        one.led = late
        if late:
            monkeypatch.setattr("docferry.client.items.optimistic.LIVES_S", -LIVES_S)
        with pytest.raises(Ended, match="open" if late else "mode"):
            run(one.commit())
    assert balances(calls) == [EACH] * ACCOUNTS


@pytest.mark.parametrize("arrived", [True, False])
def test_commit_without_an_answer_is_settled_by_its_slot_of_the_journal(arrived: bool) -> None:
    calls = bank(MemoryTable())
    lanes = InstanceLanes("one", lambda: None, FakeJournal)
    lanes.grant(1)
    journal = WriteJournal(table="LedgerJournal", migration="bank", lanes=lanes)
    one, later = Account(calls, journal), Account(calls, journal)
    run(one.put(0, 1))
    lost = TimedOut("no answer")
    if arrived:
        calls.lost = lambda operation: lost if operation == "TransactWriteItems" else None
    else:
        calls._TransactWriteItems, usual = lambda request: _raise(lost), calls._TransactWriteItems  # type: ignore[method-assign]
    with pytest.raises(TimedOut):
        run(one.commit())
    calls.lost = lambda operation: None
    if not arrived:
        calls._TransactWriteItems = usual  # type: ignore[method-assign]
    for _ in range(2):  # asked again, it says the same
        assert run(journal.happened(calls, lambda: None, one.ticket)) is arrived
    run(later.put(1, 2))
    run(later.commit())
    assert run(journal.happened(calls, lambda: None, later.ticket))
    assert run(journal.happened(calls, lambda: None, one.ticket)) is arrived
    assert balances(calls)[:2] == [1 if arrived else EACH, 2]


def _raise(error: Exception) -> Any:
    raise error


# --- in every order --------------------------------------------------------------------------------------------------


class _Turn:
    def __await__(self) -> Generator[None]:
        yield


async def _another() -> None:
    await _Turn()


def interleaved(random: Random, works: list[Coroutine[Any, Any, None]]) -> None:
    """Run them all, from request to request, in a random order."""
    while works:
        one = random.choice(works)
        try:
            one.send(None)
        except StopIteration:
            works.remove(one)


async def until_committed(calls: MemoryTable, change: Change) -> None:
    for _ in range(60):
        one = Account(calls)
        try:
            await change(one)
            await one.commit()
        except (Conflict, ConditionFailed):
            continue
        return
    raise AssertionError("never committed")


def world(seed: int) -> list[str]:
    """What went wrong among transfers, withdrawals from two accounts together, and those who read all."""
    random, calls = Random(seed), bank(MemoryTable(_another))
    wrong: list[str] = []

    async def transfer(one: Account) -> None:
        source, target = random.sample(range(2), 2)
        amount = random.randint(1, 5)
        await one.put(source, (await one.get(source) or 0) - amount)
        await one.put(target, (await one.get(target) or 0) + amount)

    async def withdraw(one: Account) -> None:
        """As long as both accounts together have enough."""
        both = [await one.get(2) or 0, await one.get(3) or 0]
        at = random.randrange(2)
        if sum(both) >= EACH:
            await one.put(2 + at, both[at] - EACH)

    async def audit(one: Account) -> None:
        seen = [await one.get(number) or 0 for number in range(2)]
        if sum(seen) != 2 * EACH:
            wrong.append(f"an audit has seen {seen}")

    changes = [transfer] * 3 + [withdraw] * 3 + [audit] * 2
    interleaved(random, [until_committed(calls, change) for change in changes])
    first, second, *joint = [one or 0 for one in balances(calls)]
    if first + second != 2 * EACH:
        wrong.append(f"the total is {first + second}")
    if sum(joint) < 0:
        wrong.append(f"two accounts have {joint} together")
    return wrong


def test_no_order_of_requests_loses_money_or_shows_a_total_that_never_was() -> None:
    assert [found for seed in range(SEEDS) for found in world(seed)] == []


@pytest.mark.parametrize("broken", ["reads are not looked at again", "what was only read is not checked"])
def test_without_its_rules_it_does(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if broken == "reads are not looked at again":

        async def nothing(self: OptimisticTransaction, last: Any) -> None: ...

        monkeypatch.setattr(OptimisticTransaction, "_look_again", nothing)
    else:
        commit = Putter.commit

        async def unchecked(self: Putter, prepared: Any, checks: Any = (), ticket: Any = None) -> None:
            await commit(self, prepared, (), ticket)

        monkeypatch.setattr(Putter, "commit", unchecked)
    assert any(world(seed) for seed in range(SEEDS))
