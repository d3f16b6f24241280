"""The two databases of a run on real servers: a mongod, and DynamoDB's emulator behind docferry's own adapters.

All runs share a collection, a table and a ledger table; each has ids, names and a migration's name of its own. Updates are
made with update operators, or with a pipeline of which the server itself finds the difference: what an update touched
is what the change stream says.
"""

from __future__ import annotations

import copy
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random
from typing import Any

import orjson
from bson.timestamp import Timestamp
from docferry.adapters.aws.dynamodb import DynamoTarget
from docferry.adapters.aws.dynamodb_http import DynamoHttp
from docferry.adapters.aws.ledger import DynamoLedger
from docferry.adapters.mongodb.change_stream import MongoFeed
from docferry.adapters.mongodb.source import MongoSource
from docferry.config import Migration
from docferry.core.mapping.items import Item
from docferry.core.mapping.large.overflow import fitting_of
from docferry.core.mapping.mapping import KeyFields
from docferry.core.mapping.raw import id_bytes
from docferry.core.mapping.table_layout import TableLayout
from docferry.errors import ConditionFailed
from docferry.ports.flows import Bounds, StreamPosition
from pymongo import MongoClient, WriteConcern
from pymongo.client_session import ClientSession

from support.backfill.rig import _Endpoint, session_of, table_names
from support.convergence.sides import DATABASE, DOCS, MIGRATION, TABLE, Made, ids_for, names_for

MAJORITY = WriteConcern(w="majority")
APART = 100_000
"""Ids between two runs."""
BATCH_EVENTS = 4
OVER_BYTES = 130
SPLIT_BYTES = 270
_FITTING = fitting_of(replace(one, overflow="split") for one in MIGRATION.collections)
assert _FITTING is not None
LAYOUT = TableLayout(fitting=replace(_FITTING, over=OVER_BYTES, limit=SPLIT_BYTES, part_bytes=40))
"""About half of the documents are compressed, and some of these in parts; a change makes them so or not."""
NEWER = {
    "ConditionExpression": "attribute_not_exists(#v) OR #v < :v",
    "ExpressionAttributeNames": {"#v": "_v"},
}


class SmallBatches(MongoSource):
    """Gives the stream in such small batches that a position may lie in the midst of a transaction."""

    def follow(self, position: StreamPosition, key_fields: Mapping[str, KeyFields]) -> MongoFeed:
        feed = super().follow(position, key_fields)
        feed._events = BATCH_EVENTS
        return feed


class RealServers:
    """A stack, and the tables and the collection that all runs share. Close it."""

    def __init__(self, env: Mapping[str, str]) -> None:
        mark = uuid.uuid4().hex[:8]
        self.session: Any = _Endpoint(session_of(env), env["AWS_ENDPOINT_URL_DYNAMODB"])
        self.mongo: MongoClient[Any] = MongoClient(env["DOCFERRY_MONGO_URI"])
        self.database = self.mongo.get_database(f"{DATABASE}_{mark}", write_concern=MAJORITY)
        self.source = SmallBatches(env["DOCFERRY_MONGO_URI"], self.database.name)
        self.source.enable_images(DOCS)
        docs = self.database[DOCS]
        docs.create_index("name", unique=True)
        docs.create_index(
            "mail", unique=True, partialFilterExpression={"active": {"$exists": True}, "mail": {"$gt": ""}}
        )
        docs.create_index("tags", unique=True, sparse=True)
        self._create_tables(TABLE, f"Ledger{mark}")
        self._ledger = DynamoLedger(self.session, f"Ledger{mark}", "")
        self._runs = 0

    def _create_tables(self, *names: str) -> None:
        client = self.session.client("dynamodb")
        for name in set(names) - table_names(client):
            keys = {"PK": "HASH", "SK": "RANGE"}
            client.create_table(
                TableName=name,
                BillingMode="PAY_PER_REQUEST",
                KeySchema=[{"AttributeName": key, "KeyType": kind} for key, kind in keys.items()],
                AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
            )

    @asynccontextmanager
    async def side(self, seed: int, documents: int, lanes: int, migration: Migration) -> AsyncIterator[RealSide]:
        """The databases of one run. Belongs to the event loop."""
        self._runs += 1
        ledger = copy.copy(self._ledger)
        ledger._migration = mark = f"{MIGRATION.name}-{uuid.uuid4().hex[:8]}-"
        http = DynamoHttp(self.session)
        try:
            first = self._runs * APART
            ids, names = ids_for(documents, first, lanes), names_for(documents, mark)
            bounds = Bounds(id_bytes(first), id_bytes(first + APART))
            yield RealSide(self, http, ledger, migration, ids, names, bounds, Random(f"side {seed}"))
        finally:
            await http.close()

    def close(self) -> None:
        self.mongo.drop_database(self.database.name)
        self.mongo.close()
        self.source.close()


class RealSide:
    """Side on real servers."""

    kinds, look_s = "xy", 0.0005

    def __init__(
        self,
        servers: RealServers,
        http: DynamoHttp,
        ledger: DynamoLedger,
        migration: Migration,
        ids: Sequence[int],
        names: Sequence[str],
        bounds: Bounds,
        random: Random,
    ) -> None:
        self.source, self.ledger = servers.source, ledger
        self.target = DynamoTarget(http, layouts={TABLE: LAYOUT})
        self.migration = migration
        self.ids, self.names, self.bounds = ids, names, bounds
        self.mails = names
        self._servers, self._http, self._random = servers, http, random
        self._docs = servers.database[DOCS]

    # --- MongoDB -------------------------------------------------------------------------------------------------------

    def write(self, changes: Sequence[Made]) -> Timestamp:
        with self._servers.mongo.start_session(causal_consistency=False) as session:
            if len(changes) == 1:
                self._make(changes[0], session)
            else:
                with session.start_transaction(write_concern=MAJORITY):
                    for change in changes:
                        self._make(change, session)
            time = session.operation_time
        assert time is not None
        return time

    def _make(self, change: Made, session: ClientSession) -> None:
        """One change, which the reply proves."""
        key, document, touched = change
        if document is None:
            done = self._docs.delete_one({"_id": key}, session=session).deleted_count
        elif touched is None:
            put = self._docs.replace_one({"_id": key}, document, upsert=True, session=session)
            done = put.modified_count + (put.upserted_id is not None)
        else:
            done = self._docs.update_one({"_id": key}, self._update(document, touched), session=session).modified_count
        assert done == 1, f"{change} changed {done} documents"

    def _update(self, document: Mapping[str, Any], touched: Sequence[str]) -> Any:
        if self._random.random() < 0.3:  # the server finds out what that changes
            return [{"$replaceWith": {"$literal": document}}]
        operators: dict[str, dict[str, Any]] = {}
        for path in touched:
            if path.partition(".")[0] in document:
                operators.setdefault("$set", {})[path] = _value_at(document, path)
            else:
                operators.setdefault("$unset", {})[path] = ""
        return operators

    def let_time_pass(self) -> None:
        self._servers.mongo.admin.command("appendOplogNote", data={"docferry": "time passes"})

    # --- DynamoDB ------------------------------------------------------------------------------------------------------

    async def items(self) -> list[Item]:
        kinds = ("DOC", "UNIQUE#docs.mail_1", "UNIQUE#docs.tags_1")
        places = [f"{kind}#{name}" for kind in kinds for name in self.names]
        places += [f"UNIQUE#docs._id_#~i{one}" for one in self.ids]
        found = [item for place in places async for item in self.target.partition(TABLE, place)]
        return [item for item in found if "_deleted" not in item]

    async def transact(self, items: Sequence[Item], conditional: bool) -> None:
        cut = [LAYOUT.cut(LAYOUT.stored(item)) for item in items]
        for part in (part for _, parts in cut for part in parts):
            await self._call("PutItem", {"TableName": TABLE, "Item": part})
        puts = [
            {"TableName": TABLE, "Item": item}
            | (NEWER | {"ExpressionAttributeValues": {":v": item["_v"]}} if conditional else {})
            for item, _ in cut
        ]
        try:
            await self._call("TransactWriteItems", {"TransactItems": [{"Put": put} for put in puts]})
        except ConditionFailed as error:
            if "ConditionalCheckFailed" not in str(error):
                raise

    async def delete_older(self, item: Item) -> None:
        key = {name: item[name] for name in ("PK", "SK")}
        condition = NEWER | {"ExpressionAttributeValues": {":v": item["_v"]}}
        try:
            await self._call("DeleteItem", {"TableName": TABLE, "Key": key} | condition)
        except ConditionFailed:
            return  # what is stored is newer

    async def _call(self, operation: str, body: Mapping[str, Any]) -> None:
        await self._http.call(operation, orjson.dumps(body))


def _value_at(document: Any, path: str) -> Any:
    for step in path.split("."):
        document = document[int(step)] if isinstance(document, list) else document[step]
    return document
