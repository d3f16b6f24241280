"""Compares the items that should be there with those that are."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bson import DBRef

from docferry.rehearsal.independent.appearance import canonical, shown, shows_differently
from docferry.rehearsal.independent.type_hints import Unreadable, at_field, read_value
from docferry.rehearsal.independent.verdict import (
    ABSENT,
    DIGEST,
    INDEX_KEYS,
    LIVE_VERSION,
    VERSION,
    Disagreement,
    Item,
    Key,
    Verdict,
    Wire,
    id_key,
)


@dataclass
class Expected:
    """One item as the playbook wants it: fixed attributes as text, fields as BSON values under their attribute's name."""

    key: Key
    entity: str
    id: Any
    fields: dict[str, Any]
    indexes: dict[str, str] = field(default_factory=dict)
    declared: Mapping[str, str] = field(default_factory=dict)
    position: int | None = None
    children: int = 0


def compare_item(expected: Expected, item: Item, verdict: Verdict) -> None:
    """Add to the verdict whatever is not as expected in one item."""
    say = verdict.different.append
    fixed = {"PK": expected.key[0], "SK": expected.key[1], "entityType": expected.entity, **expected.indexes}
    for name in dict.fromkeys((*fixed, *INDEX_KEYS)):
        found, wanted = item.get(name, {}).get("S"), fixed.get(name)
        if found != wanted:
            say(Disagreement(expected.key, name, wanted or ABSENT, found or ABSENT))
    hints = {pointer: hint["S"] for pointer, hint in item.get("_t", {}).get("M", {}).items()}
    _compare_bookkeeping(expected, item, LIVE_VERSION if verdict.live else VERSION, say)
    ours = {*fixed, *INDEX_KEYS, "_v", "_t", "_i", "_digest"}
    fields = {"_id": expected.id, **expected.fields}
    declared = {"_id": "oid", **expected.declared}
    for name in sorted((item.keys() - ours) | fields.keys()):
        if name not in item or name not in fields:
            say(Disagreement(expected.key, f"/{name}", fields.get(name, ABSENT), item.get(name, ABSENT)))
            continue
        _compare_field(expected.key, name, fields[name], item[name], hints, declared.get(name, ""), say)


def _compare_bookkeeping(
    expected: Expected, item: Item, pattern: re.Pattern[str], say: Callable[[Disagreement], None]
) -> None:
    version = item.get("_v", {}).get("S", ABSENT)
    if not pattern.fullmatch(version):
        say(Disagreement(expected.key, "_v", pattern.pattern, version))
    position = item.get("_i", {}).get("N")
    if position != (None if expected.position is None else str(expected.position)):
        say(Disagreement(expected.key, "_i", expected.position, position))
    digest = item.get("_digest", {}).get("S")
    if bool(expected.children) != bool(digest and DIGEST.fullmatch(digest)):
        say(Disagreement(expected.key, "_digest", f"one of {expected.children} children", digest))


def _compare_field(
    key: Key,
    name: str,
    value: Any,
    wire: Wire,
    hints: Mapping[str, str],
    declared: str,
    say: Callable[[Disagreement], None],
) -> None:
    looks = "B" if name == "_id" and isinstance(value, dict | DBRef) else shown(value)
    if (path := shows_differently(looks, wire, f"/{name}")) is not None:
        say(Disagreement(key, path, value, wire))
        return
    try:
        back = read_value(wire, hints, at_field(("",), name), declared)
    except Unreadable as error:
        say(Disagreement(key, f"/{name}", value, str(error)))
        return
    same = id_key if name == "_id" else canonical  # {a, b} and {b, a} are two ids
    if same(back) != same(value):
        say(Disagreement(key, f"/{name}", value, back))


def compare_all(expected: Iterable[Expected], items: Iterable[Item], verdict: Verdict) -> Verdict:
    """Both ways: everything expected is there once, nothing else is, and each is as it should be."""
    found = {(item["PK"]["S"], item["SK"]["S"]): item for item in items}
    if verdict.live:
        graves = [key for key, item in found.items() if _is_tombstone(item)]
        verdict.tombstones = len(graves)
        for key in graves:
            del found[key]
    verdict.items = len(found)
    for one in expected:
        item = found.pop(one.key, None)
        if item is None:
            verdict.missing.append(Disagreement(one.key, expected=one.entity))
        else:
            compare_item(one, item, verdict)
    verdict.extra += [Disagreement(key, found=item.get("entityType")) for key, item in found.items()]
    return verdict


def _is_tombstone(item: Item) -> bool:
    """What stays of an item that is gone. Readers tell it by `_deleted`; it has a version and an end, and no content."""
    content = item.keys() - {"PK", "SK", "_id", "entityType", "_t", "_v", "_ttl", "_deleted"}
    versioned = LIVE_VERSION.fullmatch(item.get("_v", {}).get("S", ABSENT))
    return item.get("_deleted") == {"BOOL": True} and "_ttl" in item and bool(versioned) and not content
