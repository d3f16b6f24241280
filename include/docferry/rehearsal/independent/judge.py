"""Compares MongoDB with DynamoDB without docferry: pymongo, boto3, bson, zstandard and the standard library.

The playbook's tables are written down in this folder once more, by hand: key formats, attributes, indexes, children.
Two judges:

* `judge_shop` knows the four collections of the shop (users, orders, products, categories);
* `judge_generic` knows the layout of a collection without a mapping: PK `<NAME>#<id>`, SK `DATA`.

For each attribute both look twice: at what DynamoDB shows an application (a date is ISO-8601 text, money is a number),
and at what comes back through the type hints in `_t`, which must be the same BSON, type included.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from docferry.rehearsal.independent.compressed import ReadObject, whole, without_parts
from docferry.rehearsal.independent.item_check import Expected, compare_all
from docferry.rehearsal.independent.shop_items import RESERVED, SHOP, in_key, kept_fields
from docferry.rehearsal.independent.type_hints import Unreadable, read_value
from docferry.rehearsal.independent.verdict import OPTIONS, Disagreement, Document, Item, Verdict, id_key

__all__ = [
    "OPTIONS",
    "Disagreement",
    "Verdict",
    "id_key",
    "judge_generic",
    "judge_shop",
    "read_documents",
    "scan_table",
]


def read_documents(database: Any, collection: str) -> Iterator[Document]:
    """Every document, through the collection's own order; no index, no ranges."""
    yield from database.get_collection(collection, codec_options=OPTIONS).find({})


def scan_table(client: Any, table: str, objects: ReadObject | None = None) -> list[Item]:
    """Every item of a table, whole."""
    items: list[Item] = []
    for page in client.get_paginator("scan").paginate(TableName=table, ConsistentRead=True):
        items += page["Items"]
    return [whole(item) for item in without_parts(items, objects)]


Unstorable = Mapping[str, frozenset[bytes]]
"""Collection -> `id_key` of the documents that must have no items."""


def judge_shop(
    database: Any,
    client: Any,
    table: str,
    unstorable: Unstorable | None = None,
    *,
    live: bool = False,
    objects: ReadObject | None = None,
) -> Verdict:
    """MongoDB's shop against one DynamoDB table that holds nothing else, but for parts that are `objects`."""
    verdict = Verdict(live=live)

    def expected() -> Iterator[Expected]:
        for collection, items_of in SHOP.items():
            dead = (unstorable or {}).get(collection, frozenset())
            for document in read_documents(database, collection):
                verdict.documents += 1
                if id_key(document["_id"]) not in dead:
                    yield from items_of(document)

    return compare_all(expected(), scan_table(client, table, objects), verdict)


# --- a collection without a mapping ----------------------------------------------------------------------------------


def judge_generic(
    database: Any, client: Any, table: str, collection: str, unstorable: frozenset[bytes] = frozenset()
) -> Verdict:
    """One collection against its items: PK `<NAME>#<id>`, SK DATA, every field under its own name.

    Where the documentation does not write an id's form in the key down, the item that carries that `_id` is taken, and
    its key must be its own: no second document and no second item may share it.
    """
    verdict, entity = Verdict(), collection.upper()
    items = [item for item in scan_table(client, table) if item["PK"]["S"].startswith(f"{entity}#")]
    by_id: dict[bytes, list[Item]] = defaultdict(list)
    for item in items:
        hints = {pointer: hint["S"] for pointer, hint in item.get("_t", {}).get("M", {}).items()}
        try:
            by_id[id_key(read_value(item["_id"], hints, ("/_id",), "oid"))].append(item)
        except (KeyError, Unreadable):
            continue  # it will be extra

    def expected() -> Iterator[Expected]:
        for document in read_documents(database, collection):
            verdict.documents += 1
            identity = document["_id"]
            if id_key(identity) in unstorable:
                continue
            text = in_key(identity)
            owners = by_id[id_key(identity)]
            pk = (
                f"{entity}#{text}"
                if text is not None
                else owners[0]["PK"]["S"]
                if owners
                else f"{entity}#?{identity!r}"
            )
            yield Expected((pk, "DATA"), entity, identity, kept_fields(document, {"_id"}, RESERVED))

    return compare_all(expected(), items, verdict)
