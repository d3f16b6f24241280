"""How two migration files for one database differ, choice by choice: what was proposed, and what a team has written. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_FIELD = re.compile(r"\{([^}:]+)[^}]*\}")
File = Mapping[str, Any]
"""A migration file as YAML reads it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileDifference:
    """One choice on which the files differ; empty where one of them has none."""

    collection: str
    topic: str
    proposed: str
    written: str

    def __str__(self) -> str:
        return f"{self.collection or 'the file'}, {self.topic}: {self.proposed or 'none'} -> {self.written or 'none'}"


def differences(proposed: File, written: File) -> list[FileDifference]:
    """All of them, in the order of the written file; fields decide, and names of items are one choice a collection."""
    found = list(_of_the_file(proposed, written))
    mine, theirs = proposed.get("collections", {}), written.get("collections", {})
    for name in dict.fromkeys([*theirs, *mine]):
        found += _of_a_collection(str(name), mine.get(name), theirs.get(name))
    return found


def _of_the_file(proposed: File, written: File) -> Iterator[FileDifference]:
    told = {
        "tables": _tables,
        "unique indexes that are waived": _waived,
        "unique indexes that are kept by guards": _guarded,
        "access patterns": _patterns,
    }
    for topic, tell in told.items():
        yield from _differ("", topic, tell(proposed), tell(written))


def _tables(file: File) -> str:
    return ", ".join(sorted(file.get("tables", {})))


def _waived(file: File) -> str:
    return ", ".join(sorted(file.get("cutover", {}).get("waived_unique", ())))


def _guarded(file: File) -> str:
    found = ((name, one or {}) for name, one in file.get("collections", {}).items())
    return ", ".join(sorted(f"{name}.{index}" for name, one in found for index in one.get("unique", {})))


def _patterns(file: File) -> str:
    return ", ".join(file.get("access_patterns", {}))


def _of_a_collection(name: str, proposed: File | None, written: File | None) -> Iterator[FileDifference]:
    if proposed is None or written is None:
        yield from _differ(
            name, "collection", "" if proposed is None else "migrated", "" if written is None else "migrated"
        )
        return
    mine, theirs = proposed.get("item", {}), written.get("item", {})
    yield from _differ(name, "key", _fields(mine.get("key", {})), _fields(theirs.get("key", {})))
    indexes, written_indexes = _indexes(mine), _indexes(theirs)
    for lead in dict.fromkeys([*written_indexes, *indexes]):
        yield from _differ(name, f"index on {lead}", indexes.get(lead, ""), written_indexes.get(lead, ""))
    children, written_children = _children(proposed), _children(written)
    for path in dict.fromkeys([*written_children, *children]):
        yield from _differ(name, f"children in {path}", children.get(path, ""), written_children.get(path, ""))
    yield from _differ(name, "attributes", _pairs(mine.get("attributes", {})), _pairs(theirs.get("attributes", {})))
    yield from _differ(name, "types", _pairs(mine.get("types", {})), _pairs(theirs.get("types", {})))
    yield from _differ(name, "names", _names(mine), _names(theirs))


def _differ(collection: str, topic: str, proposed: str, written: str) -> Iterator[FileDifference]:
    if proposed != written:
        yield FileDifference(collection=collection, topic=topic, proposed=proposed, written=written)


def _fields(key: Mapping[str, Any]) -> str:
    """The fields of a key: `username`; `userId, then createdAt`."""
    return ", then ".join(
        dict.fromkeys(field for part in ("PK", "SK") for field in _FIELD.findall(str(key.get(part, ""))))
    )


def _indexes(item: File) -> dict[str, str]:
    """Leading field -> how entries are sorted, and which are there."""
    found = {}
    for key in item.get("index", {}).values():
        lead = ", ".join(_FIELD.findall(str(key.get("PK", "")))) or str(key.get("PK", ""))
        sort = ", ".join(_FIELD.findall(str(key.get("SK", ""))))
        only = ", ".join(f"{field} is {value}" for field, value in key.get("when", {}).items())
        found[lead] = "there" + (f", sorted by {sort}" if sort else "") + (f", where {only}" if only else "")
    return found


def _children(collection: File) -> dict[str, str]:
    return {
        str(path): f"items of their own, {one.get('key', {}).get('SK', '')}"
        for path, one in collection.get("children", {}).items()
    }


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {values[name]}" for name in sorted(values))


def _names(item: File) -> str:
    """What stands around the fields: entity, prefixes."""
    templates = [item.get("key", {}), *item.get("index", {}).values()]
    literal = [_FIELD.sub("", str(key.get(part, ""))) for key in templates for part in ("PK", "SK")]
    return ", ".join([str(item.get("entity", "")), *dict.fromkeys(one for one in literal if one)])
