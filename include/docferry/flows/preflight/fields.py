"""What a sample of documents says of the fields that a mapping names: how many have each, of which types, and which none has;
and of a collection of which a part is migrated, how much that is, and by which index."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from docferry.config import Migration
from docferry.core.bson_codec.references import fields_of
from docferry.core.mapping.document_filter import DocumentFilter
from docferry.core.mapping.item_plan import elements_of
from docferry.core.mapping.key_templates import MISSING, Placeholder, Template, lookup, parse_key, parse_template
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.mapping.raw import decode_document
from docferry.core.mql.values import bson_type
from docferry.core.settings import PLAIN_KEY, CollectionSettings, ItemSettings, KeyDesign, KeyType
from docferry.errors import DocumentError, FilterUndecided, Problem, TransformFailed
from docferry.flows.kernel.migrated import sample_migrated
from docferry.flows.preflight.names import closest
from docferry.ports.flows import Source, SourceFacts

SAMPLE = 100
"""Documents of a collection. A field that none of them has, less than 5 % of all have (with a chance of more than 99 %)."""
FILTER_SAMPLE = 300
"""Of a collection of which a part is migrated: a part of a hundredth should be among them."""
DEEP = 4
"""So many levels of names are looked through for the one that was meant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldSeen:
    """A field that something in the file is made of: `have` of `sampled` documents (of children: elements) have it.

    `source` is the template, or the path, as the file has it; `needed`: without the field there is no item. `unusable` have it,
    with a value that no table key can be made of. `unsorted`: it ends a sort key, and holds numbers, which do not sort there.
    """

    where: str
    source: str
    path: str
    sampled: int
    have: int
    types: Mapping[str, int]
    needed: bool = False
    unusable: int = 0
    unsorted: bool = False
    meant: str = ""

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.types.items())
        told = f"{self.where} {self.source}: {self.path} is in {self.have} of {self.sampled} sampled"
        told += f" ({kinds})" if kinds else f" (did you mean {self.meant}?)" if self.meant else ""
        if self.needed and (lost := self.sampled - self.have + self.unusable):
            told += f": {lost} of them cannot be stored, for want of a key"
        if self.unsorted:
            told += f"; numbers do not sort here, and do as {{{self.path}:number}}"
        return told


def look_at_fields(migration: Migration, source: Source) -> tuple[list[Problem], list[FieldSeen]]:
    """(fields of table keys that no sampled document has, all that was seen of templates, and of others what is nowhere)."""
    problems: list[Problem] = []
    seen: list[FieldSeen] = []
    for settings in migration.collections:
        if settings.generic:
            continue  # its key is made of _id alone
        sample = sample_migrated(source, migration.mapping(settings.name), SAMPLE)
        found = list(_fields(settings, list(_decoded(sample))))
        problems += [_nowhere(one) for one in found if one.needed and not one.have]
        seen += [one for one in found if one.have or not one.needed]
    return problems, seen


def look_at_transforms(migration: Migration, source: Source) -> Iterator[Problem]:
    """Collections whose own transform does not carry all of some sampled documents."""
    for settings in migration.collections:
        if settings.transform is None:
            continue
        sample = list(_decoded(sample_migrated(source, migration.mapping(settings.name), SAMPLE)))
        failed = [error for one in sample if (error := _failed(migration.mapping(settings.name), one))]
        if failed:
            what = (
                f"{len(failed)} of {len(sample)} sampled documents cannot be stored, first {failed[0].id}: {failed[0]}"
            )
            where = f"collections.{settings.name}.transform"
            yield Problem(where=where, what=what, suggestion="mend the transform: each would be a dead letter")


def _failed(mapping: DocumentMapping, document: Mapping[str, Any]) -> TransformFailed | None:
    try:
        mapping.encode(dict(document), 0)
    except TransformFailed as error:
        return error
    except DocumentError:
        return None  # a dead letter for another reason, told by the dry run of the load
    return None


def _decoded(sample: Sequence[bytes]) -> Iterator[Mapping[str, Any]]:
    for data in sample:
        try:
            yield decode_document(data)
        except DocumentError:
            continue  # a dead letter, told by the load


def _nowhere(one: FieldSeen) -> Problem:
    what = f"is made of {one.path}, which none of {one.sampled} sampled documents has: they could not be stored"
    return Problem(
        where=one.where, what=what, suggestion=f"did you mean {one.meant}?" if one.meant else "name another field"
    )


def _fields(settings: CollectionSettings, documents: Sequence[Mapping[str, Any]]) -> Iterator[FieldSeen]:
    if not documents:
        return
    where = f"collections.{settings.name}"
    yield from _of_item(f"{where}.item", settings, settings.item, documents, set())
    for name, child in settings.children.items():
        path = tuple(name.split("."))
        arrays = [lookup(document, path) for document in documents]
        seen = _seen(f"{where}.children.{name}", name, name, documents, False)
        yield from _if_nowhere(seen)
        elements = [element for array in arrays for element in elements_of(array)]
        yield from _of_item(f"{where}.children.{name}", settings, child, elements, {"index"})


def _of_item(
    where: str,
    settings: CollectionSettings,
    item: ItemSettings,
    documents: Sequence[Mapping[str, Any]],
    own: set[str],
) -> Iterator[FieldSeen]:
    """`own` are fields that a template may name and no document has."""
    if not documents:
        return
    kinds = kinds_of(settings.key)
    for part, source in item.key.items():
        template = parse_key(source, kinds[part])
        for path in sorted(template.fields - own):
            seen = _seen(f"{where}.key.{part}", source, path, documents, True, template)
            yield _if_unsorted(seen, part, template)
    for index, keys in item.index.items():
        types = kinds_of(settings.index_keys.get(index, PLAIN_KEY))
        for part, source in keys.items():
            for path in sorted(parse_template(source).fields - own):
                seen = _seen(f"{where}.index.{index}.{part}", source, path, documents, False)
                yield _if_unsorted(seen, part, parse_key(source, types[part]))
        for path in item.when.get(index, {}):
            yield from _if_nowhere(_seen(f"{where}.index.{index}.when", path, path, documents, False))
    for attribute, path in item.attributes.items():
        yield from _if_nowhere(_seen(f"{where}.attributes.{attribute}", path, path, documents, False))


def kinds_of(key: KeyDesign) -> dict[str, KeyType]:
    """The types of a table's or an index's keys, by part."""
    types = [one.type for one in key.attributes]
    return {"PK": types[0], "SK": types[-1]}


def _if_unsorted(one: FieldSeen, part: str, template: Template) -> FieldSeen:
    last = template.parts[-1]
    plain = isinstance(last, Placeholder) and last.source == one.path and not (last.order or last.integer)
    numbers = any(name in ("int32", "int64", "double", "decimal") for name in one.types)
    return replace(one, unsorted=part == "SK" and template.kind == "S" and plain and numbers)


def _if_nowhere(one: FieldSeen) -> Iterator[FieldSeen]:
    if not one.have:
        yield one


def _seen(
    where: str,
    source: str,
    path: str,
    documents: Sequence[Mapping[str, Any]],
    needed: bool,
    template: Template | None = None,
) -> FieldSeen:
    values = [lookup(document, tuple(path.split("."))) for document in documents]
    there = [value for value in values if value is not MISSING]
    if template is not None and template.kind != "S":
        unusable = sum(template.render(document) is None for document in documents) - (len(documents) - len(there))
    else:
        unusable = sum(value is None or value == "" or isinstance(value, list | dict) for value in there)
        unusable = 0 if path == "_id" else unusable
    return FieldSeen(
        where=where,
        source=source,
        path=path,
        sampled=len(documents),
        have=len(there),
        types=dict(Counter(map(bson_type, there)).most_common()),
        needed=needed,
        unusable=unusable,
        meant="" if there else closest(path, {name for document in documents for name in _names(document)}),
    )


def _names(document: Mapping[str, Any], prefix: str = "", deep: int = DEEP) -> Iterator[str]:
    for name, value in document.items():
        yield prefix + name
        if deep > 1 and (fields := fields_of(value)):
            yield from _names(fields, f"{prefix}{name}.", deep - 1)


# --- filters ---------------------------------------------------------------------------------------------------------


def look_at_filters(
    migration: Migration, source: Source, facts: Sequence[SourceFacts]
) -> tuple[list[Problem], list[str]]:
    """(documents that would be neither in nor out, what is to be known). Reads only. Raises StoreError."""
    problems: list[Problem] = []
    notes: list[str] = []
    for one in facts:
        mapping = migration.mapping(one.name)
        if mapping.filter is None or one.kind != "collection":
            continue
        where = f"collections.{one.name}.filter"
        found = _Sampled(mapping.filter)
        for data in source.sample_documents(one.name, FILTER_SAMPLE):
            found.see(mapping, data)
        if found.undecided:
            what = f"{found.undecided} of {found.sampled} sampled documents have an array there: they are neither in nor out"
            advice = "filter by a field that holds one value: each of these would be a dead letter"
            problems.append(Problem(where=where, what=what, suggestion=advice))
        notes += [f"{where}: {line}" for line in (*found.lines(), *_of_indexes(mapping.filter, one))]
    return problems, notes


class _Sampled:
    """Sampled documents, and where the filter puts them."""

    def __init__(self, by: DocumentFilter) -> None:
        self._by = by
        self.inside = self.outside = self.undecided = 0
        self._types: dict[str, tuple[Counter[str], Counter[str]]] = {name: (Counter(), Counter()) for name in by.fields}

    @property
    def sampled(self) -> int:
        return self.inside + self.outside + self.undecided

    def see(self, mapping: DocumentMapping, data: bytes) -> None:
        try:
            document = decode_document(data)
            inside = self._by.holds(document)
        except FilterUndecided:
            self.undecided += 1
            return
        except DocumentError:
            return  # a dead letter, told by the load
        self.inside += inside
        self.outside += not inside
        for name, (within, without) in self._types.items():
            (within if inside else without)[_type_at(document, name)] += 1

    def lines(self) -> Iterator[str]:
        if not self.sampled:
            return
        yield f"{self.inside} of {self.sampled} sampled documents are migrated, {self.outside} stay MongoDB's alone"
        if not self.inside:
            names = ", ".join(self._by.fields)
            yield f"no sampled document is within it, by {names}: compare its values with MongoDB's, types included"
        for name, (within, without) in self._types.items():
            parts = [(title, kinds) for title, kinds in (("migrated", within), ("not", without)) if kinds]
            told = "; ".join(
                f"{title}: {', '.join(f'{n} {kind}' for kind, n in kinds.most_common())}" for title, kinds in parts
            )
            yield f"{name} is, of those {told}"


def _type_at(document: Mapping[str, Any], name: str) -> str:
    value = lookup(document, tuple(name.split(".")))
    return "missing" if value is MISSING else bson_type(value)


def _of_indexes(by: DocumentFilter, facts: SourceFacts) -> Iterator[str]:
    """An index that begins with one of the fields serves counts and samples; the load reads all of the collection in any case."""
    for index in facts.indexes:
        first = next(iter(index["key"].items()))
        plain = first[1] in (1, -1) and not index.get("sparse") and "partialFilterExpression" not in index
        if first[0] in by.fields and plain:
            return
    yield (
        f"no index of MongoDB begins with {' or '.join(by.fields)}: counting and sampling what is migrated read all of the "
        "collection, for a minute at most, and then estimate"
    )
