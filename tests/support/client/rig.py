"""An application on real servers, in a mode of the test's choosing; and pymongo as it would be without the client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from inspect import isawaitable
from pathlib import Path
from typing import Any

import pytest
from bson.codec_options import CodecOptions
from docferry import wiring
from docferry.adapters.mongodb.leader import MongoLeader
from docferry.core.bson_codec.options import BSON_OPTIONS
from docferry.core.cutover.marker import COLLECTION
from docferry.core.cutover.modes import MODE, Mode, ModeState
from docferry.core.versions import snapshot_version
from docferry.flows.fence.marker import marker_by
from docferry.sandbox import SandboxStack
from pymongo import MongoClient

from support.backfill.rig import Rig, shop_rig
from support.replicate.rig import with_images

MODES = {
    "MONGO_ONLY": ModeState(mode=Mode.MONGO_ONLY, epoch=1),
    "DUAL_WRITE": ModeState(mode=Mode.DUAL_WRITE, epoch=1, percent=100),
    "DYNAMODB_READS 100": ModeState(mode=Mode.DYNAMODB_READS, epoch=1, percent=100),
    "DYNAMODB_READS 50": ModeState(mode=Mode.DYNAMODB_READS, epoch=1, percent=50),
    "DYNAMODB_ONLY": ModeState(mode=Mode.DYNAMODB_ONLY, epoch=1),
}


CURSORS = frozenset({"find", "aggregate", "aggregate_raw_batches", "find_raw_batches", "list_indexes"})
"""What is answered by a cursor, and read to its end here."""


def application(stack: SandboxStack, directory: Path, database: str) -> Rig:
    """The shop's tables and collections, empty, with its unique indexes."""
    rig = shop_rig(stack.env(), directory, database)
    with_images(rig.database)
    return rig


def set_mode(rig: Rig, state: ModeState) -> None:
    """As it is, whatever it was: no rule is asked."""
    source = rig.mongo.admin.command("ping")["operationTime"]
    floor = snapshot_version(source) if state.mode.dynamodb_leads else 0
    body = replace(state, floor=floor).to_body()
    record = rig.ledger.write(*MODE, body, expect=rig.ledger.read(*MODE))
    with closing(
        MongoLeader(rig.env["DOCFERRY_MONGO_URI"], rig.migration.source.database, rig.migration.name)
    ) as leader:
        leader.write(marker_by(record))


def empty(rig: Rig) -> None:
    """No document and no item is left."""
    for name in set(rig.database.list_collection_names()) - {COLLECTION}:
        rig.database[name].delete_many({})
    empty_tables(rig)


def empty_tables(rig: Rig) -> None:
    """No item is left."""
    pages = rig.dynamodb.get_paginator("scan").paginate(TableName=rig.table, ProjectionExpression="PK, SK")
    for page in pages:
        for key in page["Items"]:
            rig.dynamodb.delete_item(TableName=rig.table, Key=key)


def connected(rig: Rig, patch: pytest.MonkeyPatch, stack: SandboxStack) -> None:
    """This process's environment is that of the application."""
    for name, value in rig.env.items():
        if name.startswith("AWS_"):
            patch.setenv(name, value)
    patch.setenv("DOCFERRY_MONGO_URI", stack.env()["DOCFERRY_APP_MONGO_URI"])


class Blocking:
    """The synchronous client."""

    def __init__(self, rig: Rig, options: CodecOptions[Any] | None = None) -> None:
        self.manager = wiring.connect(rig.file, codec_options=options)

    def call(self, collection: str, method: str, *arguments: Any, **options: Any) -> Any:
        found = getattr(self.manager[collection], method)(*arguments, **options)
        return list(found) if method in CURSORS else found

    def close(self) -> None:
        self.manager.close()


class Asynchronous:
    """The asynchronous client, an event loop around it."""

    def __init__(self, rig: Rig, options: CodecOptions[Any] | None = None) -> None:
        self.loop = asyncio.new_event_loop()
        self.manager = self.loop.run_until_complete(wiring.connect_async(rig.file, codec_options=options))

    def call(self, collection: str, method: str, *arguments: Any, **options: Any) -> Any:
        found = getattr(self.manager[collection], method)(*arguments, **options)
        found = self.wait(found) if isawaitable(found) else found
        return self.wait(found.to_list()) if method in CURSORS else found

    def wait(self, awaited: Any) -> Any:
        return self.loop.run_until_complete(awaited)

    def close(self) -> None:
        self.loop.run_until_complete(self.manager.close())
        self.loop.close()


class Plain:
    """pymongo itself."""

    def __init__(self, uri: str, database: str, options: CodecOptions[Any] = BSON_OPTIONS) -> None:
        self.client: MongoClient[Any] = MongoClient(uri)
        self.database = self.client.get_database(database, options)

    def call(self, collection: str, method: str, *arguments: Any, **options: Any) -> Any:
        found = getattr(self.database[collection], method)(*arguments, **options)
        return list(found) if method in CURSORS else found

    def close(self) -> None:
        self.client.close()


Db = Blocking | Asynchronous | Plain


def outcome(call: Callable[[], Any]) -> Any:
    """What a call returned, or its error's type and code: what an application can go by."""
    try:
        return _plain(call())
    except Exception as error:  # compared, whatever it is
        return (type(error).__name__, getattr(error, "code", None))


def _plain(value: Any) -> Any:
    names = (
        "inserted_id",
        "inserted_ids",
        "matched_count",
        "modified_count",
        "upserted_id",
        "deleted_count",
        "acknowledged",
    )
    if isinstance(value, Mapping | list | str | int | None.__class__):
        return value
    return {name: getattr(value, name) for name in names if hasattr(value, name)}
