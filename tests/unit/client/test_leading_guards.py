"""Unique indexes once DynamoDB leads: guards in the documents' own transaction, and what is another's is refused."""

from __future__ import annotations

from typing import Any

import pytest
from docferry.client.items.optimistic import OptimisticTransaction, TransactionPutter, TransactionReader
from docferry.client.items.putter import Putter
from docferry.client.items.reader import DocumentReader
from docferry.client.journal.write import CommitTicket
from docferry.client.transport.sync_driver import run
from docferry.config import parse_migration
from docferry.core.mapping.items import Item, is_guard, tombstone
from docferry.core.versions import version_in
from docferry.errors import CallRefused, ConditionFailed, KeyTaken
from support.client.memory_table import MemoryTable

MAPPING = parse_migration(b"""
migration: unique
source: {database: unique}
tables: {Unique: {}}
collections:
  users:
    item: {entity: USER, key: {PK: "USER#{name}", SK: PROFILE}}
    unique:
      mail_1: {key: [mail], partial: {mail: {$gt: ""}}}
      _id_: [_id]
      tags_1: {key: {tags: -1}, sparse: true}
""").mapping("users")
FLOOR = 100
ANN = {"_id": 1, "name": "ann", "mail": "ann@x"}
BOB = {"_id": 2, "name": "bob", "mail": "bob@x"}
Document = dict[str, Any]


class Users:
    def __init__(self, *documents: Document) -> None:
        self.table, self.counted = MemoryTable(), list[str]()
        self.putter = Putter(MAPPING, self.table, lambda: None, count=self.counted.append)
        self.reader = DocumentReader(MAPPING, self.table)
        for one in documents:
            self.change((one["name"], one))

    def change(self, *changes: tuple[str, Document | None]) -> None:
        """What each of these names shall hold, in one transaction."""
        run(self._change(changes))

    async def _change(self, changes: tuple[tuple[str, Document | None], ...]) -> None:
        places = [await self.reader.place((f"USER#{name}", "PROFILE")) for name, _ in changes]
        await self.putter.commit(
            [await self.putter.prepare(place, after, FLOOR) for place, (_, after) in zip(places, changes, strict=True)]
        )

    def guards(self) -> dict[str, str]:
        """Live guards, by their values: whose they are."""
        found = [item for item in self.table.items.values() if is_guard(item) and "_deleted" not in item]
        return {item["PK"]["S"].removeprefix("UNIQUE#users."): item["_id"]["N"] for item in found}

    def at(self, value: str) -> Item:
        return self.table.items[f"UNIQUE#users.{value}", "UNIQUE"]


def test_an_insert_puts_its_guards_in_its_own_transaction() -> None:
    users = Users({**ANN, "tags": ["a", "b"]})
    assert users.guards() == {"mail_1#ann@x": "1", "_id_#~i1": "1", "tags_1#a": "1", "tags_1#b": "1"}
    assert len(users.table.transactions) == 1


def test_an_insert_with_a_value_of_another_is_a_duplicate_of_that_index_and_writes_nothing() -> None:
    users = Users({**ANN, "tags": [5]})
    before = dict(users.table.items)
    with pytest.raises(KeyTaken) as taken:
        users.change(("bob", {**BOB, "tags": [7, 5.0]}))
    assert (taken.value.index, taken.value.pattern, taken.value.key) == ("tags_1", {"tags": -1}, {"tags": 5.0})
    assert users.table.items == before


def test_of_several_duplicates_the_id_is_told_first() -> None:
    users = Users(ANN)
    with pytest.raises(KeyTaken) as taken:
        users.change(("other", {**ANN, "name": "other"}))
    assert (taken.value.index, taken.value.key) == ("_id_", {"_id": 1})


def test_a_change_of_value_leaves_a_tombstone_and_frees_it() -> None:
    users = Users(ANN)
    users.change(("ann", {**ANN, "mail": "new@x"}))
    assert users.guards() == {"mail_1#new@x": "1", "_id_#~i1": "1"}
    assert "_deleted" in users.at("mail_1#ann@x")
    users.change(("bob", {**BOB, "mail": "ann@x"}))
    assert users.guards()["mail_1#ann@x"] == "2"


def test_a_delete_gives_up_all_guards() -> None:
    users = Users(ANN)
    users.change(("ann", None))
    assert users.guards() == {}


def test_a_change_that_touches_no_value_reads_and_writes_no_guard() -> None:
    users = Users(ANN)
    users.change(("ann", {**ANN, "visits": 2}))
    assert [is_guard(item) for item in users.table.transactions[-1]] == [False]


def test_two_documents_swap_values_in_one_transaction_and_each_guard_is_put_once() -> None:
    users = Users(ANN, BOB)
    users.change(("ann", {**ANN, "mail": "bob@x"}), ("bob", {**BOB, "mail": "ann@x"}))
    assert users.guards()["mail_1#bob@x"] == "1"
    assert users.guards()["mail_1#ann@x"] == "2"


def test_a_value_passes_on_in_one_transaction_with_the_end_of_its_document() -> None:
    users = Users(ANN)
    users.change(("ann", None), ("bob", {**BOB, "mail": "ann@x"}))
    assert users.guards() == {"mail_1#ann@x": "2", "_id_#~i2": "2"}


def test_two_documents_of_one_transaction_may_not_gain_one_value() -> None:
    users = Users()
    with pytest.raises(KeyTaken):
        users.change(("ann", ANN), ("bob", {**BOB, "mail": "ann@x"}))
    assert users.table.items == {}


def test_versions_of_guards_rise_above_what_was_stored_in_their_place() -> None:
    users = Users()
    (mail,) = [one for one in MAPPING.guard_items(BOB, 10_000) if "mail" in one["PK"]["S"]]
    users.table.put(tombstone(mail, 10_000, "_ttl"))
    users.change(("ann", {**ANN, "mail": "bob@x"}))
    assert version_in(users.at("mail_1#bob@x")) == 10_001


def test_a_guard_that_another_has_taken_meanwhile_is_met_by_the_condition() -> None:
    users = Users(ANN, BOB)

    async def late() -> None:
        place = await users.reader.place(("USER#bob", "PROFILE"))
        prepared = await users.putter.prepare(place, {**BOB, "mail": "new@x"}, FLOOR)
        await users._change((("ann", {**ANN, "mail": "new@x"}),))
        await users.putter.commit([prepared])

    with pytest.raises(ConditionFailed):
        run(late())
    assert users.guards()["mail_1#new@x"] == "1"
    assert users.guards()["mail_1#bob@x"] == "2"


def test_a_guard_to_give_up_that_is_anothers_is_left_and_counted() -> None:
    users = Users(ANN)
    (mail,) = [one for one in MAPPING.guard_items({**ANN, "_id": 9}, 200) if "mail" in one["PK"]["S"]]
    users.table.put(mail)
    users.change(("ann", {**ANN, "mail": "new@x"}))
    assert users.guards()["mail_1#ann@x"] == "9"
    assert users.counted == ["guards.not_its_own"]


def test_value_of_an_item_that_another_program_lets_expire_stays_taken() -> None:
    """docferry gives no document the table's TTL attribute: its guards would outlive it."""
    users = Users(ANN)
    users.table.items["USER#ann", "PROFILE"]["_ttl"] = {"N": "1"}
    before = dict(users.table.items)
    assert not run(users.reader.place(("USER#ann", "PROFILE"))).live
    for name, document in (("bob", {**BOB, "mail": "ann@x"}), ("ann", {**ANN, "_id": 3})):
        with pytest.raises(KeyTaken):
            users.change((name, document))
    assert users.table.items == before


class InTransaction:
    """The users as one optimistic transaction sees them."""

    def __init__(self, users: Users) -> None:
        self.users = users
        self.transaction = OptimisticTransaction(users.table, lambda: True, Conflict, Conflict)
        self.reader = TransactionReader(MAPPING, users.table, self.transaction)
        self.putter = TransactionPutter(MAPPING, users.table, lambda: None, self.transaction)

    async def change(self, name: str, **fields: Any) -> None:
        place = await self.reader.place((f"USER#{name}", "PROFILE"))
        document = self.reader.document(place) or {"name": name}
        await self.putter.replace(place, {**document, **fields}, FLOOR)

    async def commit(self) -> None:
        await self.transaction.commit(lambda mapping: self.users.putter, FLOOR, CommitTicket())


class Conflict(Exception):
    """It may be begun anew."""


def test_a_transaction_of_several_calls_may_pass_values_on_and_is_refused_at_its_commit_for_one_of_another() -> None:
    users = Users(ANN, BOB)

    async def work(*changes: tuple[str, str]) -> None:
        one = InTransaction(users)
        for name, mail in changes:
            await one.change(name, mail=mail)
        await one.commit()

    run(work(("ann", ""), ("bob", "ann@x"), ("ann", "bob@x")))
    assert users.guards() == {"mail_1#bob@x": "1", "mail_1#ann@x": "2", "_id_#~i1": "1", "_id_#~i2": "2"}
    before = dict(users.table.items)
    with pytest.raises(KeyTaken):
        run(work(("ann", "new@x"), ("bob", "bob@x"), ("ann", "bob@x")))
    assert users.table.items == before


def test_a_dual_put_writes_no_guard() -> None:
    assert [is_guard(item) for item in Users().putter.items({**ANN, "tags": [1]}, 7)] == [False]


def test_guards_count_among_the_items_of_a_transaction() -> None:
    with pytest.raises(CallRefused, match="103 items of one document, and a transaction takes 100"):
        Users({**ANN, "tags": list(range(100))})
