"""Vectors of what a write sends to DynamoDB, as `client.items.putter` sends it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from docferry.client.items.putter import Putter
from docferry.client.items.reader import DocumentReader
from docferry.client.journal.lanes import InstanceLanes
from docferry.client.journal.write import WriteJournal
from docferry.client.transport.sync_driver import run
from docferry.core.cutover.journal import FIRST_LANES
from docferry.core.mapping.items import Document, Item, ItemKey, key_of, tombstone
from docferry.core.settings import LedgerSettings
from docferry.core.versions import version_text
from docferry.ports.flows import Guard
from docferry.testing.vectors_documents import USER, VERSION, extended, mapping, timeless
from docferry.testing.vectors_journal import INSTANCE, timeless_entry

FLOOR = VERSION + 1_000


class _Table:
    """One table that answers reads, and keeps what is to be written."""

    blocking = True

    def __init__(self, items: Sequence[Item]) -> None:
        self.items: dict[ItemKey, Item] = {key_of(item): item for item in items}
        self.asked: list[tuple[str, Mapping[str, Any]]] = []

    async def call(self, operation: str, request: Mapping[str, Any], guard: Guard | None = None) -> dict[str, Any]:
        if operation in ("TransactWriteItems", "PutItem"):
            self.asked.append((operation, request))
            return {}
        partition = request["ExpressionAttributeValues"][":pk"]["S"]
        return {"Items": [item for (pk, _), item in sorted(self.items.items()) if pk == partition]}

    async def sleep(self, seconds: float) -> None: ...

    def forked(self) -> None: ...

    async def close(self) -> None: ...


def writes() -> Any:
    """`there`: the items of the document's partitions, as they are read. Versions and what a floor is: `versions.json`."""
    users = mapping("users")
    before = users.encode(dict(USER), VERSION)
    changed = {**USER, "visits": 6, "addresses": [USER["addresses"][0], {"type": "work", "city": "Rome"}]}
    graves = [tombstone(item, FLOOR + 7, "_ttl") for item in before]
    return {
        "beside": [
            _beside("put", dict(USER), put=True),
            _beside("put, no children", {**USER, "addresses": []}, put=True),
            _beside("bury", dict(USER), put=False),
        ],
        "leading": [
            _leading("insert", [], None, dict(USER)),
            _leading("insert where something was deleted", graves, None, dict(USER)),
            _leading("change the root, and swap a child for another", before, dict(USER), changed),
            _leading("move to another key", before, dict(USER), {**USER, "username": "bob", "addresses": []}),
            _leading("delete", before, dict(USER), None),
        ],
        "journaled": [
            _leading("insert", [], None, dict(USER), _journal()),
            _leading(
                "move to another key", before, dict(USER), {**USER, "username": "bob", "addresses": []}, _journal()
            ),
            _leading("delete", before, dict(USER), None, _journal()),
        ],
    }


def _beside(what: str, document: Document, *, put: bool) -> dict[str, Any]:
    """While MongoDB leads: the version is the change's own."""
    table = _Table([])
    putter = Putter(mapping("users"), table, lambda: None)
    run(putter.put_newer(document, VERSION) if put else putter.bury_newer(document, VERSION))
    return {
        "what": what,
        "document": extended(document),
        "version": version_text(VERSION),
        **_request(table),
    }


def _journal() -> WriteJournal:
    """Of an instance that has written twice in its first lane."""
    lanes = InstanceLanes(INSTANCE, lambda: None, None)
    lanes.grant(FIRST_LANES)
    lane = lanes.take()
    assert lane is not None
    lane.last = 2
    lanes.give_back(lane)
    return WriteJournal(table=LedgerSettings().journal_table, migration="shop", lanes=lanes)


def _leading(
    what: str,
    there: Sequence[Item],
    before: Document | None,
    after: Document | None,
    journal: WriteJournal | None = None,
) -> dict[str, Any]:
    users, table = mapping("users"), _Table(there)
    at = before if before is not None else after
    assert at is not None
    found = run(DocumentReader(users, table).place(users.root_key(at)))
    run(Putter(users, table, lambda: None, journal).replace(found, after, FLOOR))
    return {
        "what": what,
        "there": [timeless(item) for item in there],
        "before": extended(before),
        "after": extended(after),
        "floor": version_text(FLOOR),
        **_request(table),
    }


def _request(table: _Table) -> dict[str, Any]:
    ((operation, asked),) = table.asked
    request: dict[str, Any] = copy.deepcopy(dict(asked))
    if operation == "TransactWriteItems":
        request["ClientRequestToken"] = "TOKEN"
    for put in [request] if operation == "PutItem" else [one["Put"] for one in request["TransactItems"]]:
        is_entry = put["TableName"] == LedgerSettings().journal_table
        put["Item"] = (timeless_entry if is_entry else timeless)(put["Item"])
    return {"operation": operation, "request": request}
