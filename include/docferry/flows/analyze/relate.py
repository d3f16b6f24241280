"""Which fields hold another collection's ids: tried, not guessed from names alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import bson

from docferry.core.analyze.facts import CollectionFacts, DatabaseFacts, PathFacts, Reference, Spread
from docferry.core.analyze.profile import KEPT_VALUES
from docferry.core.bson_codec.order import ABSENT
from docferry.core.mapping.raw import decode_document
from docferry.core.mql.values import values_at
from docferry.errors import AccessDenied, RequestRefused, StoreError
from docferry.flows.analyze.budget import Spent
from docferry.flows.analyze.collect import Collected
from docferry.flows.analyze.job import Analysis

TRIED = KEPT_VALUES
"""Values that are looked up for one pair of fields."""
TARGETS = 8
"""Collections that one field is tried against, those whose names are like the field's first."""
ID_NAMES = ("id", "_id", "code", "number", "key", "no", "email", "username", "sku", "slug")
REPEATS_UP_TO = 2_000_000
"""Documents up to which a group by a field is asked of the server."""
ENOUGH = 0.5
FAN_OUT_VALUES = 40
FAN_OUT_MOST = 10_000
FAN_OUT_PASS = 50_000
"""Documents up to which a field without an index is counted, all values in one pass."""


def count_repeats(job: Analysis, spent: Spent, facts: CollectionFacts) -> tuple[CollectionFacts, list[str]]:
    """The same facts with how often identifiers repeat: fields of which nearly every value is different, but not all. And the
    fields of which that was not counted. The server looks at the whole collection for it, which is charged to the budget.

    Raises: Stopped.
    """
    paths: list[PathFacts] = []
    uncounted: list[str] = []
    size = int(facts.documents * facts.average_bytes)
    for one in facts.paths:
        if not _like_an_id(facts, one):
            paths.append(one)
        elif facts.documents > REPEATS_UP_TO or spent.ended or not spent.room(size):
            paths.append(one)
            uncounted.append(f"{facts.name}.{one.path}")
        else:
            spent.pace()
            spent.server_bytes += size
            paths.append(replace(one, repeats=_repeats(job, facts, one)))
    return replace(facts, paths=tuple(paths)), uncounted


def _like_an_id(facts: CollectionFacts, path: PathFacts) -> bool:
    plain = path.path != "_id" and "[]" not in path.path and "*" not in path.path and path.path.count(".") <= 1
    name = path.path.rsplit(".", 1)[-1].lower()
    kept = any(index.unique and index.fields == (path.path,) for index in facts.indexes)
    told = name.endswith(ID_NAMES) and path.unique and path.values >= 0.9 * facts.sampled
    return plain and told and not kept and path.type in ("string", "int", "long", "objectId")


def _repeats(job: Analysis, facts: CollectionFacts, path: PathFacts) -> int:
    try:
        return job.source.repeated(facts.name, path.path, 10_000)
    except StoreError:
        return 0  # it took too long, or is not allowed: then nothing is said of it


def relate(job: Analysis, collected: Collected) -> list[Reference]:
    """References between the collections, each with its hit rate and fan-out, as far as the budget reaches. Raises: Stopped."""
    facts, spent = collected.facts, collected.spent
    found: list[Reference] = []
    for collection in facts.collections:
        fields = [(path, target) for path in _candidates(collection) for target in _targets(path, collection, facts)]
        if not fields or spent.ended:
            continue
        job.progress.say(
            f"{collection.name}: looking up {len({path.path for path, _ in fields})} fields in other collections"
        )
        wanted = {path.path for path, _ in fields}
        values: Mapping[str, list[Any]] | None = collected.values.get(collection.name)
        if values is None:  # an earlier run has read it, and kept no value
            values = _values(job, spent, collection, wanted)
        for path, (target, target_path) in fields:
            spent.pace()
            if spent.ended or any(one.path == path.path and one.collection == collection.name for one in found):
                continue
            reference = _try(job, spent, collection, path, target, target_path, values.get(path.path, []))
            if reference is not None:
                found.append(reference)
    return found


def _candidates(collection: CollectionFacts) -> Iterator[PathFacts]:
    for path in collection.paths:
        plain = path.path != "_id" and path.path.count("[]") <= 1 and "*" not in path.path
        if plain and path.type in ("objectId", "string", "int", "long", "uuid", "binData") and path.values >= 5:
            name = path.path.rsplit(".", 1)[-1].removesuffix("[]")
            if (
                path.type == "objectId"
                or name.lower().endswith(("ids", "name", *ID_NAMES))
                or ("[]" in path.path and path.path.endswith("[]"))
            ):
                yield path


def _targets(path: PathFacts, own: CollectionFacts, facts: DatabaseFacts) -> list[tuple[CollectionFacts, str]]:
    """Unique fields of the same type in other collections, likely ones first."""
    name = path.path.replace("[]", "").rsplit(".", 1)[-1].lower()
    found: list[tuple[int, CollectionFacts, str]] = []
    for target in facts.collections:
        for index in target.indexes:
            if not index.unique or len(index.keys) != 1 or (target.name == own.name and index.fields[0] == path.path):
                continue
            field = target.path(index.fields[0])
            if field is None or field.type != path.type:
                continue
            likely = _alike(name, target.name.lower(), index.fields[0].lower())
            if likely or path.type == "objectId":
                found.append((-likely, target, index.fields[0]))
    for target in facts.collections:  # a field of a fitting name that has no index, but one document a value
        for one in (target.path(spelt) for spelt in _spellings(path)):
            if (
                one is not None
                and target.name != own.name
                and one.unique
                and one.type == path.type
                and one.path != "_id"
            ):
                found.append((-1, target, one.path))
    ordered = sorted(found, key=lambda one: one[0])
    return [(target, field) for _, target, field in ordered][:TARGETS]


def _spellings(path: PathFacts) -> list[str]:
    """How the field that is meant may be called: `accounts[]` may hold account_id."""
    name = path.path.replace("[]", "").rsplit(".", 1)[-1]
    singular = name.removesuffix("s")
    return [name, singular, f"{singular}_id", f"{singular}Id", f"{singular}_number", f"{singular}_name"]


def _alike(name: str, collection: str, field: str) -> int:
    """How much a field's name speaks of a collection: `userId`, `user_id`, `user` of `users`."""
    stem = name.removesuffix("ids").removesuffix("id").rstrip("_")
    plain = collection.rstrip("s")
    if stem and (stem.rstrip("s") == plain or plain.endswith(stem) or stem.endswith(plain)):
        return 3
    return 2 if field != "_id" and name.rstrip("s") == field.rstrip("s") else 0


def _values(job: Analysis, spent: Spent, collection: CollectionFacts, paths: set[str]) -> Mapping[str, list[Any]]:
    """A few different values of each field, from a small sample of its own."""
    found: dict[str, dict[bytes, Any]] = {path: {} for path in paths}
    for page in job.source.sample(collection.name, 2 * TRIED, collection.documents):
        spent.add(len(page), sum(map(len, page)))
        spent.pace()
        if spent.ended:
            break
        for raw in page:
            document = decode_document(raw)
            for path in paths:
                for value in _scalars(document, path.replace("[]", "")):
                    if len(found[path]) < TRIED:
                        found[path].setdefault(bson.encode({"": value}), value)
    return {path: list(values.values()) for path, values in found.items()}


def _scalars(document: Mapping[str, Any], path: str) -> Iterator[Any]:
    """The scalars that a query by this path would be compared with."""
    for value in values_at(document, tuple(path.split(".")), True):
        if value is not ABSENT and value is not None and not isinstance(value, list | dict):
            yield value


def _try(
    job: Analysis,
    spent: Spent,
    collection: CollectionFacts,
    path: PathFacts,
    target: CollectionFacts,
    field: str,
    values: list[Any],
) -> Reference | None:
    if not values or not _afford(spent, target, field):
        return None
    try:
        hits = job.source.found(target.name, field, values) / len(values)
        if hits < ENOUGH:
            return None
        fan_out = _fan_out(job, spent, collection, path, values)
    except (AccessDenied, RequestRefused):
        return None
    return Reference(
        collection=collection.name,
        path=path.path,
        target=target.name,
        target_path=field,
        tried=len(values),
        hits=min(hits, 1.0),
        fan_out=fan_out,
        many="[]" in path.path,
    )


def _afford(spent: Spent, facts: CollectionFacts, field: str) -> bool:
    """Charge what the server must look at to find values of a field: nothing to speak of by an index, else the collection."""
    if _indexed(facts, field):
        return True
    size = int(facts.documents * facts.average_bytes)
    if not spent.room(size):
        return False
    spent.server_bytes += size
    return True


def _indexed(facts: CollectionFacts, field: str) -> bool:
    return field == "_id" or any(index.fields[0] == field and index.plain for index in facts.indexes)


def _fan_out(job: Analysis, spent: Spent, collection: CollectionFacts, path: PathFacts, values: list[Any]) -> Spread:
    """Counted through an index if there is one, or in one pass where that is small; else from the sample."""
    plain = path.path.replace("[]", "")
    heaviest = max((one.share for one in path.heavy), default=0.0) * collection.documents
    asked, counts = values[:FAN_OUT_VALUES], []
    try:
        if _indexed(collection, plain):
            counts = [job.source.fan_out(collection.name, plain, value, FAN_OUT_MOST) for value in asked]
        elif collection.documents <= FAN_OUT_PASS and _afford(spent, collection, plain):
            counts = job.source.fan_outs(collection.name, plain, asked)
    except StoreError:
        counts = []  # it took too long: the sample says what is known
    if not counts:
        mean = collection.documents / max(path.distinct, 1)
        return Spread(count=path.distinct, p50=mean, p95=mean, p99=heaviest or mean, max=heaviest or mean)
    counts.sort()
    at = [counts[min(len(counts) - 1, int(share * len(counts)))] for share in (0.5, 0.95, 0.99)]
    return Spread(count=len(counts), p50=at[0], p95=at[1], p99=at[2], max=max(counts[-1], heaviest))
