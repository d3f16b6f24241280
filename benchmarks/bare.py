"""The calls that the client makes, made by hand: pymongo's and boto3's, with documents and items that were ready before."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import boto3
from bson.timestamp import Timestamp
from docferry.adapters.aws.boto_values import to_boto
from docferry.config import Migration
from docferry.core.bson_codec.options import BSON_OPTIONS
from docferry.core.cutover.journal import Entry, EntryKind, Wrote, entry_item, put_if_empty
from docferry.core.cutover.modes import ModeState
from docferry.core.mapping.items import key_of, tombstone
from docferry.core.mapping.mapping import DocumentMapping
from pymongo import AsyncMongoClient, MongoClient, WriteConcern

from benchmarks.contenders import COLLECTION

TABLE = "Shop"
CHANGE = {"$set": {"name": "Renamed"}, "$inc": {"stock": 1}}
NEWER = {"ConditionExpression": "attribute_not_exists(#v) OR #v < :v", "ExpressionAttributeNames": {"#v": "_v"}}
Product = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A product, and what the bare calls need of it."""

    document: Product = field(repr=False)
    item: dict[str, Any] = field(repr=False)
    changed: dict[str, Any] = field(repr=False)
    tombstone: dict[str, Any] = field(repr=False)
    key: dict[str, Any] = field(repr=False)


def make(mapping: DocumentMapping, document: Product) -> Made:
    """The items have versions 1, 2 and 3."""
    after = document | {"name": "Renamed", "stock": document["stock"] + 1}
    (item,), (changed,) = mapping.encode(document, 1), mapping.encode(after, 2)
    pk, sk = key_of(item)
    return Made(
        document=document,
        item=_for_boto(item),
        changed=_for_boto(changed),
        tombstone=_for_boto(tombstone(changed, 3, mapping.settings.ttl_attribute)),
        key={"PK": {"S": pk}, "SK": {"S": sk}},
    )


def _for_boto(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: to_boto(value) for name, value in item.items()}


class Bare:
    """pymongo's and boto3's calls. Coroutines, so that they are written once: blocking, none of them ever waits for a loop."""

    def __init__(self, uri: str, migration: Migration, blocking: bool) -> None:
        self._client: Any = MongoClient(uri) if blocking else AsyncMongoClient(uri)
        database = self._client.get_database(
            migration.source.database, BSON_OPTIONS, write_concern=WriteConcern("majority")
        )
        self._products = database[COLLECTION]
        self._database, self._blocking = database, blocking
        self._session = self._client.start_session(causal_consistency=False)
        self._dynamodb = boto3.client("dynamodb")
        self._journal, self._slot = migration.ledger.journal_table, 0
        self._lane = f"{migration.name}#{uuid.uuid4().hex}#0"
        self.units: dict[bool, list[float]] = {False: [], True: []}
        """Write units of each write while DynamoDB leads, without and with an entry of the journal, as DynamoDB says."""

    async def _wait(self, answer: Any) -> Any:
        return answer if self._blocking else await answer

    async def _mongo(self, method: str, *arguments: Any, **options: Any) -> Any:
        return await self._wait(getattr(self._products, method)(*arguments, **options))

    async def _transact(self, state: ModeState, item: Mapping[str, Any], condition: Mapping[str, Any]) -> None:
        puts = [{"TableName": TABLE, "Item": item, **condition}]
        if state.journal:
            self._slot += 1
            puts.append(put_if_empty(self._journal, self._entry(item)))
        reply = self._dynamodb.transact_write_items(
            TransactItems=[{"Put": put} for put in puts],
            ClientRequestToken=str(uuid.uuid4()),
            ReturnConsumedCapacity="TOTAL",
        )
        self.units[state.journal].append(sum(one["CapacityUnits"] for one in reply["ConsumedCapacity"]))

    def _entry(self, item: Mapping[str, Any]) -> dict[str, Any]:
        wrote = Wrote(table=TABLE, key=(item["PK"]["S"], item["SK"]["S"]), version=item["_v"]["S"])
        entry = Entry(kind=EntryKind.WRITE, nonce=uuid.uuid4().hex, wrote=[wrote])
        return entry_item(self._lane, self._slot, entry, int(time.time()))

    async def _put_newer(self, item: Mapping[str, Any]) -> None:
        values = {":v": item["_v"]}
        self._dynamodb.put_item(TableName=TABLE, Item=item, ExpressionAttributeValues=values, **NEWER)

    async def _read(self, key: Mapping[str, Any]) -> Any:
        return self._dynamodb.get_item(TableName=TABLE, Key=key, ConsistentRead=True).get("Item")

    async def _as_read(self, state: ModeState, item: Mapping[str, Any], read: Mapping[str, Any] | None) -> None:
        if read is None:
            await self._transact(state, item, {"ConditionExpression": "attribute_not_exists(PK)"})
            return
        names = {"ExpressionAttributeNames": {"#v": "_v"}, "ExpressionAttributeValues": {":v": read["_v"]}}
        await self._transact(state, item, {"ConditionExpression": "#v = :v", **names})

    async def insert(self, state: ModeState, one: Made) -> None:
        if state.mode.dynamodb_leads:
            await self._as_read(state, one.item, await self._read(one.key))
            return
        await self._mongo("insert_one", one.document)
        if state.write_to_dynamodb:
            await self._put_newer(one.item)

    async def find_by_key(self, state: ModeState, one: Made) -> Any:
        if state.read_from_dynamodb:
            return await self._read(one.key)
        return await self._mongo("find_one", {"_id": one.document["_id"]})

    async def find_by_pattern(self, state: ModeState, one: Made) -> Any:
        if not state.read_from_dynamodb:
            cursor = self._products.find({"sku": one.document["sku"]})
            return await self._wait(cursor.to_list())
        listed = self._dynamodb.query(
            TableName=TABLE,
            IndexName="GSI2",
            KeyConditionExpression="#pk = :pk",
            ProjectionExpression="#p, #s, #e",
            ExpressionAttributeNames={"#pk": "GSI2PK", "#p": "PK", "#s": "SK", "#e": "entityType"},
            ExpressionAttributeValues={":pk": one.item["GSI2PK"]},
            Limit=100,
        )
        keys = [{name: item[name] for name in ("PK", "SK")} for item in listed["Items"]]
        asked = {TABLE: {"Keys": keys, "ConsistentRead": True}}
        return self._dynamodb.batch_get_item(RequestItems=asked)["Responses"][TABLE]

    async def update(self, state: ModeState, one: Made) -> None:
        if state.mode.dynamodb_leads:
            await self._as_read(state, one.changed, await self._read(one.key))
            return
        if not state.write_to_dynamodb:
            await self._mongo("update_one", {"_id": one.document["_id"]}, CHANGE)
            return
        await self._mongo("update_one", {"_id": one.document["_id"]}, CHANGE, session=self._session)
        written_at = self._session.operation_time
        assert written_at is not None
        asked = _as_it_was(one.document["_id"], written_at)
        await self._wait(self._database.command(asked))
        await self._put_newer(one.changed)

    async def delete(self, state: ModeState, one: Made) -> None:
        if state.mode.dynamodb_leads:
            await self._as_read(state, one.tombstone, await self._read(one.key))
            return
        if not state.write_to_dynamodb:
            await self._mongo("delete_one", {"_id": one.document["_id"]})
            return
        await self._mongo("find_one_and_delete", {"_id": one.document["_id"]})
        await self._put_newer(one.tombstone)

    async def close(self) -> None:
        await self._wait(self._session.end_session())
        await self._wait(self._client.close())


def _as_it_was(document_id: Any, time: Timestamp) -> dict[str, Any]:
    concern = {"level": "snapshot", "atClusterTime": time}
    return {
        "find": COLLECTION,
        "filter": {"_id": document_id},
        "limit": 1,
        "singleBatch": True,
        "readConcern": concern,
    }
