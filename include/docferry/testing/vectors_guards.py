"""The golden vectors of guards: of an index and a document, the keys of its guard items."""

from __future__ import annotations

from typing import Any

from bson import Decimal128, Int64, ObjectId
from bson.dbref import DBRef

from docferry.core.mapping.guards import compile_guards
from docferry.core.settings import CollectionSettings, ItemSettings, UniqueSettings
from docferry.testing.vectors_documents import extended

ONE = UniqueSettings(name="a_1", key={"a": 1})
TWO = UniqueSettings(name="a_1_b_-1", key={"a": 1, "b": -1})
BELOW = UniqueSettings(name="below", key={"a.b": 1, "a.c": 1, "d": 1})
SPARSE = UniqueSettings(name="sparse", key={"a": 1, "b": 1}, sparse=True)
PARTIAL = UniqueSettings(name="partial", key={"a": 1}, partial={"b": {"$gt": 5}})
OID = ObjectId("65a0000000000000000000aa")

CASES: list[tuple[UniqueSettings, dict[str, Any]]] = [
    *((ONE, {"a": value}) for value in (
        "ann@example.org", "a#b~c", "", "5", str(OID), OID, True, None,
        5, 5.0, Int64(5), Decimal128("5.00"), -0.0, 0.5, 0.1, Decimal128("0.1"), 1e20, Decimal128("1E+20"), 10**18, -12,
        float("nan"), float("-inf"), Decimal128("Infinity"),
        [], [1, 1.0, "x"], [[1], []], {}, {"y": 1, "x": [2, {"z": None}]}, DBRef("things", 7), "x" * 2_100,
    )),
    (ONE, {}),
    (TWO, {"a": "x"}),
    (TWO, {"a": "x" * 1_100, "b": "y" * 1_100}),
    (BELOW, {"a": [{"b": 1, "c": 2}, {"b": 1.0, "c": Int64(2)}, {"b": 3}, 4], "d": "x"}),
    (BELOW, {"a": [], "d": 1}),
    (SPARSE, {"c": 1}),
    (SPARSE, {"b": None}),
    (PARTIAL, {"a": 1, "b": 5}),
    (PARTIAL, {"a": 1, "b": [1, 6]}),
]  # fmt: skip


def guards() -> Any:
    """Of collection `things`, whose table key is made of `_id`."""
    return [_case(index, document) for index, document in CASES]


def _case(index: UniqueSettings, document: dict[str, Any]) -> Any:
    item = ItemSettings(entity="THING", key={"PK": "THING#{_id}", "SK": "ROOT"})
    (plan,) = compile_guards(CollectionSettings(name="things", table="Things", item=item, unique=(index,)))
    shown = {"name": index.name, "key": dict(index.key)} | ({"sparse": True} if index.sparse else {})
    shown |= {"partial": index.partial} if index.partial is not None else {}
    return {"index": shown, "document": extended(document), "keys": [list(key) for key in plan.guards(document)]}
