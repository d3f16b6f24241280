"""What to build in DynamoDB: keys, indexes, children, and why. Pure; what was measured decides, not names.

Each choice says what it rests on and what lost. What is proposed can be said by a migration file as it stands, passes its
checks, and carries every document that DynamoDB can hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from docferry.core.analyze.facts import CollectionFacts, DatabaseFacts, IndexFacts, PathFacts, QueryShape
from docferry.core.analyze.proposals import ScanDesign, UniqueDesign, scan_lines, scans_of, uniques_of
from docferry.core.analyze.risks import hot_values

MOST_INDEXES = 20
UNUSED_DAYS = 7
"""An index that was not used for so long is left out; one that is counted since yesterday may still be used."""
CHILDREN_MOST = 50
"""Arrays that are never longer become children: a document and they still fit into one transaction with room."""
SIMPLE_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z_][A-Za-z0-9_-]*)*\Z")
KEYS = frozenset({"string", "objectId", "int", "long", "date", "bool", "uuid"})
SORTS = frozenset({"string", "objectId", "date"})
KEEP_IE = ("MOVIES", "COOKIES", "CALORIES", "SERIES")
TYPES = {"objectId": "oid", "date": "date", "long": "long", "double": "double", "decimal": "decimal"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One decision: what, why (the evidence), and the alternatives that lost, each with its reason."""

    collection: str
    topic: str
    chosen: str
    why: str
    lost: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexDesign:
    """Entries of one collection in one index of the table."""

    index: str
    pk: str
    sk: str
    fields: Sequence[str]
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildDesign:
    path: str
    entity: str
    sk: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionDesign:
    name: str
    entity: str
    pk: str
    sk: str
    indexes: Sequence[IndexDesign] = ()
    children: Sequence[ChildDesign] = ()
    types: Mapping[str, str] = field(default_factory=dict)
    unique: Sequence[UniqueDesign] = ()
    scan: ScanDesign | None = None
    documents: int = 0

    @property
    def waived_unique(self) -> tuple[str, ...]:
        """As `cutover.waived_unique` has them."""
        return tuple(f"{self.name}.{','.join(one.fields)}" for one in self.unique if one.waived)

    @property
    def guarded(self) -> tuple[UniqueDesign, ...]:
        return tuple(one for one in self.unique if one.settings is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class PatternDesign:
    name: str
    collection: str
    index: str
    pk: str
    sk: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """What is proposed for a database: one table, its collections, and the choices behind it."""

    migration: str
    database: str
    table: str
    collections: Sequence[CollectionDesign]
    patterns: Sequence[PatternDesign]
    choices: Sequence[Choice]
    left_out: Mapping[str, str] = field(default_factory=dict)
    elsewhere: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def indexes(self) -> tuple[str, ...]:
        used = {index.index for one in self.collections for index in one.indexes}
        return tuple(sorted(used, key=lambda name: int(name.removeprefix("GSI"))))


def design_of(facts: DatabaseFacts) -> Design:
    """A proposal for all collections that can be migrated."""
    wanted = [one for one in facts.collections if one.kind == "collection" and not one.capped]
    left_out = {one.name: _why_left_out(one) for one in facts.collections if one not in wanted}
    entities = _entities([one.name for one in wanted])
    choices: list[Choice] = []
    table, scans = _camel(facts.database), scans_of(wanted)
    designs = [_Designer(one, entities[one.name], facts, choices).design(scans.get(one.name), table) for one in wanted]
    choices.append(_one_table(facts, designs, table))
    patterns = [pattern for one in designs for pattern in _patterns(one)]
    return Design(
        migration=re.sub(r"[^A-Za-z0-9_-]", "-", facts.database)[:64],
        database=facts.database,
        table=table,
        collections=designs,
        patterns=_named_apart(patterns),
        choices=choices,
        left_out=left_out,
        elsewhere=facts.elsewhere,
    )


class _Designer:
    """One collection's proposal."""

    def __init__(self, facts: CollectionFacts, entity: str, database: DatabaseFacts, choices: list[Choice]) -> None:
        self.facts, self.entity, self.database, self.choices = facts, entity, database, choices

    def design(self, scan: ScanDesign | None, table: str) -> CollectionDesign:
        key = self._key()
        children = tuple(self._children())
        uniques = uniques_of(self.facts, key)
        for one in uniques:
            how = "waived" if one.waived else "kept by guards" if one.settings else "kept by the table's key"
            self._choose(f"unique index {one.name}", how, one.why)
        if scan is not None:
            why = " ".join(list(scan_lines(self.facts.name, scan, self.facts.documents, table))[:-1])
            self._choose("scan", f"not allowed; small enough for {scan.said}", why.removeprefix("scan: "))
        return CollectionDesign(
            name=self.facts.name,
            entity=self.entity,
            pk=f"{self.entity}#{{{key}}}",
            sk="METADATA",
            indexes=tuple(self._indexes(key)),
            children=children,
            types=dict(self._types({child.path for child in children})),
            unique=uniques,
            scan=scan,
            documents=self.facts.documents,
        )

    # --- the table's key ---------------------------------------------------------------------------------------------

    def _key(self) -> str:
        asked = {
            name: sum(one.calls for one in self._reads() if list(one.equality) == [name])
            for name in self._unique_fields()
        }
        by_id = sum(one.calls for one in self._reads() if list(one.equality) == ["_id"])
        lost = []
        for name, calls in sorted(asked.items(), key=lambda one: -one[1]):
            reason = self._unfit(name)
            if not reason and calls > by_id:
                why = f"{calls:,} calls ask by {name}, {by_id:,} by _id; it is unique, always there, never changed"
                self._choose("key", name, why, [f"_id: {by_id:,} calls ask by it; an index keeps them possible"])
                return name
            lost.append(f"{name}: {reason or f'{calls:,} calls ask by it, {by_id:,} by _id'}")
        why = (
            f"{by_id:,} calls ask by it; it is unique and never changes" if by_id else "it is unique and never changes"
        )
        self._choose("key", "_id", why, lost)
        return "_id"

    def _unique_fields(self) -> list[str]:
        full = [
            one for one in self.facts.indexes if one.unique and not one.partial and not one.sparse and not one.collation
        ]
        return [one.fields[0] for one in full if len(one.keys) == 1 and one.fields[0] != "_id" and one.plain]

    def _unfit(self, name: str) -> str:
        """Why a unique field cannot be the table's key; '' if it can."""
        path = self.facts.path(name)
        if path is None or not SIMPLE_PATH.match(name):
            return "is not in the sampled documents" if path is None else "its name cannot stand in a key template"
        if path.present < 1 or path.null or path.empty:
            return f"is missing, null or empty in {1 - path.present + path.null + path.empty:.1%} of the documents"
        if path.mixed or path.type not in KEYS:
            return f"holds {', '.join(path.types)}"
        changed = sum(one.calls for one in self.facts.shapes if name in one.sets)
        return f"{changed:,} calls change it" if changed else ""

    def _reads(self) -> list[QueryShape]:
        return [one for one in self.facts.shapes if one.kind != "insert"]

    # --- indexes -----------------------------------------------------------------------------------------------------

    def _indexes(self, key: str) -> Iterator[IndexDesign]:
        wanted: dict[tuple[str, tuple[str, ...]], str] = {}
        for partition, sort, why in [*self._asked(), *self._indexed()]:
            if (partition, sort) != (key, ()):
                known = wanted.get((partition, sort))
                wanted[(partition, sort)] = f"{known}; {why}" if known else why
        if key != "_id":
            wanted.setdefault(("_id", ()), "the application may ask by _id")
        for number, (partition, sort) in enumerate(_without_prefixes(list(wanted)), start=1):
            why = wanted[(partition, sort)]
            if hot := hot_values(self.facts.path(partition)):
                why += f". HOT: {'; '.join(hot)}: a load or many writes there throttle the table"
            yield self._index(f"GSI{number}", partition, sort, why)

    def _index(self, name: str, partition: str, sort: tuple[str, ...], why: str) -> IndexDesign:
        label = re.sub(r"[^A-Z0-9]+", "_", partition.upper()).strip("_")
        sort_key = f"{self.entity}#" + "#".join(f"{{{one}}}" for one in sort) if sort else self.entity
        fields = (partition, *sort)
        self._choose(f"index {name}", f"{label}#{{{partition}}} / {sort_key}", why)
        return IndexDesign(index=name, pk=f"{self.entity}_{label}#{{{partition}}}", sk=sort_key, fields=fields, why=why)

    def _asked(self) -> Iterator[tuple[str, tuple[str, ...], str]]:
        """Indexes for what the application was seen to ask."""
        for shape in self._reads():
            if "_id" in shape.equality or not shape.equality or shape.kind == "distinct":
                continue
            partition = max(shape.equality, key=self._distinct)
            if not self._can_be_key(partition):
                continue
            rest = [one for one in shape.equality if one != partition]
            rest += [name for name, _ in shape.sort if name not in shape.equality] or list(shape.range)
            sort = tuple(one for one in dict.fromkeys(rest) if self._can_sort(one))[:2]
            unique = any(index.unique and index.fields == (partition,) for index in self.facts.indexes)
            yield partition, () if unique else sort, f"{shape.calls:,} calls ({shape.kind}, {shape.source})"

    def _indexed(self) -> Iterator[tuple[str, tuple[str, ...], str]]:
        """Indexes of MongoDB that are used, or whose use is not known."""
        for index in self.facts.indexes:
            if index.name == "_id_" or not index.plain or index.collation:
                continue
            if index.uses == 0 and not index.unique and _days(index.since, self.database.began) >= UNUSED_DAYS:
                self._choose(f"MongoDB's index {index.name}", "left out", f"not used since {index.since}")
                continue
            if index.ttl_s is not None and not index.uses:
                why = f"MongoDB removes by it what has expired, and no call is known to ask by {index.fields[0]}"
                self._choose(f"MongoDB's index {index.name}", "left out", why)
                continue
            fields = [one for one in index.fields if "[]" not in one]
            if not fields or not self._can_be_key(fields[0]) or self._in_array(index):
                self._choose(
                    f"MongoDB's index {index.name}", "left out", f"{index.fields[0]} cannot be the key of an index here"
                )
                continue
            sort = tuple(one for one in fields[1:] if self._can_sort(one))[:2]
            uses = "its use is not known" if index.uses is None else f"used {index.uses:,} times since {index.since}"
            yield fields[0], sort, f"MongoDB has {index.name}, {uses}"

    def _in_array(self, index: IndexFacts) -> bool:
        return any(
            self.facts.path(".".join(name.split(".")[: depth + 1]) + "[]") is not None
            for name in index.fields
            for depth in range(name.count(".") + 1)
        )

    def _distinct(self, name: str) -> int:
        path = self.facts.path(name)
        return path.distinct if path is not None else 0

    def _can_be_key(self, name: str) -> bool:
        path = self.facts.path(name)
        return path is not None and bool(SIMPLE_PATH.match(name)) and path.type in KEYS

    def _can_sort(self, name: str) -> bool:
        path = self.facts.path(name)
        return path is not None and bool(SIMPLE_PATH.match(name)) and path.type in SORTS and not path.mixed

    # --- children, types ---------------------------------------------------------------------------------------------

    def _children(self) -> Iterator[ChildDesign]:
        taken: set[str] = set()
        for path in self.facts.paths:
            if path.lengths is None or "[]" in path.path or "." in path.path or not SIMPLE_PATH.match(path.path):
                continue
            inner = self.facts.path(f"{path.path}[]")
            if inner is None or inner.types.get("object", 0) < 1:
                continue
            reason = self._nested_because(path)
            length = f"p50 {path.lengths.p50:,.0f}, p99 {path.lengths.p99:,.0f}, max {path.lengths.max:,.0f} elements"
            if reason:
                self._choose(path.path, "kept inside the item", f"{length}; {reason}")
                continue
            entity = f"{self.entity}_{_entity_of(path.path)}"
            if entity in taken:
                continue
            taken.add(entity)
            why = f"{length}: each can be read and changed alone, and all are in one partition"
            lost = "kept inside the item: every change of one element writes the whole document"
            self._choose(path.path, "items of their own", why, [lost])
            yield ChildDesign(path=path.path, entity=entity, sk=f"{_entity_of(path.path)}#{{index:03d}}")

    def _nested_because(self, path: PathFacts) -> str:
        assert path.lengths is not None
        if path.lengths.max > CHILDREN_MOST:
            return f"more than {CHILDREN_MOST} would not fit into one transaction with their document"
        if path.grows:
            return "it grows with age: move it into a collection of its own"
        if path.types.get("array", 0) < 1:
            return f"it is not always an array ({', '.join(path.types)})"
        mean = self.facts.item_bytes.p50
        return "its documents are small" if mean and mean < 300 and path.lengths.p50 <= 1 else ""

    def _types(self, children: set[str]) -> Iterator[tuple[str, str]]:
        for path in self.facts.paths:
            if "." in path.path or "[]" in path.path or path.path in children or not SIMPLE_PATH.match(path.path):
                continue
            if path.path != "_id" and path.type in TYPES and path.types.get(path.type, 0) >= 0.9:
                yield path.path, TYPES[path.type]

    def _choose(self, topic: str, chosen: str, why: str, lost: Sequence[str] = ()) -> None:
        self.choices.append(Choice(collection=self.facts.name, topic=topic, chosen=chosen, why=why, lost=tuple(lost)))


def _days(since: str, until: str) -> int:
    try:
        return (date.fromisoformat(until[:10]) - date.fromisoformat(since)).days
    except ValueError:
        return 0


def _without_prefixes(wanted: list[tuple[str, tuple[str, ...]]]) -> list[tuple[str, tuple[str, ...]]]:
    """Without those that another one answers as well: the same partition, a longer sort key that begins alike."""
    longer = [
        one for one in wanted
        if not any(one != other and one[0] == other[0] and other[1][: len(one[1])] == one[1] for other in wanted)
    ]  # fmt: skip
    return longer[:MOST_INDEXES]


def _patterns(design: CollectionDesign) -> Iterator[PatternDesign]:
    yield PatternDesign(name=f"{_snake(design.name)}_by_key", collection=design.name, index="", pk=design.pk)
    for one in design.indexes:
        name = f"{_snake(design.name)}_by_{'_and_'.join(_snake(field) for field in one.fields)}"
        yield PatternDesign(name=name, collection=design.name, index=one.index, pk=one.pk)


def _named_apart(patterns: Sequence[PatternDesign]) -> list[PatternDesign]:
    seen: dict[str, PatternDesign] = {}
    for one in patterns:
        seen.setdefault(one.name, one)
    return list(seen.values())


def _one_table(facts: DatabaseFacts, designs: Sequence[CollectionDesign], table: str) -> Choice:
    linked = len(facts.references)
    return Choice(
        collection="",
        topic="tables",
        chosen=f"one table, {table}",
        why=f"{len(designs)} collections with {linked} references between them share indexes, capacity and backups",
        lost=("a table for each collection: more tables and indexes to watch, and nothing gets cheaper by it",),
    )


def _why_left_out(facts: CollectionFacts) -> str:
    return "is capped" if facts.capped and facts.kind == "collection" else f"is a {facts.kind}"


def _entities(names: Sequence[str]) -> dict[str, str]:
    """A name for the items of each collection, no two alike and none the beginning of another's key."""
    found: dict[str, str] = {}
    for name in sorted(names):
        entity = _entity_of(name)
        while entity in found.values():
            entity += "_"
        found[name] = entity
    return found


def _entity_of(name: str) -> str:
    plain = re.sub(r"[^A-Z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).upper()).strip("_") or "DOCUMENT"
    if plain.endswith("IES") and len(plain) > 4:
        return plain[:-1] if plain.endswith(KEEP_IE) else plain[:-3] + "Y"
    if plain.endswith("S") and not plain.endswith(("SS", "US", "IS")) and len(plain) > 3:
        return plain[:-1]
    return plain


def _camel(name: str) -> str:
    words = [word for word in re.split(r"[^A-Za-z0-9]+", name) if word]
    made = "".join(word[0].upper() + word[1:] for word in words) or "Migrated"
    return made if len(made) >= 3 else f"{made}Table"


def _snake(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()).strip("_") or "documents"
