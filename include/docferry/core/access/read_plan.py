"""How a query of the application is answered from DynamoDB: by the table key, or by an index that the file declares. Pure.

    plan_read(mapping, patterns, query, equalities, sort) -> ReadPlan      Raises: NoAccessPattern

A query is served if it pins, by equality, every field of the table key, or of its partition key; or every field of an index's
partition key (and what its `when` asks for), and an access pattern of the file names that index; or by a scan, if the file allows
scans of the collection. What else it asks is checked on the documents found. Dates compare as text as they do as dates, and
numbers where the template says so, so a range or a sort over one at the end of a sort key is the index's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from docferry.core.bson_codec.sortable import bounds_around
from docferry.core.mapping.item_plan import Exists, holds
from docferry.core.mapping.items import Document, ItemKey
from docferry.core.mapping.key_templates import Placeholder, Template
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.settings import AccessPattern
from docferry.errors import DocumentError, NoAccessPattern

SCAN = "or, if the collection is small, let the file allow scans of it (scan: {allowed: true, most_read_units: 500})"
BY = "by "
"""In a shape, before the way."""
MOST_KEYS = 1_000
"""As many keys may be asked for by $in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexQuery:
    """One partition of an index, or (`index` empty) of the table.

    `low` and `high` bound the sort key, both included; `backwards` is from the end. `sorted`: it gives the order that was asked
    for, so that reading may stop at a limit. `others` are the further partitions of a sharded key.
    """

    index: str
    partition: str
    others: tuple[str, ...] = ()
    low: str | None = None
    high: str | None = None
    backwards: bool = False
    sorted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadPlan:
    """Either the keys of the root items, or one query of an index or the table, or a scan of the table that may use up so many
    read units (0: none). `share_key`: what `percent` of reads goes by."""

    keys: tuple[ItemKey, ...] = ()
    query: IndexQuery | None = None
    scan: int = 0

    @property
    def share_key(self) -> str:
        return self.query.partition if self.query else self.keys[0][0] if self.keys else "a scan" if self.scan else ""

    @property
    def by(self) -> str:
        """What it goes by, in words."""
        if self.query is None:
            return "a scan" if self.scan else "the table key"
        return f"index {self.query.index}" if self.query.index else "the table's partition"


def plan_read(
    mapping: DocumentMapping,
    patterns: Sequence[AccessPattern],
    query: Mapping[str, Any],
    equalities: Mapping[str, Any],
    sort: Sequence[tuple[str, int]] = (),
) -> ReadPlan:
    """How to find the root items of all documents that could match."""
    keys = _keys(mapping, query, equalities)
    if keys is not None:
        return ReadPlan(keys=keys)
    ways = [
        (_narrowness(way, found), found)
        for way in _ways(mapping, patterns)
        if (found := _by_partition(mapping, way, query, equalities, sort)) is not None
    ]
    if ways:
        return ReadPlan(query=max(ways, key=lambda way: way[0])[1])  # of several alike the first
    if scan := most_read_units(mapping):
        return ReadPlan(scan=scan)
    raise NoAccessPattern(
        what=f"DynamoDB cannot answer a query of {mapping.collection} by {_named(query)}",
        suggestion=suggestion(mapping, query),
    )


def most_read_units(mapping: DocumentMapping) -> int:
    """What a scan of this collection may use up; 0: none is allowed."""
    scan = mapping.settings.scan
    return scan.most_read_units if scan is not None and scan.allowed else 0


def leads_to(mapping: DocumentMapping, where: ReadPlan, document: Document) -> bool:
    """Whether a plan finds a document that DynamoDB holds.

    Not, for instance, if the index leaves it out because a field of its key is missing, or if that field is 1.0 where 1 was asked
    for. Raises: DocumentError for a document that DynamoDB cannot hold.
    """
    if where.query is None:
        return bool(where.scan) or mapping.root_key(document) in where.keys
    asked = where.query
    key = mapping.index_key(document, asked.index) if asked.index else mapping.root_key(document)
    if key is None or key[0] not in (asked.partition, *asked.others):
        return False
    low, place, high = (
        mapping.layout.order(f"{asked.index}SK", text) if text is not None else None
        for text in (asked.low, key[1], asked.high)
    )
    return (low is None or low <= place) and (high is None or place <= high)


def shape_of(collection: str, method: str, query: Mapping[str, Any], options: Iterable[str] = ()) -> str:
    """A call's shape, without any value: what unserved calls are counted by. `options` are those that matter, by name."""
    named = f"; {', '.join(sorted(options))}" if options else ""
    return f"{collection}.{method}({_named(query)}{named})"[:200]


def spent_shape(collection: str, method: str, query: Mapping[str, Any], way: str) -> str:
    """What the units of a call are counted by: its shape, and by what its documents are found (`ReadPlan.by`), "" for nothing."""
    return _spent_shape(collection, method, tuple([(name, _operators(value)) for name, value in query.items()]), way)


@lru_cache(maxsize=1_000)
def _spent_shape(collection: str, method: str, asked: tuple[tuple[str, str], ...], way: str) -> str:
    """As it is made for every call that DynamoDB answers."""
    names = ", ".join(f"{name} {words}".strip() for name, words in sorted(asked)) or "nothing"
    return f"{collection}.{method}({names})"[:200] + (f" {BY}{way}" if way else "")


def _named(query: Mapping[str, Any]) -> str:
    names = [f"{name} {_operators(value)}".strip() for name, value in sorted(query.items())]
    return ", ".join(names) or "nothing"


def _operators(value: Any) -> str:
    if isinstance(value, dict) and value and all(name.startswith("$") for name in value):
        return " ".join(sorted(value))
    return ""


def suggestion(mapping: DocumentMapping, query: Mapping[str, Any]) -> str:
    """What to ask, or to declare, for a query that nothing leads to."""
    fields = sorted(name for name in query if not name.startswith("$"))
    root = mapping.root
    known = set().union(*(index.pk.pinned for index in root.indexes)) | root.pk.fields
    if nothing := [name for name in fields if name in known and query[name] in (None, "")]:
        return f"no key is made of a {' or '.join(nothing)} that is null or empty: give such documents a value that says so"
    instead = f"pin {', '.join(sorted(root.pk.fields | root.sk.fields))}, or {_instead(mapping.collection, query)}"
    return instead if most_read_units(mapping) else f"{instead}; {SCAN}"


def _instead(collection: str, query: Mapping[str, Any]) -> str:
    """What leads to a query: fields under equality make a partition key, one under a range the sort key; nothing else does."""
    words = {name: set(_operators(value).split()) for name, value in query.items() if not name.startswith("$")}
    equal = sorted(name for name, found in words.items() if found <= {"$eq", "$in"})
    ranges = sorted(name for name, found in words.items() if found and found <= {"$gt", "$gte", "$lt", "$lte"})
    declare = "and declare it under access_patterns"
    if equal:
        sort = f" and whose sort key is made of {ranges[0]}" if ranges else ""
        several = "; of $in, ask for one value a call" if any("$in" in words[name] for name in equal) else ""
        return f"give {collection} an index whose partition key is made of {', '.join(equal)}{sort}, {declare}{several}"
    if "$or" in query:
        return "ask each side of the $or by a call of its own, and join what they find"
    if ranges:
        return (
            f"give {collection} an index whose sort key is made of {ranges[0]}, under a partition key that the call pins by "
            f"equality, as a kind or a month (a range alone leads nowhere), {declare}"
        )
    return "read it in pages by DynamoDBClient.scan, which costs what it reads"


# --- by the table key ------------------------------------------------------------------------------------------------


def _keys(
    mapping: DocumentMapping, query: Mapping[str, Any], equalities: Mapping[str, Any]
) -> tuple[ItemKey, ...] | None:
    fields = mapping.root.pk.fields | mapping.root.sk.fields
    open_fields = [name for name in fields if name not in equalities]
    if not open_fields:
        return tuple(_root_keys(mapping, [dict(equalities)]))
    if len(open_fields) > 1:
        return None
    one = open_fields[0]
    listed = query.get(one)
    if not (
        isinstance(listed, dict) and isinstance(listed.get("$in"), list | tuple) and len(listed["$in"]) <= MOST_KEYS
    ):
        return None
    return tuple(dict.fromkeys(_root_keys(mapping, [{**equalities, one: value} for value in listed["$in"]])))


def _root_keys(mapping: DocumentMapping, values: Sequence[Mapping[str, Any]]) -> Iterator[ItemKey]:
    """No document has a key that cannot be made: then there is nothing to find."""
    for flat in values:
        try:
            yield mapping.root_key(nested(flat))
        except DocumentError:
            continue


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted paths as a document. Of two paths of which one leads into the other, the longer is left out."""
    document: dict[str, Any] = {}
    for path in sorted(flat):
        *steps, last = path.split(".")
        place: Any = document
        for step in steps:
            place = place.setdefault(step, {}) if isinstance(place, dict) else None
        if isinstance(place, dict):
            place.setdefault(last, flat[path])
    return document


# --- by a partition --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Way:
    """The table (an empty name) or one of its indexes, as templates."""

    name: str
    pk: Template
    sk: Template
    when: tuple[tuple[tuple[str, ...], Any], ...] = ()


def _ways(mapping: DocumentMapping, patterns: Sequence[AccessPattern]) -> Iterator[_Way]:
    """The table first: it is consistent, and always there."""
    root = mapping.root
    if root.pk.fields:
        yield _Way("", root.pk, root.sk)
    for name in sorted({pattern.index for pattern in patterns if pattern.index}):
        yield from (_Way(name, one.pk, one.sk, one.when) for one in root.indexes if one.pk_name == f"{name}PK")


def _by_partition(
    mapping: DocumentMapping,
    way: _Way,
    query: Mapping[str, Any],
    equalities: Mapping[str, Any],
    sort: Sequence[tuple[str, int]],
) -> IndexQuery | None:
    if not way.pk.pinned <= set(equalities):
        return None
    document = nested(equalities)
    if not all(_asks_for(".".join(path), wanted, query, equalities) for path, wanted in way.when):
        return None
    partitions = way.pk.partitions(document)
    if not partitions:
        return None
    low, high = _bounds(way.sk, query, equalities)
    last = _last(way.sk)
    by_index = (
        len(partitions) == 1
        and last is not None
        and len(sort) == 1
        and sort[0][0] == last.source
        and _sorts(mapping, last, way.sk)
    )
    return IndexQuery(
        index=way.name,
        partition=partitions[0],
        others=partitions[1:],
        low=low,
        high=high,
        backwards=last is not None and by_index and (sort[0][1] < 0) != last.descends,
        sorted=by_index or not sort,
    )


def _narrowness(way: _Way, found: IndexQuery) -> tuple[bool, int]:
    """What makes one way better than another: it gives the order that is asked for; it reads fewer other documents."""
    bounded = found.low is not None or found.high is not None
    return found.sorted, len(way.pk.pinned) + len(way.when) + bounded


def _asks_for(path: str, wanted: Any, query: Mapping[str, Any], equalities: Mapping[str, Any]) -> bool:
    """Whether all that a query looks for fulfils a condition of an index."""
    asked = query.get(path)
    words = asked if isinstance(asked, dict) else {}
    if isinstance(wanted, Exists):
        there = equalities.get(path) is not None or words.get("$exists") is True
        return there if wanted.there else words.get("$exists") is False
    if path in equalities:
        return holds(equalities[path], wanted)
    listed = words.get("$in")
    return isinstance(listed, list | tuple) and bool(listed) and all(holds(one, wanted) for one in listed)


def _bounds(
    template: Template, query: Mapping[str, Any], equalities: Mapping[str, Any]
) -> tuple[str | None, str | None]:
    """Bounds of the sort key, both included, as far as equalities and a range over a last date or number tell them."""
    whole = template.render(nested(equalities)) if template.fields and template.fields <= set(equalities) else None
    if whole is not None:
        return whole, whole
    last = _last(template)
    asked = query.get(last.source) if last is not None else None
    if last is None or not isinstance(asked, dict) or not template.fields - {last.source} <= set(equalities):
        return None, None
    low, _ = _ends(last, template, next((asked[name] for name in ("$gte", "$gt") if name in asked), None))
    _, high = _ends(last, template, next((asked[name] for name in ("$lte", "$lt") if name in asked), None))
    texts = [
        template.render(nested({**equalities, last.source: one})) if one is not None else None for one in (low, high)
    ]
    return (texts[1], texts[0]) if last.descends else (texts[0], texts[1])


def _ends(last: Placeholder, template: Template, value: Any) -> tuple[Any, Any]:
    """The values of keys that are surely not above, and surely not below, all that a value bounds."""
    if last.of_numbers(template.kind):
        return bounds_around(value)
    return (value, value) if isinstance(value, datetime) else (None, None)


def _last(template: Template) -> Placeholder | None:
    last = template.parts[-1]
    return last if isinstance(last, Placeholder) and not last.integer and template.kind != "B" else None


def _sorts(mapping: DocumentMapping, last: Placeholder, template: Template) -> bool:
    """Whether keys that differ in their last field alone sort as its values do."""
    return bool(last.order) or template.kind == "N" or _is_date(mapping, last.source)


def _is_date(mapping: DocumentMapping, path: str) -> bool:
    sources = {".".join(source): name for name, source in mapping.root.sources.items()}
    return mapping.root.declared.get(sources.get(path, path)) == "date"
