"""Facts about every collection: sampled documents, indexes and their use, latencies, calls. Reads only, within a budget."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bson import json_util

from docferry.config import parse_migration
from docferry.core.analyze.facts import CollectionFacts, DatabaseFacts, IndexFacts, QueryShape
from docferry.core.analyze.profile import Profile
from docferry.core.analyze.query_shapes import added_up, shape_of
from docferry.core.limits import ITEM_BYTES, item_bytes
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.mapping.raw import decode_document
from docferry.core.namespaces import MARK
from docferry.errors import DocumentError
from docferry.flows.analyze.budget import Spent
from docferry.flows.analyze.job import GRANT, Analysis, Missing
from docferry.flows.analyze.profiler import profile_calls, put_back
from docferry.flows.analyze.resume import keep_finished, resumed


@dataclass(slots=True, kw_only=True)
class Collected:
    """The facts, what has been spent on them, and values of fields that may refer to other documents: by collection and path."""

    facts: DatabaseFacts
    spent: Spent
    values: dict[str, dict[str, list[Any]]] = field(default_factory=dict, repr=False)


def collect(job: Analysis) -> Collected:
    """The facts, collection by collection, the smallest first, so that a budget that ends leaves the largest for later.

    Each finished collection is kept in the job's state; those of an earlier run of the same analysis are not read again.
    Raises: Stopped; Unavailable, AccessDenied if not even the collections can be listed.
    """
    job.progress.say(f"analyzing {job.where}: reads only, secondary preferred; {job.budget}")
    missing = Missing()
    spent = Spent(job.budget, job.source.ping_ms, job.stop, job.progress.say)
    # Of another database only what has a name here.
    known = [one for one in job.source.collections() if MARK not in one["name"]]
    names = [one for one in known if not job.collections or one["name"] in job.collections]
    server = job.source.server()
    run, earlier = resumed(job, server, spent, missing)
    put_back(job)
    profile_calls(job)
    calls = _calls(job, missing)
    uptime = missing.ask("serverStatus", "since when operations were counted", GRANT, job.source.uptime_s, 0.0)
    sizes = _sizes(job, names, spent, missing)
    found: dict[str, CollectionFacts] = {}
    values: dict[str, dict[str, list[Any]]] = {}
    for done, entry in enumerate(sorted(names, key=lambda one: sizes[one["name"]].get("size", 0))):
        name = entry["name"]
        job.progress.advance("collections", done, len(names), name)
        facts = earlier.get(name)
        if facts is None:
            facts, values[name] = _collection(job, entry, sizes[name], spent, missing, uptime)
            if not spent.ended:
                keep_finished(job, facts, spent, missing)
        found[name] = replace(facts, shapes=tuple(one for one in calls if one.collection == name))
    job.progress.advance("collections", len(names), len(names))
    facts_of_all = DatabaseFacts(
        database=job.database,
        elsewhere=dict(job.elsewhere),
        server=server,
        began=run.began,
        seconds=spent.seconds,
        documents_read=spent.documents,
        bytes_read=spent.bytes,
        yielded_s=spent.yielded_s,
        earlier=len(earlier.keys() & found.keys()),
        collections=tuple(found[one["name"]] for one in names),
        missing=tuple(missing.facts.values()),
        stopped_early=spent.ended,
    )
    return Collected(facts=facts_of_all, spent=spent, values=values)


def _sizes(
    job: Analysis, names: Sequence[Mapping[str, Any]], spent: Spent, missing: Missing
) -> dict[str, Mapping[str, Any]]:
    """`collStats` of each collection, as far as the time reaches. Raises: Stopped."""
    sizes: dict[str, Mapping[str, Any]] = {}
    for done, entry in enumerate(names):
        spent.pace()
        job.progress.advance("sizes", done, len(names), "")
        sizes[entry["name"]] = {} if spent.late else _stats(job, entry, missing)
    return sizes


def _stats(job: Analysis, entry: Mapping[str, Any], missing: Missing) -> Mapping[str, Any]:
    if entry.get("type", "collection") != "collection":
        return {}
    name = str(entry["name"])
    return missing.ask("collStats", "sizes and numbers of documents", GRANT, lambda: job.source.stats(name), {})


def _collection(
    job: Analysis, entry: Mapping[str, Any], stats: Mapping[str, Any], spent: Spent, missing: Missing, uptime: float
) -> tuple[CollectionFacts, dict[str, list[Any]]]:
    name, kind = str(entry["name"]), str(entry.get("type", "collection"))
    options = entry.get("options", {})
    if kind != "collection":
        return CollectionFacts(name=name, kind=kind), {}
    if spent.late:
        return _unread(name, stats), {}
    profile = _profile(job, name, int(stats.get("count", job.budget.documents)), spent)
    documents = int(stats.get("count", profile.documents))
    latencies = missing.ask(
        "$collStats", "reads, writes and their latency", GRANT, lambda: job.source.latencies(name), {}
    )
    (reads, read_ms), (writes, write_ms) = latencies.get("reads", (0, 0.0)), latencies.get("writes", (0, 0.0))
    facts = CollectionFacts(
        name=name,
        kind=kind,
        capped=bool(options.get("capped")),
        documents=documents,
        average_bytes=float(stats.get("avgObjSize", 0) or profile.bytes / max(profile.documents, 1)),
        storage_bytes=int(stats.get("storageSize", 0)),
        index_bytes=int(stats.get("totalIndexSize", 0)),
        sampled=profile.documents,
        complete=profile.documents >= documents,
        paths=tuple(profile.paths()),
        paths_left_out=profile.left_out,
        item_bytes=profile.item_bytes(),
        over_item_limit=profile.over / max(profile.documents, 1),
        unstorable=profile.unstorable,
        indexes=_indexes(job, name, missing),
        reads_s=reads / uptime if uptime else None,
        writes_s=writes / uptime if uptime else None,
        read_ms=read_ms or None,
        write_ms=write_ms or None,
        validator=bool(options.get("validator")),
    )
    return facts, profile.kept()


def _unread(name: str, stats: Mapping[str, Any]) -> CollectionFacts:
    """What is known of a collection for which no time was left."""
    return CollectionFacts(
        name=name,
        kind="collection",
        documents=int(stats.get("count", 0)),
        average_bytes=float(stats.get("avgObjSize", 0)),
        storage_bytes=int(stats.get("storageSize", 0)),
        index_bytes=int(stats.get("totalIndexSize", 0)),
    )


def _profile(job: Analysis, name: str, count: int, spent: Spent) -> Profile:
    mapping = generic_mapping(job.database, name)
    profile = Profile(job.sketches, lambda document: _stored(mapping, document), ITEM_BYTES)
    if spent.ended:
        return profile
    for page in job.source.sample(name, job.budget.documents, count):
        size = sum(map(len, page))
        for raw in page:
            try:
                profile.add(decode_document(raw), len(raw))
            except DocumentError as error:
                profile.refuse(type(error).__name__, len(raw))
        spent.add(len(page), size)
        spent.pace()
        job.progress.advance(name, profile.documents, min(count, job.budget.documents))
        if spent.ended:
            break
    return profile


def generic_mapping(database: str, collection: str) -> DocumentMapping:
    """How docferry stores documents that no file describes: measures their size, and whether they can be stored at all."""
    names = {"migration": "analyze", "source": {"database": database}, "tables": {"Analyzed": {}}}
    text = json.dumps({**names, "collections": {collection: {}}}).encode()
    return parse_migration(text, "analyze").mapping(collection)


def _stored(mapping: DocumentMapping, document: Mapping[str, Any]) -> int:
    try:
        return sum(item_bytes(item) for item in mapping.encode(dict(document), 1))
    except DocumentError as error:
        raise ValueError(type(error).__name__) from error


def _indexes(job: Analysis, name: str, missing: Missing) -> tuple[IndexFacts, ...]:
    entries = missing.ask("listIndexes", "indexes", GRANT, lambda: job.source.indexes(name), [])
    uses = missing.ask("$indexStats", "which indexes are used", GRANT, lambda: job.source.index_uses(name), {})
    return tuple(_index(entry, uses) for entry in entries)


def _index(entry: Mapping[str, Any], uses: Mapping[str, tuple[int, str]]) -> IndexFacts:
    count, since = uses.get(str(entry["name"]), (None, ""))
    return IndexFacts(
        name=str(entry["name"]),
        keys=tuple(
            (str(field), str(int(way)) if isinstance(way, int | float) else str(way))
            for field, way in entry["key"].items()
        ),
        unique=bool(entry.get("unique")) or list(entry["key"]) == ["_id"],
        sparse=bool(entry.get("sparse")),
        partial="partialFilterExpression" in entry,
        partial_filter=_extended_json(entry.get("partialFilterExpression")),
        ttl_s=int(entry["expireAfterSeconds"]) if "expireAfterSeconds" in entry else None,
        collation="collation" in entry,
        uses=count,
        since=since,
    )


def _extended_json(query: Mapping[str, Any] | None) -> str:
    return "" if query is None else json_util.dumps(query, json_options=json_util.RELAXED_JSON_OPTIONS)


def _way(way: Any) -> str:
    return str(int(way)) if isinstance(way, int | float) else str(way)


def _calls(job: Analysis, missing: Missing) -> list[QueryShape]:
    read = f"db.grantRolesToUser('<user>', [{{role: 'dbAdmin', db: '{job.database}'}}])"
    entries: Iterable[Mapping[str, Any]] = missing.ask(
        "system.profile",
        "the application's calls, where the profiler is on",
        read,
        lambda: list(job.source.profiled()),
        [],
    )
    running = missing.ask("$currentOp", "calls that run at this moment", GRANT, job.source.running, [])
    shapes = [shape_of(entry, job.where, "profiler") for entry in entries]
    shapes += [shape_of(entry, job.where, "$currentOp") for entry in running]
    return added_up([*(one for one in shapes if one is not None), *job.shapes])
