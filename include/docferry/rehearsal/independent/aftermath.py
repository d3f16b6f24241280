"""Whether the databases hold what the histories say, by pymongo and boto3. Shares no code with docferry."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pymongo.errors import DuplicateKeyError

from docferry.rehearsal.independent.appearance import canonical
from docferry.rehearsal.independent.compressed import ReadObject
from docferry.rehearsal.independent.history import HistoryVerdict, Replayed, Story
from docferry.rehearsal.independent.item_check import compare_all
from docferry.rehearsal.independent.judge import read_documents, scan_table
from docferry.rehearsal.independent.replay import Document
from docferry.rehearsal.independent.shop_items import SHOP, in_key
from docferry.rehearsal.independent.verdict import Item, Verdict, id_key

COLLECTIONS = ("users", "orders")
UNIQUE = "UNIQUE"
"""With this begin the keys of guards: items that keep a value unique."""
GUARDED: Mapping[str, Mapping[str, str]] = {
    "USER_PROFILE": {"users._id_": "_id", "users.email_1": "email"},
    "PRODUCT": {"products.sku_1": "sku"},
    "CATEGORY": {"categories.slug_1": "slug"},
}
"""The shop's documents in DynamoDB: the unique indexes that guards keep, and the attribute of each."""
INDEXES: Sequence[tuple[str, str, Mapping[str, Any]]] = (
    ("users", "username", {}),
    ("users", "email", {"partialFilterExpression": {"email": {"$gt": ""}}}),
    ("products", "sku", {}),
    ("categories", "slug", {}),
)
"""The shop's unique indexes in MongoDB."""


def compare_with_mongodb(replayed: Replayed, database: Any) -> None:
    """Add to the verdict what MongoDB, as the leader, does not hold as it must."""
    for collection in COLLECTIONS:
        found = {id_key(one["_id"]): one for one in read_documents(database, collection)}
        for (name, key), story in replayed.stories.items():
            if name == collection:
                _compare_document(story, found.pop(key, None), replayed.verdict)
        replayed.verdict.resurrected += [
            f"{collection} {one['_id']}: no process wrote it" for one in found.values() if "drill" in one
        ]
    values = {
        one["username"]: one["visits"] for one in database["users"].find({"username": {"$in": [*replayed.counters]}})
    }
    _compare_counters(replayed, values)


def _compare_document(story: Story, found: Document | None, verdict: HistoryVerdict) -> None:
    if any(canonical(state) == canonical(found) for state in story.states):
        return
    if all(state is None for state in story.states):
        verdict.resurrected.append(f"{story}: deleted, but it is there")
    elif found is None:
        verdict.lost.append(f"{story}: it is not there")
    else:
        verdict.lost.append(f"{story}: {_differing(story, found)} is not as it was acknowledged")


def _differing(story: Story, found: Document) -> list[str]:
    wanted = next(state for state in story.states if state is not None)
    names = wanted.keys() | found.keys()
    return sorted(name for name in names if canonical(wanted.get(name)) != canonical(found.get(name)))


def compare_with_dynamodb(replayed: Replayed, client: Any, table: str, objects: ReadObject | None = None) -> None:
    """Add to the verdict what DynamoDB, as the leader, does not hold as it must: items, attributes and index keys."""
    items: dict[tuple[str, str], list[Item]] = defaultdict(list)
    values: dict[str, int] = {}
    for item in scan_table(client, table, objects):
        if "_deleted" not in item:
            items[item["PK"]["S"].partition("#")[0], json.dumps(item["_id"], default=str)].append(item)
        if item.get("username", {}).get("S") in replayed.counters:
            values[item["username"]["S"]] = int(item["visits"]["N"])
    for story in replayed.stories.values():
        prefix = "USER" if story.collection == "users" else "ORDER"
        found = items.pop((prefix, json.dumps({"S": str(story.id)})), [])
        _compare_items(story, found, replayed.verdict)
    for left in items.values():
        keys = [f"{item['PK']['S']} / {item['SK']['S']}" for item in left]
        if any("drill" in item for item in left):
            replayed.verdict.resurrected.append(f"{keys}: no process wrote it")
    _compare_counters(replayed, values)


def _id_text(item: Item) -> str:
    return json.dumps(item["_id"], default=bytes.hex)  # some ids are binary


def compare_guards(verdict: HistoryVerdict, items: Sequence[Item]) -> None:
    """Add to the verdict every unique value that two documents have, and every guard that is not exactly its document's."""
    there = [item for item in items if "_deleted" not in item]
    holders: dict[str, list[str]] = defaultdict(list)
    for item in there:
        for guard, value in _values(item):
            holders[f"{guard}#{value}"].append(_id_text(item))
    guards = {item["PK"]["S"]: _id_text(item) for item in there if item["PK"]["S"].partition("#")[0] == UNIQUE}
    for key, documents in holders.items():
        if len(documents) > 1:
            verdict.resurrected.append(f"{key}: {len(documents)} documents have it")
        elif guards.get(key) != documents[0]:
            verdict.lost.append(f"{key}: nothing keeps it unique")
    other = {(guard, _id_text(item)) for item in there for guard in _guards_of_other_types(item)}
    verdict.resurrected += [
        f"{key}: no document has it"
        for key in guards.keys() - holders.keys()
        if ("#".join(key.split("#")[:2]), guards[key]) not in other
    ]


def _guards_of_other_types(item: Item) -> Iterator[str]:
    """Guards of values that are no texts, and whose keys are not written here once more."""
    for index, attribute in GUARDED.get(item.get("entityType", {}).get("S", ""), {}).items():
        if attribute in item and "S" not in item[attribute]:
            yield f"{UNIQUE}#{index}"


def _values(item: Item) -> Iterator[tuple[str, str]]:
    """(guard, value as its key has it) of the unique values that a document's item bears."""
    for index, attribute in GUARDED.get(item.get("entityType", {}).get("S", ""), {}).items():
        text = item.get(attribute, {}).get("S")
        if text:
            # An ObjectId is written as it is; a text that looks like one is not.
            yield f"{UNIQUE}#{index}", text if attribute == "_id" else str(in_key(text))


def compare_indexes(verdict: HistoryVerdict, database: Any) -> None:
    """Add to the verdict every unique index of MongoDB's that MongoDB itself would refuse to build on what it holds.

    Each is built once more, under a name of its own and with a field that no document has, and goes at once.
    """
    for collection, field, options in INDEXES:
        keys = [(field, 1), ("drill.judged", 1)]
        try:
            name = database[collection].create_index(keys, name="drill_judged", unique=True, **options)
        except DuplicateKeyError as error:
            value = (error.details or {}).get("keyValue", {}).get(field)
            verdict.resurrected.append(f"{collection} in MongoDB: two documents have {field} {value}")
        else:
            database[collection].drop_index(name)


def _compare_items(story: Story, found: Sequence[Item], verdict: HistoryVerdict) -> None:
    """Against each of the things that the document may be. One of them must fit."""
    verdicts = []
    for state in story.states:
        items = SHOP[story.collection](state) if state is not None else ()
        expected = [one for one in items if one.key[0].partition("#")[0] != UNIQUE]
        verdicts.append(compare_all(expected, found, Verdict(live=True)))
    if any(one.counts == (0, 0, 0) for one in verdicts):
        return
    first = verdicts[0]
    kind = verdict.lost if first.missing or first.different else verdict.resurrected
    kind.append(f"{story}: {first}")


def _compare_counters(replayed: Replayed, values: Mapping[str, int]) -> None:
    for name, (least, most) in replayed.counters.items():
        value = values.get(name)
        if value is None or value < least:
            replayed.verdict.lost.append(f"{name} is {value}: {least} were acknowledged")
        elif value > most:
            replayed.verdict.resurrected.append(f"{name} is {value}: only {most} were attempted")
