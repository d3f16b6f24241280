"""Once DynamoDB leads, a collection with `order: keep` is found and changed by the order of fields, as in MongoDB."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import bson
import pytest
from docferry.client.context import ClientContext
from docferry.client.reads.aggregate import Aggregation, Aggregations
from docferry.client.reads.route import Queries, Query
from docferry.client.tally import Tally
from docferry.client.transport.sync_driver import run
from docferry.client.writes.leading import LeadingWrites, updating
from docferry.config import parse_migration
from docferry.core.cutover.modes import Mode, ModeState
from docferry.core.mapping.items import Document
from docferry.core.mql.updates import Changed
from support.client.memory_table import MemoryTable

LEADS = ModeState(mode=Mode.DYNAMODB_ONLY, epoch=1, floor=1 << 40)
ANN = {"name": "ann"}
USER = {"_id": 1, "name": "ann", "z": 1, "address": {"zip": 1, "city": 2}, "seen": [{"y": 1, "x": 2}, {"x": 2, "y": 1}]}


class Client:
    """DynamoDB leads, in memory."""

    def __init__(self, order: str) -> None:
        migration = parse_migration(
            f"""
migration: order
source: {{database: order}}
tables: {{Users: {{}}}}
collections:
  users:
    order: {order}
    item: {{entity: USER, key: {{PK: "USER#{{name}}", SK: PROFILE}}}}
""".encode()
        )
        self.table = MemoryTable()
        members: Any = SimpleNamespace(lanes=None, check=lambda: None, state=LEADS, tally=Tally())
        metrics: Any = SimpleNamespace(count=lambda *_: None, waiting=[])
        calls: Any = self.table
        nothing: Any = None
        parts = ClientContext(
            migration="order", journal="", mappings=migration.mappings, patterns=(), mongo=nothing, calls=calls, beside=calls,
            membership=members, metrics=metrics,
        )  # fmt: skip
        self.writes = LeadingWrites(parts, "users")
        self.aggregations = Aggregations(parts, "users")
        self.queries = Queries(parts, "users", nothing)
        run(self.writes.insert(LEADS, dict(USER)))

    def find(self, **more: Any) -> Document | None:
        return run(self.writes.change(LEADS, ANN | more, lambda document: Changed(document, False), None)).before

    def update(self, update: Any, **more: Any) -> bool:
        """Whether it changes anything."""
        asked = updating(ANN | more, update, {}, ordered=self.writes.keeps_order)
        done = run(self.writes.change(LEADS, ANN | more, asked.apply, None))
        return done.after is not done.before

    def aggregate(self, *stages: Document) -> list[Document]:
        asked = Aggregation(pipeline=[{"$match": ANN}, *stages])
        return run(self.aggregations.documents(asked))

    def distinct(self, key: str) -> list[Any]:
        return run(self.queries.distinct(key, Query(filter=ANN)))


@pytest.fixture
def kept() -> Client:
    return Client("keep")


@pytest.fixture
def ignored() -> Client:
    return Client("ignore")


def test_document_comes_back_as_it_was_inserted(kept: Client) -> None:
    assert bson.encode(kept.find() or {}) == bson.encode(USER)


@pytest.mark.parametrize(
    ("update", "after"),
    [
        ({"$set": {"address.new": 3, "address.zip": 4}}, USER | {"address": {"zip": 4, "city": 2, "new": 3}}),
        ({"$set": {"address": {"city": 2, "zip": 1}}}, USER | {"address": {"city": 2, "zip": 1}}),
        ({"$unset": {"z": 1}}, {name: value for name, value in USER.items() if name != "z"}),
        ({"$rename": {"address.zip": "address.code"}}, USER | {"address": {"city": 2, "code": 1}}),
        ({"$pull": {"seen": {"$eq": {"x": 2, "y": 1}}}}, USER | {"seen": [{"y": 1, "x": 2}]}),
        ({"$addToSet": {"seen": {"y": 1, "x": 2}}}, USER),
        ([{"$set": {"address.a": "$z"}}], USER | {"address": {"zip": 1, "city": 2, "a": 1}}),
    ],
    ids=str,
)
def test_update_keeps_places_and_adds_at_the_end(kept: Client, update: Any, after: Document) -> None:
    assert kept.update(update) is (after is not USER)
    assert bson.encode(kept.find() or {}) == bson.encode(after)
    assert len(kept.table.transactions) == 1 + (after is not USER)


def test_what_only_changes_an_order_is_no_change_where_it_is_not_kept(ignored: Client) -> None:
    assert not ignored.update({"$set": {"address": {"city": 2, "zip": 1}}})
    assert len(ignored.table.transactions) == 1


@pytest.mark.parametrize(
    "query",
    [
        {"address": {"city": 2, "zip": 1}},
        {"address": {"$in": [{"city": 2, "zip": 1}]}},
        {"seen": [{"x": 2, "y": 1}, {"y": 1, "x": 2}]},
        {"$expr": {"$eq": ["$address", {"city": 2, "zip": 1}]}},
        {"$expr": {"$in": [{"city": 2, "zip": 1}, ["$address"]]}},
    ],
    ids=str,
)
def test_subdocument_of_another_order_is_another_where_it_is_kept_alone(
    kept: Client, ignored: Client, query: Document
) -> None:
    assert kept.find(**query) is None
    assert ignored.find(**query) is not None
    assert kept.find(address={"zip": 1, "city": 2}) is not None


def test_positional_update_finds_the_element_of_its_order(kept: Client) -> None:
    assert kept.update({"$set": {"seen.$.a": 1}}, seen={"x": 2, "y": 1})
    assert (kept.find() or {})["seen"] == [{"y": 1, "x": 2}, {"x": 2, "y": 1, "a": 1}]


def test_groups_sets_and_distinct_values_tell_orders_apart(kept: Client, ignored: Client) -> None:
    for client, number in ((kept, 2), (ignored, 1)):
        groups = client.aggregate({"$unwind": "$seen"}, {"$group": {"_id": "$seen", "all": {"$addToSet": "$seen"}}})
        assert len(groups) == number
        assert len(client.aggregate({"$project": {"of": {"$setUnion": ["$seen"]}}})[0]["of"]) == number
        assert len(client.distinct("seen")) == number
