"""What the form of a file cannot say of its mappings: whatever could not be reversed, or would give two documents one key."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain, combinations
from typing import NamedTuple

from docferry.config.build import collection_settings
from docferry.config.checking.filters import filter_problems
from docferry.config.checking.overflow import overflow_problems
from docferry.config.checking.tables import key_names
from docferry.config.checking.uniques import unique_problems
from docferry.config.names import bad_collection_name, bad_database_name
from docferry.config.schema import CollectionFile, ItemFile, MigrationFile, PatternFile
from docferry.config.transforms import find_transform
from docferry.config.yaml_lines import Lines, Path_, dotted, problem_at
from docferry.core.bson_codec.hints import NATURAL, parse_declared
from docferry.core.compare.key_sets import disjoint, first_word
from docferry.core.mapping.guards import compile_guards, guard_name_problem
from docferry.core.mapping.items import SYSTEM
from docferry.core.mapping.key_templates import Template, parse_key, parse_template, without_shard
from docferry.core.settings import PLAIN_KEY, KeyDesign
from docferry.errors import Problem

_SYSTEM_DATABASES = frozenset({"admin", "config", "local"})


class _Kind(NamedTuple):
    """A kind of item, and where the file names it."""

    at: Path_
    table: str
    entity: str
    pk: Template
    sk: Template


class MappingChecker:
    """Looks for every collection and access pattern of a well-formed file that could not be carried out or reversed."""

    def __init__(self, file: MigrationFile, lines: Lines) -> None:
        self.file, self.lines = file, lines

    def problems(self, sound: bool) -> list[Problem]:
        """`sound`: nothing else is wrong with the file, so that what one item has to do with another can be told."""
        found: list[Problem] = []
        for name, collection in self.file.collections.items():
            found += self._collection(name, collection or CollectionFile())
        sound = sound and not found
        if sound:
            found += self._shared_keys()
        return found + list(self._patterns(sound))

    def _problem(self, path: Path_, what: str, suggestion: str = "") -> Problem:
        return problem_at(self.lines, path, what, suggestion)

    def _table_of(self, collection: CollectionFile) -> str | None:
        if collection.table is None and len(self.file.tables) == 1:
            return next(iter(self.file.tables))
        return collection.table

    def _collection(self, name: str, collection: CollectionFile) -> list[Problem]:
        path: Path_ = ("collections", name)
        if wrong := bad_collection_name(self.file.source.database, name):
            return [self._problem(path, wrong, "write the name as MongoDB shows it: show collections")]
        if elsewhere := list(self._place(path, name, collection)):
            return elsewhere
        table = self._table_of(collection)
        if table is None:
            return [self._problem(path, "does not say its table", "one of " + ", ".join(self.file.tables))]
        if table not in self.file.tables:
            close = difflib.get_close_matches(table, self.file.tables, n=1)
            hint = f"did you mean {close[0]}?" if close else "add it under tables"
            return [self._problem((*path, "table"), f"there is no table {table}", hint)]
        found = [*self._transform(path, collection), *overflow_problems(self.file, name, collection, table, self.lines)]
        found += self._order(path, collection)
        settings = collection_settings(self.file, name)
        found += [*unique_problems(path, settings, self.lines), *filter_problems(path, settings, self.lines)]
        if collection.item is None:
            return [*found, *self._generic(path, name, collection, self.file.tables[table].key_design)]
        found += self._item((*path, "item"), collection.item, table, child=False)
        for field_name, child in collection.children.items():
            found += self._item((*path, "children", field_name), child, table, child=True)
        return [*found, *self._overlaps(path, collection), *self._impossible_keys(path, collection)]

    def _transform(self, path: Path_, collection: CollectionFile) -> Iterator[Problem]:
        if collection.transform is None:
            return
        try:
            find_transform(collection.transform.use)
        except ValueError as error:
            hint = "name a docferry.Transform of a module that Airflow and the application can import: transform: module:name"
            yield self._problem((*path, "transform"), str(error), hint)

    def _order(self, path: Path_, collection: CollectionFile) -> Iterator[Problem]:
        if collection.order == "keep" and collection.unmapped == "drop":
            what = (
                "keeps the order of fields, and of those that are dropped nothing would be left to keep an order among"
            )
            yield self._problem((*path, "order"), what, "set unmapped: keep, or leave order out")

    def _place(self, path: Path_, name: str, collection: CollectionFile) -> Iterator[Problem]:
        """Of a collection in another database."""
        own, database, named = self.file.source.database, collection.database, collection.collection
        if database is None:
            if named is not None:
                advice = "a collection of source.database goes by its own name: write that in its place"
                yield self._problem((*path, "collection"), "is only for one in another database", advice)
            return
        if database == own:
            yield self._problem((*path, "database"), "is the one of source.database", "leave it out")
        elif database in _SYSTEM_DATABASES:
            yield self._problem((*path, "database"), "is MongoDB's own", "name the application's")
        elif wrong := bad_database_name(database):
            yield self._problem((*path, "database"), wrong)
        elif wrong := bad_collection_name(database, named or name):
            at = (*path, "collection") if named is not None else path
            yield self._problem(at, wrong, "write the name as MongoDB shows it: show collections")
        for other, one in self.file.collections.items():
            if other == name:
                return
            if one is not None and (one.database, one.collection or other) == (database, named or name):
                yield self._problem(path, f"is the same collection as {other}", "remove one of them")

    def _generic(self, path: Path_, name: str, collection: CollectionFile, key: KeyDesign) -> Iterator[Problem]:
        if any(one.type != "S" for one in key.attributes):
            what = "has no mapping, and the keys of its table are not all texts"
            yield self._problem(path, what, "add item: with entity and key")
        if collection.children:
            yield self._problem((*path, "children"), "children need an item", "add item: with entity and key")
        if re.search(r"[#{}~]", name):
            yield self._problem(path, "its name cannot stand in a key", "add item: with a key of its own")

    def _item(self, path: Path_, item: ItemFile, table: str, child: bool) -> Iterator[Problem]:
        design = self.file.tables[table].key_design
        wanted = ({"SK"} if child else {"PK", "SK"}) - ({"SK"} if design.SK is None else set())
        for key in sorted(set(item.key) - wanted):
            hint = "a child is in its parent's partition: remove PK" if key == "PK" and child else "keys are PK and SK"
            hint = f"table {table} has no sort key: remove SK" if key == "SK" else hint
            yield self._problem((*path, "key", key), "is not known here", hint)
        for key in sorted(wanted - set(item.key)):
            yield self._problem((*path, "key"), f"has no {key}", "a template such as USER#{username}")
        if child and design.SK is None:
            what = f"table {table} has no sort key, so a partition holds one item"
            yield self._problem(path, what, "give it one, or leave the children in their document")
        for key, source in item.key.items():
            yield from self._template((*path, "key", key), source, design, key)
        yield from self._indexes(path, item, table)
        yield from self._attributes(path, item, table, child)
        yield from self._types(path, item)

    def _indexes(self, path: Path_, item: ItemFile, table: str) -> Iterator[Problem]:
        for index, keys in item.index.items():
            at = (*path, "index", index)
            if index not in self.file.tables[table].indexes:
                known = ", ".join(self.file.tables[table].indexes) or "none"
                yield self._problem(at, f"table {table} has no such index", f"it has {known}")
                continue
            for field, said in keys.when.items():
                if said == ():
                    yield self._problem((*at, "when", field), "names no value", "name those that are in the index")
            own = self.file.tables[table].design_of(index).key
            if (keys.SK is None) != (own.SK is None):
                what = (
                    f"has no SK, and index {index} has a sort key" if own.SK else f"has an SK, and index {index} none"
                )
                yield self._problem(at, what, "make the two alike")
                continue
            yield from self._template((*at, "PK"), keys.PK, own, "PK")
            if keys.SK is not None:
                yield from self._template((*at, "SK"), keys.SK, own, "SK")

    def _template(self, path: Path_, source: str, design: KeyDesign = PLAIN_KEY, key: str = "PK") -> Iterator[Problem]:
        attribute = design.SK if key == "SK" else design.PK
        try:
            template = parse_key(source, attribute.type if attribute else "S")
        except ValueError as error:
            yield self._problem(path, str(error))
            return
        if template.shards and (key != "PK" or "index" not in path):
            what = "only the partition key of an index may be sharded"
            yield self._problem(
                path, what, "put the shard there: a table key must tell its document, and sort keys need none"
            )

    def _types(self, path: Path_, item: ItemFile) -> Iterator[Problem]:
        for attribute, declared in item.types.items():
            if declared in NATURAL:
                continue
            try:
                parse_declared(declared)
            except ValueError as error:
                yield self._problem((*path, "types", attribute), str(error))

    def _attributes(self, path: Path_, item: ItemFile, table: str, child: bool) -> Iterator[Problem]:
        made = self.file.tables[table]
        reserved = SYSTEM | {"_id", made.ttl_attribute} | key_names(made)
        sources: dict[str, str] = {}
        for attribute, source in item.attributes.items():
            at = (*path, "attributes", attribute)
            if attribute in reserved or not attribute or attribute[0] == "~":
                yield self._problem(at, "is a name that docferry needs itself", "choose another")
            if not all(source.split(".")):
                yield self._problem(at, f"'{source}' is no dotted path")
            if source in sources and (child or source.split(".")[0] != "_id"):  # a root's _id may be copied at will
                yield self._problem(
                    at,
                    f"{source} already goes to {sources[source]}: only one attribute can be read back into it",
                    "remove one",
                )
            sources.setdefault(source, attribute)
        moved = sorted(source for source in sources if child or source.split(".")[0] != "_id")
        for one, other in combinations(moved, 2):
            if other.startswith(one + "."):
                at = (*path, "attributes", sources[other])
                yield self._problem(
                    at, f"{other} is inside {one}, which is mapped as a whole: cannot be reversed", "keep one of them"
                )

    def _overlaps(self, path: Path_, collection: CollectionFile) -> Iterator[Problem]:
        assert collection.item is not None
        for field_name in collection.children:
            at = (*path, "children", field_name)
            if not all(field_name.split(".")):
                yield self._problem(at, f"'{field_name}' is no dotted path")
            if field_name.split(".")[0] == "_id":
                yield self._problem(at, "is in the _id, which stays whole", "remove it")
            for source in collection.item.attributes.values():
                if overlap(source, field_name):
                    yield self._problem(at, f"{source} is also an attribute: cannot be reversed", "keep one of them")
        for one, other in combinations(collection.children, 2):
            if overlap(one, other):
                at = (*path, "children", other)
                yield self._problem(at, f"overlaps the children {one}: cannot be reversed", "keep one of them")

    def _impossible_keys(self, path: Path_, collection: CollectionFile) -> Iterator[Problem]:
        """Table keys that no document has: a field would have to be one value, and hold others, at once."""
        assert collection.item is not None
        kinds = [((*path, "item"), collection.item, False)]
        kinds += [((*path, "children", name), child, True) for name, child in collection.children.items()]
        for at, item, child in kinds:
            fields = sorted(_key_fields(item) - ({"index"} if child else set()))
            fields = [field for field in fields if child or field.split(".")[0] != "_id"]
            for one, other in combinations(fields, 2):
                if overlap(one, other):
                    what = f"{{{one}}} and {{{other}}}: {one} cannot be a single value and hold {other} at once"
                    yield self._problem((*at, "key"), what, "leave one of them out: no document has such a key")
            for field_name in () if child else collection.children:
                for one in fields:
                    if overlap(one, field_name):
                        what = f"{{{one}}} is no single value: the array {field_name} becomes items of its own"
                        yield self._problem((*at, "key"), what, f"leave {{{one}}} or the children {field_name} out")

    def _shared_keys(self) -> Iterator[Problem]:
        """Two kinds of item that could ever have the same key, and entity names that are there twice."""
        kinds: list[_Kind] = []
        for name, collection in self.file.collections.items():
            settings = collection_settings(self.file, name)
            types = [one.type for one in settings.key.attributes]
            pk = parse_key(settings.item.key["PK"], types[0])
            at: Path_ = ("collections", name)
            own = (*at, "item") if collection and collection.item else at
            kinds.append(
                _Kind(own, settings.table, settings.item.entity, pk, parse_key(settings.item.key.get("SK"), types[-1]))
            )
            for child_name, child in settings.children.items():
                where = (*at, "children", child_name)
                kinds.append(_Kind(where, settings.table, child.entity, pk, parse_key(child.key.get("SK"), types[-1])))
            for guard in compile_guards(settings):
                if guard_name_problem(name, guard.settings.name):
                    continue  # told already, and no key is made of it
                values = (f"{{value{number}}}" for number in range(len(guard.settings.fields)))
                made = parse_template("#".join((guard.entity, *values)))  # a field may have a name that no template can
                kinds.append(_Kind((*at, "unique"), settings.table, guard.entity, made, parse_key(guard.sk or None)))
        entities: dict[tuple[str, str], _Kind] = {}
        for kind in kinds:
            one = entities.setdefault((kind.table, kind.entity), kind)
            if one is not kind:
                what = f"{kind.entity} is also the entity of {dotted(one.at)}"
                yield self._problem((*kind.at, "entity"), what, "choose another")
        for one, other in _may_meet(kinds):
            if not disjoint(one.pk, other.pk) and not disjoint(one.sk, other.sk):
                what = f"an item could have the same key as one of {dotted(one.at)}"
                yield self._problem((*other.at, "key"), what, "begin the key with a word of its own")

    def _patterns(self, sound: bool) -> Iterator[Problem]:
        for name, pattern in self.file.access_patterns.items():
            path: Path_ = ("access_patterns", name)
            if pattern.collection not in self.file.collections:
                known = ", ".join(self.file.collections)
                yield self._problem(
                    (*path, "collection"), f"there is no collection {pattern.collection}", f"there are {known}"
                )
                continue
            table = self._table_of(self.file.collections[pattern.collection] or CollectionFile())
            if table not in self.file.tables:
                continue
            design = self.file.tables[table].key_design
            if pattern.index and pattern.index in self.file.tables[table].indexes:
                design = self.file.tables[table].design_of(pattern.index).key
            if design.SK is None and pattern.SK is not None:
                what = (
                    f"has an SK, and {'index ' + pattern.index if pattern.index else 'table ' + table} has no sort key"
                )
                yield self._problem((*path, "SK"), what, "remove it")
                continue
            if pattern.index and table in self.file.tables and pattern.index not in self.file.tables[table].indexes:
                yield self._problem((*path, "index"), f"table {table} has no index {pattern.index}")
            broken = [
                problem
                for key in ("PK", "SK")
                if (source := getattr(pattern, key)) is not None
                for problem in self._template((*path, key), source)
            ]
            yield from broken
            if not broken and sound and not self._finds_something(pattern):
                what = f"no item of {pattern.collection} has such a key" + (
                    f" in {pattern.index}" if pattern.index else ""
                )
                yield self._problem((*path, "PK"), what, "compare it with the collection's templates")

    def _finds_something(self, pattern: PatternFile) -> bool:
        settings = collection_settings(self.file, pattern.collection)
        for item in (settings.item, *settings.children.values()):
            keys = item.index.get(pattern.index) if pattern.index else {"PK": settings.item.key["PK"], **item.key}
            if keys is not None and all(
                not disjoint(parse_template(wanted), without_shard(parse_template(keys[key])))
                for key in ("PK", "SK")
                if (wanted := getattr(pattern, key)) is not None
            ):
                return True
        return False


def _may_meet(kinds: Sequence[_Kind]) -> Iterator[tuple[_Kind, _Kind]]:
    """Pairs in one table, without those whose partition keys begin with different words: of thousands of collections, most."""
    known: dict[tuple[str, str], list[_Kind]] = {}
    for kind in kinds:
        word = first_word(kind.pk)
        alike = {(kind.table, word), (kind.table, "")} if word else {one for one in known if one[0] == kind.table}
        for one in chain.from_iterable(known.get(place, ()) for place in sorted(alike)):
            yield one, kind
        known.setdefault((kind.table, word), []).append(kind)


def _key_fields(item: ItemFile) -> set[str]:
    """The fields that an item's table key is made of, as far as its templates can be read."""
    found: set[str] = set()
    for source in item.key.values():
        with suppress(ValueError):  # told elsewhere
            found |= parse_template(source).fields
    return found


def overlap(one: str, other: str) -> bool:
    """Is one dotted path the other, or inside it?"""
    return one == other or one.startswith(other + ".") or other.startswith(one + ".")
