"""Parts that are objects: what an item says of them, what they are as bytes, and what a file may not say."""

from __future__ import annotations

import base64
import hashlib
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import yaml
from docferry.client.transport.objects import ObjectCalls
from docferry.client.transport.parts import PartCalls
from docferry.client.transport.sync_driver import run
from docferry.config import parse_migration
from docferry.core.estate.resources import AwsCall
from docferry.core.mapping.large.objects import HEAD_BYTES, decode_head, decode_object, encode_object
from docferry.core.mapping.large.overflow import PACKED, PARTS, fitting_of
from docferry.core.mapping.table_layout import TableLayout
from docferry.errors import AccessDenied, ConfigError
from docferry.flows.preflight.check import CheckReport, check_ledger
from docferry.testing.fakes import FakeEstate, FakeLedger
from support.mappings import GENERIC
from support.place import SHOP_FILE

FITTING = fitting_of([replace(GENERIC.settings, overflow="s3")])
assert FITTING is not None
LAYOUT = TableLayout(fitting=replace(FITTING, over=300, limit=500))
TABLE = GENERIC.settings.table
KEY = {"PK": {"S": "K"}, "SK": {"S": "DATA"}}


def item(version: int = 1) -> dict[str, Any]:
    text = random.Random(5).randbytes(900).hex()
    return KEY | {
        "entityType": {"S": GENERIC.root.entity}, "_id": {"S": "1"}, "_v": {"S": f"{version:022x}"}, "text": {"S": text},
    }  # fmt: skip


class Bucket:
    """PartObjects in memory, as bytes."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def put(self, table: str, name: str, part: dict[str, Any]) -> None:
        self.objects[name] = encode_object(part)

    def get(self, table: str, name: str) -> dict[str, Any] | None:
        return decode_object(self.objects[name]) if name in self.objects else None

    def delete(self, table: str, name: str) -> None:
        self.objects.pop(name, None)

    def heads(self, table: str, after: str) -> tuple[list[dict[str, Any]], str]:
        raise AssertionError("no purge here")


class Table:
    """One item of DynamoDB, and what was asked."""

    blocking = True

    def __init__(self) -> None:
        self.item: dict[str, Any] | None = None
        self.log: list[str] = []

    async def call(self, operation: str, request: Mapping[str, Any], guard: Any = None) -> dict[str, Any]:
        self.log.append(operation)
        if operation == "PutItem":
            self.item = dict(request["Item"])
        return {"Item": self.item} if operation == "GetItem" and self.item else {}

    async def sleep(self, seconds: float) -> None: ...


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture
def calls(table: Table, bucket: Bucket) -> PartCalls:
    inner = ObjectCalls(table, {TABLE: LAYOUT}, bucket)  # type: ignore[arg-type]
    return PartCalls(inner, {TABLE: LAYOUT}, lambda name, number: None)


def written(calls: PartCalls, version: int = 1) -> None:
    run(calls.call("PutItem", {"TableName": TABLE, "Item": LAYOUT.stored(item(version))}))


def read(calls: PartCalls) -> dict[str, Any]:
    return LAYOUT.read(run(calls.call("GetItem", {"TableName": TABLE, "Key": KEY}))["Item"])


def test_an_item_says_by_name_digest_and_size_what_its_object_must_be(
    table: Table, bucket: Bucket, calls: PartCalls
) -> None:
    written(calls)
    assert table.item is not None
    assert PACKED not in table.item
    (entry,) = table.item[PARTS]["L"]
    ((name, data),) = bucket.objects.items()
    content = data.partition(b"\n")[2]
    said = {
        "name": {"S": name},
        "sha256": {"S": hashlib.sha256(content).hexdigest()},
        "bytes": {"N": str(len(content))},
    }
    assert entry == {"M": said}
    assert read(calls) == item()
    assert set(table.log) == {"GetItem", "PutItem"}, "parts are no items"


def test_the_object_of_what_is_replaced_goes(bucket: Bucket, calls: PartCalls) -> None:
    written(calls)
    first = set(bucket.objects)
    written(calls, 2)
    assert len(bucket.objects) == 1
    assert not first & set(bucket.objects)


@pytest.mark.parametrize(
    "change", [lambda data: data[:-1], lambda data: data + b"x", lambda data: b"{", lambda data: b""]
)
def test_an_object_that_is_not_what_the_item_says_leaves_it_unreadable(
    bucket: Bucket, calls: PartCalls, change: Any
) -> None:
    written(calls)
    ((name, data),) = bucket.objects.items()
    bucket.objects[name] = change(data)
    assert read(calls).keys() & {PARTS, "text"} == {PARTS}


def test_an_object_that_has_vanished_leaves_it_unreadable(bucket: Bucket, calls: PartCalls) -> None:
    written(calls)
    bucket.objects.clear()
    assert read(calls).keys() & {PARTS, "text"} == {PARTS}


def test_the_head_of_an_object_is_all_but_its_content() -> None:
    (part,) = LAYOUT.cut(LAYOUT.stored(item()))[1]
    data = encode_object(part | {PACKED: {"B": base64.b64encode(b"\n" * 40_000).decode()}})
    assert decode_head(data[:HEAD_BYTES]) == {name: value for name, value in part.items() if name != PACKED}


def shop(objects: str = "s3://bucket/prefix", **overflow: str) -> bytes:
    tree = yaml.safe_load(SHOP_FILE.read_text())
    tree.setdefault("target", {})["objects"] = objects
    for name, word in overflow.items():
        tree["collections"][name]["overflow"] = word
    return yaml.safe_dump(tree).encode()


@pytest.mark.parametrize("objects", ["", "bucket", "s3://", "s3://B/x", "http://bucket/x"])
def test_a_file_that_does_not_say_where_is_refused(objects: str) -> None:
    with pytest.raises(ConfigError, match=r"target\.objects"):
        parse_migration(shop(objects, products="s3"))


def test_one_table_has_its_parts_in_one_place() -> None:
    with pytest.raises(ConfigError, match="write the same for both"):
        parse_migration(shop(products="s3", users="split"))
    assert parse_migration(shop(products="s3", users="compress")).layouts


class Buckets(FakeEstate):
    """Which answer S3 gives."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def ask(self, call: AwsCall) -> Mapping[str, Any] | None:
        assert (call.operation, call.arguments) == ("head_bucket", {"Bucket": "bucket"})
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("answer", "told"),
    [({}, ""), (None, "which does not exist"), (AccessDenied("no", operation="head_bucket"), "cannot be used")],
)
def test_check_looks_for_the_bucket(answer: Any, told: str) -> None:
    report = CheckReport()
    check_ledger(parse_migration(shop(products="s3")), FakeLedger(), report, Buckets(answer))
    assert [told in str(one) for one in report.problems if one.where == "target.objects"] == ([True] if told else [])
