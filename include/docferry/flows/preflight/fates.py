"""What MongoDB has and DynamoDB will not: a line each, with what becomes of it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from docferry.core.namespaces import MARK
from docferry.core.settings import CollectionSettings
from docferry.ports.flows import SourceCatalog, SourceFacts

_SPECIAL = {
    "text": "a text index: DynamoDB has no text search, so $text finds nothing there; a search engine beside it does",
    "2dsphere": "a geo index: DynamoDB has none, so $near and $geoWithin are for a search engine, or a key made of a geohash",
    "2d": "a geo index: DynamoDB has none, so $near and $geoWithin are for a search engine, or a key made of a geohash",
    "hashed": "a hashed index: DynamoDB hashes partition keys itself; an equality needs an index of the file",
    "columnstore": "a column store index: DynamoDB has none; such queries are for an analytical store",
}
MOST_NAMES = 20


def fates_of(settings: Sequence[CollectionSettings], facts: Sequence[SourceFacts], catalog: SourceCatalog) -> list[str]:
    """The lines of all collections of the file, and of what the database holds beside them."""
    found: list[str] = []
    guarded = {one.name: {unique.name for unique in one.unique} for one in settings}
    for one in facts:
        lines = (*_of_collection(one), *_of_indexes(one, guarded.get(one.name, set())))
        found += [f"{one.name}: {line}" for line in lines]
    there = {name.replace(MARK, ".", 1): kind for name, kind in catalog.collections.items()}
    return found + list(_beside({one.name for one in settings}, there))


def _of_collection(facts: SourceFacts) -> Iterator[str]:
    options = facts.options
    if options.get("validator"):
        level = options.get("validationAction", "error")
        yield f"a validator ({level}s): DynamoDB has none, so from the change of leader on the application checks what it writes"
    if options.get("encryptedFields"):
        yield "encrypted fields: what is copied is ciphertext, and no driver queries it in DynamoDB"
    if options.get("collation", {}).get("locale", "simple") != "simple":
        yield f"the collation {options['collation']['locale']}: DynamoDB compares bytes, so Ann is not ann there; {_LOWER}"


_LOWER = "keep a lower-case copy of the field and make the key of that"


def _of_indexes(facts: SourceFacts, guarded: Collection[str]) -> Iterator[str]:
    inherited = facts.options.get("collation", {})
    for index in facts.indexes:
        name = index["name"]
        if name != "_id_":
            yield from (f"index {name} is {line}" for line in _of_index(index, inherited, name in guarded))


_NAMED = "kept once DynamoDB leads, for the file names it: each value is an item"
_UNNAMED = (
    "kept once DynamoDB leads if the file names it (collections.<name>.unique), which makes an item of each value; or waived by "
    "name (cutover.waived_unique)"
)


def _of_index(index: Mapping[str, Any], inherited: Mapping[str, Any], guarded: bool) -> Iterator[str]:
    kinds = [kind for kind in dict.fromkeys(index["key"].values()) if kind in _SPECIAL]
    yield from (_SPECIAL[kind] for kind in kinds)
    if any("$**" in field for field in index["key"]) and "text" not in kinds:
        yield "a wildcard index: DynamoDB has none; each field that is asked by needs an index of the file"
    if (after := index.get("expireAfterSeconds")) is not None:
        fields = ", ".join(index["key"])
        yield (
            f"a TTL index ({after:,.0f} s after {fields}): MongoDB's removals arrive in DynamoDB while MongoDB leads; "
            "from the change of leader on nothing removes these documents but the application"
        )
    if (unique := index.get("unique")) and "partialFilterExpression" in index:
        yield f"unique in a part of the documents: {_NAMED if guarded else _UNNAMED}"
    elif "partialFilterExpression" in index:
        yield "a partial index: an index of the file does the same by `when`, for fields that have given values"
    elif unique:
        fate = _NAMED if guarded else f"kept if the table's key is made of these fields alone; else {_UNNAMED}"
        yield f"unique over {', '.join(index['key'])}: {fate}"
    collation = index.get("collation", {})
    if collation.get("locale", "simple") != "simple" and collation != inherited:
        yield f"an index with the collation {collation['locale']}: DynamoDB compares bytes; {_LOWER}"


def _beside(named: set[str], there: Mapping[str, str]) -> Iterator[str]:
    """Whatever the file does not name stays behind."""
    buckets = {name.removesuffix(".files") for name in there if name.endswith(".files")}
    buckets = {name for name in buckets if f"{name}.chunks" in there}
    for bucket in sorted(buckets):
        both = {f"{bucket}.files", f"{bucket}.chunks"}
        fate = (
            "it is copied as documents, of which no driver makes files in DynamoDB: keep the files in S3"
            if both & named
            else "the file does not name it, and it stays in MongoDB: move the files to S3"
        )
        yield f"{bucket} is a GridFS bucket: {fate}"
        named = named | both
    for kind, fate in (
        ("view", "DynamoDB has none: what it computes the application computes, or keeps as items of their own"),
        ("timeseries", "it has no change events, and stays in MongoDB"),
        ("collection", "the file does not name it, and it stays in MongoDB"),
    ):
        names = sorted(name for name, one in there.items() if one == kind and name not in named)
        if names:
            more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
            yield f"{', '.join(names[:MOST_NAMES])}{more} ({kind}): {fate}"
