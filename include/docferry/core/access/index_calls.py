"""`create_index` and `list_indexes` once DynamoDB leads. Pure.

Applications and object mappers ask for their indexes each time they start. An index that only makes MongoDB faster has nothing to
do in DynamoDB: the call is passed over, and counted. One that decides what may be stored is passed over only if it is kept.
Many look first, and make what they miss: they are told the indexes that are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from docferry.core.mql.index_entries import filter_in
from docferry.core.settings import UniqueSettings

INDEX_CALLS = ("create_index", "create_indexes")
LISTING_CALLS = ("list_indexes", "index_information")
PASSED_OVER = "index.passed_over"
"""How the application's metrics count it."""
_FAST_ONLY = (1, -1, "hashed")


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedIndex:
    """One index that the application asks for."""

    fields: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """As MongoDB would call it."""
        return str(self.options.get("name") or "_".join(f"{name}_{way}" for name, way in self.fields.items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What DynamoDB keeps unique of a collection: the fields of its table key, what guards keep, and what the file waives."""

    key: frozenset[str]
    guards: Sequence[UniqueSettings] = ()
    waived: frozenset[frozenset[str]] = frozenset()

    def keeps(self, asked: AskedIndex) -> bool:
        """Whether no two documents can have the same there."""
        names = frozenset(asked.fields)
        if self.key <= names or names in self.waived:
            return True
        sparse, partial = bool(asked.options.get("sparse")), asked.options.get("partialFilterExpression")
        return any(
            set(one.fields) <= names and one.sparse == sparse and _filter_of(one) == partial for one in self.guards
        )

    def listed(self) -> list[dict[str, Any]]:
        """What is kept, as `list_indexes` gives it: by `_id`, as each collection has it; by the table key; what guards keep."""
        found = [_listed("_id_", {"_id": 1})]
        if "_id" not in self.key:
            key = AskedIndex(fields=dict.fromkeys(sorted(self.key), 1))
            found.append(_listed(key.name, key.fields, unique=True))
        for one in self.guards:
            if one.fields == ("_id",):
                continue
            kind: dict[str, Any] = {"sparse": True} if one.sparse else {}
            if one.partial is not None:
                kind["partialFilterExpression"] = _filter_of(one)
            found.append(_listed(one.name, one.key, unique=True, **kind))
        return found


def _filter_of(one: UniqueSettings) -> Mapping[str, Any] | None:
    return filter_in(one) if one.partial is not None else None


def _listed(name: str, key: Mapping[str, Any], **options: Any) -> dict[str, Any]:
    return {"v": 2, "key": dict(key), "name": name, **options}


def index_information(listed: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """As pymongo makes it of `list_indexes`: name -> the rest, with the key as pairs."""
    return {
        one["name"]: {name: value for name, value in one.items() if name != "name"} | {"key": [*one["key"].items()]}
        for one in listed
    }


def indexes_asked(method: str, arguments: Sequence[Any], options: Mapping[str, Any]) -> list[AskedIndex]:
    """Of the arguments of `create_index`, or of `create_indexes` with pymongo's models. Empty where they are none: pymongo says
    what is wrong with them."""
    asked = arguments[0] if arguments else options.get("keys", options.get("indexes"))
    try:
        if method == "create_indexes":
            return [AskedIndex(fields=dict(one.document["key"]), options=one.document) for one in asked]
        fields = dict(_ways(asked))
        return [AskedIndex(fields=fields, options=options)] if fields else []
    except (TypeError, AttributeError, LookupError):
        return []


def needed(asked: Sequence[AskedIndex], kept: Kept) -> Iterator[str]:
    """What of these indexes DynamoDB does not keep, in words; nothing if all may be passed over."""
    for one in asked:
        if any(way not in _FAST_ONLY for way in one.fields.values()):
            yield f"{one.name} is of a kind that DynamoDB has not"
        if "expireAfterSeconds" in one.options:
            yield f"{one.name} lets documents expire: write the table's TTL attribute"
        if one.options.get("unique") and not kept.keeps(one):
            yield f"{one.name} is unique: name it under unique in the migration file, or waive it (cutover.waived_unique)"


def _ways(keys: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(keys, str):
        keys = [keys]
    for one in keys.items() if isinstance(keys, Mapping) else keys:
        yield (one, 1) if isinstance(one, str) else (one[0], one[1])
