"""A write and its entry: what the process does with each answer, and with none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from docferry.client.items.putter import Putter
from docferry.client.items.reader import StoredDocument
from docferry.client.journal.lanes import InstanceLanes
from docferry.client.journal.write import WriteJournal
from docferry.client.transport.sync_driver import run
from docferry.core.cutover.journal import Entry, EntryKind, Lane, LaneName, entry_in, entry_item
from docferry.core.limits import TRANSACTION_ITEMS
from docferry.core.mapping.items import Item
from docferry.errors import CallRefused, ConditionFailed, InstanceStruck, RetryExhausted
from docferry.ports.flows import Guard
from docferry.testing.fakes import FakeJournal
from docferry.testing.vectors_documents import USER, mapping

LANE = LaneName("one", 0)
PUTS = [{"TableName": "Shop", "Item": {"PK": {"S": "A"}, "SK": {"S": "A"}}}]


class Calls:
    """DynamoDB: the answers to the transactions, in their order; a read finds what is in the slots."""

    blocking = True

    def __init__(self, *answers: Exception | Callable[[str, int], None]) -> None:
        self.answers = list(answers)
        self.slots: dict[int, Entry] = {}
        self.sent: list[tuple[int, Entry]] = []
        self.requests: list[Mapping[str, Any]] = []

    async def call(self, operation: str, request: Mapping[str, Any], guard: Guard | None = None) -> dict[str, Any]:
        if operation == "GetItem":
            slot = int(request["Key"]["SK"]["S"])
            assert request["ConsistentRead"]
            there = self.slots.get(slot)
            return {"Item": entry_item(LANE.partition("shop"), slot, there, 0)} if there is not None else {}
        self.requests.append(request)
        slot, entry = entry_in(request["TransactItems"][-1]["Put"]["Item"])
        self.sent.append((slot, entry))
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        if answer is not None:
            answer(entry.nonce, slot)
        if slot in self.slots:
            raise ConditionFailed("the slot is taken", operation=operation)
        self.slots[slot] = entry
        return {}

    async def sleep(self, seconds: float) -> None: ...

    def forked(self) -> None: ...

    async def close(self) -> None: ...


def lanes(number: int = 1) -> InstanceLanes:
    made = InstanceLanes("one", lambda: None, FakeJournal)
    made.grant(number)
    return made


def commit(calls: Calls, of: InstanceLanes) -> None:
    journal = WriteJournal(table="LedgerJournal", migration="shop", lanes=of)
    run(journal.commit(calls, lambda: None, [{"Put": put} for put in PUTS], []))


def lane_of(of: InstanceLanes) -> Lane:
    lane = of.take()
    assert lane is not None
    of.give_back(lane)
    return lane


def test_entry_is_in_the_transaction_behind_its_items_on_condition_that_its_slot_is_empty() -> None:
    calls, mine = Calls(), lanes()
    commit(calls, mine)
    commit(calls, mine)
    assert [slot for slot, _ in calls.sent] == [1, 2]
    puts = [one["Put"] for one in calls.requests[0]["TransactItems"]]
    assert puts[:-1] == PUTS
    assert (puts[-1]["TableName"], puts[-1]["ConditionExpression"]) == ("LedgerJournal", "attribute_not_exists(PK)")
    assert mine.at[0] == 2
    assert not lane_of(mine).in_doubt


def test_write_without_an_answer_leaves_its_slot_to_the_next_one() -> None:
    calls, mine = Calls(RetryExhausted("TransactWriteItems", 3, 10.0, "no answer")), lanes()
    with pytest.raises(RetryExhausted):
        commit(calls, mine)
    assert lane_of(mine).in_doubt
    commit(calls, mine)
    assert [slot for slot, _ in calls.sent] == [1, 1]
    assert len({entry.nonce for _, entry in calls.sent}) == 2
    assert (mine.at[0], lane_of(mine).in_doubt) == (1, False)


def test_write_goes_behind_an_earlier_one_that_has_arrived_after_all() -> None:
    calls, mine = Calls(RetryExhausted("TransactWriteItems", 3, 10.0, "no answer")), lanes()
    with pytest.raises(RetryExhausted):
        commit(calls, mine)
    calls.slots[1] = calls.sent[0][1]
    commit(calls, mine)
    assert [slot for slot, _ in calls.sent] == [1, 1, 2]
    assert mine.at[0] == 2


def test_write_that_was_refused_where_it_stands_itself_has_happened() -> None:
    calls = Calls()
    calls.answers = [lambda nonce, slot: calls.slots.update({slot: Entry(kind=EntryKind.WRITE, nonce=nonce)})]
    mine = lanes()
    commit(calls, mine)
    assert [slot for slot, _ in calls.sent] == [1]
    assert mine.at[0] == 1


def test_write_whose_document_was_changed_is_refused_and_its_slot_stays_in_doubt() -> None:
    calls, mine = Calls(ConditionFailed("a document", operation="TransactWriteItems")), lanes()
    with pytest.raises(ConditionFailed):
        commit(calls, mine)
    assert lane_of(mine).in_doubt


@pytest.mark.parametrize("kind", [EntryKind.SEAL, EntryKind.WRITE], ids=["seal", "entry of a copy"])
def test_write_that_meets_a_seal_or_a_copy_has_not_happened_and_no_other_begins(kind: EntryKind) -> None:
    calls, mine = Calls(), lanes()
    calls.slots[1] = Entry(kind=kind, nonce="theirs")
    with pytest.raises(InstanceStruck):
        commit(calls, mine)
    assert mine.abandoned
    assert len(calls.sent) == 1


def test_void_takes_the_slot_of_what_is_in_doubt_and_nothing_else() -> None:
    journal = FakeJournal()
    mine = InstanceLanes("one", lambda: None, lambda: journal)
    mine.grant(2)
    lane = lane_of(mine)
    lane.send("lost")
    assert mine.close(every=False)
    assert [entry.kind for entry in journal.entries[lane.name].values()] == [EntryKind.VOID]
    assert mine.at == (1, 0)
    assert mine.close(every=False)
    assert len(journal.entries) == 1


def test_every_lane_gets_a_void_where_a_copy_of_the_process_may_write() -> None:
    journal = FakeJournal()
    mine = InstanceLanes("one", lambda: None, lambda: journal)
    mine.grant(2)
    assert mine.close(every=True)
    assert mine.at == (1, 1)
    journal.entries[LaneName("one", 1)][2] = Entry(kind=EntryKind.WRITE, nonce="the copy's")
    assert not mine.close(every=True)
    assert mine.abandoned


def test_lanes_are_not_closed_while_a_write_is_in_flight() -> None:
    mine = lanes(2)
    lane = mine.take()
    assert lane is not None
    assert not mine.close(every=True)
    mine.give_back(lane)
    assert mine.close(every=True)


def test_void_finds_that_the_write_has_arrived_after_all() -> None:
    journal = FakeJournal()
    mine = InstanceLanes("one", lambda: None, lambda: journal)
    mine.grant(1)
    lane = lane_of(mine)
    lane.send("late")
    journal.entries[lane.name] = {1: Entry(kind=EntryKind.WRITE, nonce="late")}
    assert mine.close(every=False)
    assert mine.at[0] == 1
    assert len(journal.entries[lane.name]) == 1


def test_document_and_its_entry_fit_into_one_transaction() -> None:
    many = {**USER, "addresses": [{"type": "home", "city": str(n)} for n in range(TRANSACTION_ITEMS - 1)]}
    found = StoredDocument(("USER#ann", "PROFILE"), (), {})

    def items(journal: WriteJournal | None) -> int:
        putter = Putter(mapping("users"), Empty(), lambda: None, journal)
        return len(run(putter.prepare(found, many, 0)).puts)

    assert items(None) == TRANSACTION_ITEMS
    with pytest.raises(CallRefused, match="100 items of one document, and a transaction takes 99"):
        items(WriteJournal(table="LedgerJournal", migration="shop", lanes=lanes()))


class Empty(Calls):
    async def call(self, operation: str, request: Mapping[str, Any], guard: Guard | None = None) -> dict[str, Any]:
        none: list[Item] = []
        return {"Items": none}
