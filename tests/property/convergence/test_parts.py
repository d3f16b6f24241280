"""Items in parts under random interleavings: readers see one version whole, and nothing that an item names is missing.

Writers read and put on condition of what they read, as while DynamoDB leads, or put whatever is newer, as a dual write and
replication do; a purge goes on beside them. Some die between two requests, of which the last may arrive long after. Every request
waits, and the run lets them go on in random order.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from docferry.adapters.aws.data.parts import PartReads
from docferry.adapters.aws.dynamodb import DynamoTarget
from docferry.client.transport.objects import ObjectCalls
from docferry.client.transport.parts import PartCalls
from docferry.core.mapping.large import parts as cutting
from docferry.core.mapping.large.objects import decode_object, encode_object
from docferry.core.mapping.large.overflow import PACKED, fitting_of
from docferry.core.mapping.table_layout import TableLayout
from docferry.core.settings import Overflow
from docferry.errors import ConditionFailed
from docferry.ports.flows import Guard, ItemPart, PartsPage
from support.convergence.standins import NoLimit
from support.mappings import GENERIC

TABLE, KEY = GENERIC.settings.table, {"PK": {"S": "K"}, "SK": {"S": "DATA"}}
RUNS, TO_BREAK = 60, 600


def layout_of(overflow: Overflow) -> TableLayout:
    """Items of a few hundred bytes are too large."""
    fitting = fitting_of([replace(GENERIC.settings, overflow=overflow)])
    assert fitting is not None
    part_bytes = fitting.part_bytes if overflow == "s3" else 60
    return TableLayout(fitting=replace(fitting, over=150, limit=220, part_bytes=part_bytes))


LAYOUTS = {"split": layout_of("split"), "s3": layout_of("s3")}


class Wrong(AssertionError):
    """A reader saw what never was, or something is there for ever that should not be."""


class Killed(Exception):
    """The process is gone."""


class World:
    """One table, its item, and who writes it. `once` is what each put of the item would make of it, by version and text."""

    blocking = False

    def __init__(self, seed: int, layout: TableLayout) -> None:
        self.random, self.layout = Random(seed), layout
        self.items: dict[str, dict[str, Any]] = {}
        self.once: set[tuple[str, str]] = set()
        self.late: set[asyncio.Task[None]] = set()
        self.killed = self.refused = self.removed = self.found = 0

    # --- DynamoDB ----------------------------------------------------------------------------------------------------

    async def call(self, operation: str, request: Mapping[str, Any], guard: Guard | None = None) -> dict[str, Any]:
        await self._wait(6)
        if self.random.random() < 0.02:
            self.killed += 1
            if self.random.random() < 0.5:
                self.late.add(asyncio.ensure_future(self._arrive(operation, request)))
            raise Killed
        return self._do(operation, request)

    async def _wait(self, most: int) -> None:
        for _ in range(self.random.randrange(most)):
            await asyncio.sleep(0)

    async def _arrive(self, operation: str, request: Mapping[str, Any]) -> None:
        await self._wait(200)
        with suppress(ConditionFailed):
            self._do(operation, request)

    def _do(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        if operation == "PutItem":
            return self._put(request)
        if operation == "DeleteItem":
            self.removed += self.items.pop(request["Key"]["PK"]["S"], None) is not None
        elif operation == "GetItem":
            return {"Item": dict(self.items["K"])} if "K" in self.items else {}
        elif operation == "BatchGetItem":
            keys = [key["PK"]["S"] for key in request["RequestItems"][TABLE]["Keys"]]
            return {"Responses": {TABLE: [dict(self.items[key]) for key in keys if key in self.items]}}
        elif operation == "BatchWriteItem":
            for one in request["RequestItems"][TABLE]:
                self._put(one["PutRequest"])
        elif operation == "Scan":
            return {"Items": [dict(one) for one in self.items.values()]}
        return {}

    def _put(self, request: Mapping[str, Any]) -> dict[str, Any]:
        item, condition = request["Item"], request.get("ConditionExpression")
        old = self.items.get(item["PK"]["S"], {})
        there = old.get("_v", {}).get("S", "")
        if condition is not None:
            read = request["ExpressionAttributeValues"][":v"]["S"]
            if (there != read) if condition == "#v = :v" else (there >= read):
                self.refused += 1
                raise ConditionFailed("refused", operation="PutItem", code="ConditionalCheckFailedException")
        self.items[item["PK"]["S"]] = dict(item)
        return {"Attributes": old} if old and "ReturnValues" in request else {}

    async def sleep(self, seconds: float) -> None: ...

    # --- S3 ----------------------------------------------------------------------------------------------------------

    async def away(self, ask: Callable[..., Any], *given: Any) -> Any:
        await self._wait(6)
        if self.random.random() < 0.02:
            self.killed += 1
            if self.random.random() < 0.5:
                self.late.add(asyncio.ensure_future(self._arrive_there(ask, given)))
            raise Killed
        return ask(*given)

    async def _arrive_there(self, ask: Callable[..., Any], given: Any) -> None:
        await self._wait(200)
        ask(*given)

    def put(self, table: str, name: str, part: Mapping[str, Any]) -> None:
        found = decode_object(encode_object(dict(part)))
        assert found == part
        self.items[f"PART#{name}"] = found

    def get(self, table: str, name: str) -> dict[str, Any] | None:
        return self.items.get(f"PART#{name}")

    def delete(self, table: str, name: str) -> None:
        self.removed += self.items.pop(f"PART#{name}", None) is not None

    def heads(self, table: str, after: str) -> tuple[list[dict[str, Any]], str]:
        keys = sorted(key for key in self.items if key.startswith("PART#") and key > f"PART#{after}")
        heads = [{name: value for name, value in self.items[key].items() if name != PACKED} for key in keys[:3]]
        return heads, keys[2].removeprefix("PART#") if len(keys) > 3 else ""

    # --- processes ---------------------------------------------------------------------------------------------------

    def text(self) -> str:
        """Sometimes what another process writes, too."""
        if self.random.random() < 0.4:
            return "ab" * 3 + Random(self.random.randrange(2)).randbytes(200).hex()
        return self.random.randbytes(self.random.choice((10, 200, 320))).hex()

    def calls(self) -> PartCalls:
        layouts = {TABLE: self.layout}
        calls: Any = ObjectCalls(self, layouts, self, self.away) if self.layout.as_objects else self  # type: ignore[arg-type]
        return PartCalls(calls, layouts, lambda name, number: None)

    def target(self) -> DynamoTarget:
        made = DynamoTarget(_Http(self), layouts={TABLE: self.layout}, objects=self)  # type: ignore[arg-type]
        made._object_parts._away = self.away
        return made

    def item(self, version: str) -> tuple[dict[str, Any], str]:
        """The next one, and its version."""
        newer = f"{int(version or '0', 16) + self.random.choice((1, 1, 3)):022x}"
        text = self.text()
        self.once.add((newer, text))
        return KEY | {
            "entityType": {"S": GENERIC.root.entity}, "_id": {"S": "1"}, "_v": {"S": newer}, "text": {"S": text},
        }, newer  # fmt: skip

    async def write(self) -> None:
        calls = self.calls()
        with suppress(Killed):
            for _ in range(5):
                there = await self._read(calls)
                version, leads = there["_v"]["S"] if there else "", self.random.random() < 0.7
                item, newer = self.item(version)
                condition = ("#v = :v", version) if leads else ("attribute_not_exists(#v) OR #v < :v", newer)
                with suppress(ConditionFailed):
                    await calls.call("PutItem", {
                        "TableName": TABLE, "Item": self.layout.stored(item), "ConditionExpression": condition[0],
                        "ExpressionAttributeValues": {":v": {"S": condition[1]}},
                    })  # fmt: skip

    async def replicate(self) -> None:
        """Some events, of which some are applied again behind a crash."""
        target, events = self.target(), list[dict[str, Any]]()
        for _ in range(6):
            if not events or self.random.random() < 0.7:
                events.append(self.item(self.items.get("K", {}).get("_v", {}).get("S", ""))[0])
            with suppress(Killed):
                await target.put_newer(TABLE, [self.random.choice(events[-2:])], NoLimit(), lambda: None)

    async def read(self) -> None:
        calls = self.calls()
        with suppress(Killed):
            for _ in range(8):
                await self._read(calls)

    async def follow(self) -> None:
        target = self.target()
        with suppress(Killed):
            for _ in range(8):
                self._require_one(await target.get_all(TABLE, [("K", "DATA")]))

    async def purge(self) -> None:
        target = self.target()
        with suppress(Killed):
            for _ in range(4):
                start = None
                while True:
                    page = await target.parts(TABLE, 0, 1, start)
                    gone = [one for one in page.unnamed if one.overtaken]
                    await target.delete_parts(TABLE, gone, NoLimit(), lambda: None)
                    if (start := page.next) is None:
                        break

    async def _read(self, calls: PartCalls) -> dict[str, Any]:
        """The item; what cannot be read was being replaced at each look."""
        for _ in range(20):
            reply = await calls.call("GetItem", {"TableName": TABLE, "Key": KEY})
            if "Item" not in reply:
                return {}
            found = self.layout.read(reply["Item"])
            if self._require_one({("K", "DATA"): found}):
                return found
        raise Wrong("an item that cannot be read")

    def _require_one(self, found: Mapping[Any, dict[str, Any]]) -> bool:
        """Whether it can be read."""
        for item in found.values():
            if "text" not in item:
                return False
            if (item["_v"]["S"], item["text"]["S"]) not in self.once:
                raise Wrong(f"a reader saw what never was: {item['_v']}")
            self.found += 1
        return True

    async def run(self) -> None:
        work = (*(self.write() for _ in range(4)), self.replicate(), self.purge())
        await asyncio.gather(*work, *(self.read() for _ in range(2)), self.follow())
        await asyncio.gather(*self.late)
        named = {f"PART#{name}" for name in cutting.names_in(self.items.get("K", {}))}
        if missing := named - self.items.keys():
            raise Wrong(f"the item names {len(missing)} parts that are not there")
        left = await PartReads(_Still(self).read, TABLE, self.layout).unnamed(self.items.values(), None)
        if {part.key[0] for part in left.unnamed} != self.items.keys() - named - {"K"}:
            raise Wrong("a purge does not see what is left")


class _Still:
    """Reads of what is there in the end."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def read(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        return self._world._do(operation, request)


class _Http:
    """A process's requests. It gives up what has failed, as a process does that is gone."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def call(self, operation: str, body: bytes, *_: Any, **__: Any) -> bytes:
        return json.dumps(await self._world.call(operation, json.loads(body))).encode()


def run(seed: int, overflow: str) -> World:
    world = World(seed, LAYOUTS[overflow])
    asyncio.run(world.run())
    return world


@pytest.fixture(params=list(LAYOUTS))
def overflow(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_readers_see_one_version_whole_whatever_comes_between(overflow: str) -> None:
    worlds = [run(seed, overflow) for seed in range(RUNS)]
    assert sum(world.killed for world in worlds) > RUNS
    assert sum(world.refused for world in worlds) > RUNS
    assert sum(world.removed for world in worlds) > 10 * RUNS
    assert any(key.startswith("PART#") for world in worlds for key in world.items)


def _until_wrong(overflow: str) -> None:
    for seed in range(TO_BREAK):
        run(seed, overflow)


def _require_wrong(overflow: str) -> None:
    with pytest.raises(Wrong):
        _until_wrong(overflow)


def test_parts_go_before_what_names_them(monkeypatch: pytest.MonkeyPatch, overflow: str) -> None:
    async def turned(
        self: PartCalls, operation: str, request: Mapping[str, Any], guard: Guard | None
    ) -> dict[str, Any]:
        item, parts = LAYOUTS[overflow].cut(request["Item"])
        reply = await self._calls.call(operation, {**request, "Item": item}, guard)
        for part in parts:
            await self._put(TABLE, part, guard)
        return reply

    monkeypatch.setattr(PartCalls, "_write", turned)
    _require_wrong(overflow)


def test_names_are_of_the_content(monkeypatch: pytest.MonkeyPatch, overflow: str) -> None:
    named = cutting._name_of
    monkeypatch.setattr(cutting, "_name_of", lambda key, version, place, piece: named(key, version, place, b""))
    _require_wrong(overflow)


def test_names_are_of_the_version(monkeypatch: pytest.MonkeyPatch, overflow: str) -> None:
    """Two versions of one content: the parts of the first go with it."""
    named = cutting._name_of
    monkeypatch.setattr(cutting, "_name_of", lambda key, version, place, piece: named(key, "", place, piece))
    _require_wrong(overflow)


def test_a_purge_leaves_what_may_still_be_named(monkeypatch: pytest.MonkeyPatch, overflow: str) -> None:
    seen = PartReads.unnamed

    async def eager(self: PartReads, *scanned: Any) -> PartsPage:
        page = await seen(self, *scanned)
        return replace(page, unnamed=[ItemPart(one.key, one.version, True) for one in page.unnamed])

    monkeypatch.setattr(PartReads, "unnamed", eager)
    _require_wrong(overflow)


def test_who_loses_looks_at_the_item_before_it_deletes_its_parts(
    monkeypatch: pytest.MonkeyPatch, overflow: str
) -> None:
    """They may be the winner's, too: of the same version and content."""
    monkeypatch.setattr(TableLayout, "overtaken", lambda self, part, item: True)
    _require_wrong(overflow)
