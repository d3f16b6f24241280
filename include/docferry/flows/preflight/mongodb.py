"""What only the servers know about a migration file: kinds of server and collection, unique indexes behind keys."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import closing

from docferry.config import Migration
from docferry.core.mapping.key_templates import parse_template, table_key_fields
from docferry.core.mql.index_entries import unlike
from docferry.core.settings import CollectionSettings
from docferry.errors import AccessDenied, PreflightFailed, Problem, RequestRefused
from docferry.ports.flows import ServerFacts, Source, SourceFacts

MIN_VERSION = (5, 0)
"""Snapshot reads. Replication will need 6.0 (pre-images)."""
REPLICATION_VERSION = (6, 0)


def check_source(migration: Migration, source: Source) -> list[Problem]:
    """Every reason why this MongoDB cannot be migrated as the file describes it. Reads only."""
    facts = source.facts_of([settings.name for settings in migration.collections])
    return [*server_problems(source.server_facts()), *collection_problems(migration, facts)]


def collection_problems(migration: Migration, facts: Sequence[SourceFacts]) -> Iterator[Problem]:
    """What `check_source` finds in the collections, whose facts are in the order of the file."""
    for settings, one in zip(migration.collections, facts, strict=True):
        yield from _collection_problems(settings, one)


def index_problems(migration: Migration, facts: Sequence[SourceFacts]) -> Iterator[Problem]:
    """Of files that name unique indexes: where MongoDB has others, and which of its are neither named nor waived. What follows
    MongoDB goes on all the same: its application may make an index at any time."""
    for settings, one in zip(migration.collections, facts, strict=True):
        if settings.unique:
            yield from unlike_indexes(settings, one)
            yield from not_kept(settings, migration.cutover.waived_unique, one)


def require_indexes(migration: Migration, source: Source) -> None:
    """Raises PreflightFailed with all of them."""
    if any(settings.unique for settings in migration.collections):
        facts = source.facts_of([settings.name for settings in migration.collections])
        if problems := list(index_problems(migration, facts)):
            raise PreflightFailed(f"{migration.name}: unique indexes", problems)


def check_stream(migration: Migration, source: Source) -> list[Problem]:
    """Why MongoDB would not open the change stream that replication follows; it is opened for it, and closed. Reads only.

    Raises: TransientStoreError.
    """
    if list(server_problems(source.server_facts())):
        return []  # told by `check_source`; without a majority it would only hang
    fields = {name: mapping.key_fields for name, mapping in migration.mappings.items()}
    try:
        with closing(source.follow(source.stream_position(), fields)):
            return []
    except AccessDenied as error:
        advice = "grant docferry's user the role read on the database, or the actions find and changeStream"
        if migration.namespaces.several:
            advice = (
                "of several databases it is the cluster's: grant readAnyDatabase, or what `docferry privileges` prints"
            )
        return [Problem(where="source", what=f"does not let us follow its change stream: {error}", suggestion=advice)]
    except RequestRefused as error:
        advice = "look at the names of fields in the keys; please report a name that MongoDB takes and we do not"
        return [Problem(where="collections", what=f"the change stream cannot be opened: {error}", suggestion=advice)]


def require_source(migration: Migration, source: Source) -> None:
    """Raises PreflightFailed with all of them."""
    problems = check_source(migration, source)
    if problems:
        raise PreflightFailed(f"{migration.name}: MongoDB", problems)


def require_followable(migration: Migration, source: Source) -> None:
    """Raises PreflightFailed with everything that keeps the change stream from being followed."""
    problems = check_source(migration, source)
    for settings in migration.collections:
        problems += without_images(settings.name, source)
    expire, window = source.expire_images_after_s(), source.oplog_window_s()
    if expire is not None and expire < window:
        problems.append(
            Problem(
                where="source",
                what=f"removes images after {expire:.0f} s, before the oplog forgets the change ({window:.0f} s)",
                suggestion="setClusterParameter changeStreamOptions: preAndPostImages.expireAfterSeconds: off",
            )
        )
    if problems:
        raise PreflightFailed(f"{migration.name}: following MongoDB", problems)


def without_images(collection: str, source: Source) -> Iterator[Problem]:
    """Why a collection's changes could not be told, if that is so."""
    facts = source.collection_facts(collection)
    if facts.kind == "collection" and not facts.images:
        yield Problem(
            where=f"collections.{collection}",
            what="has no change stream images: replication could not see what a change did",
            suggestion="run `docferry provision`: it switches them on, and says first how much space they take",
        )


def server_problems(facts: ServerFacts) -> Iterator[Problem]:
    """Why no collection of this server can be migrated."""
    version = ".".join(map(str, facts.version))
    if facts.mongos:
        yield Problem(
            where="source",
            what="is a mongos; sharded clusters are untested and refused",
            suggestion="migrate a replica set",
        )
    elif facts.replica_set is None:
        yield Problem(
            where="source", what="is no replica set: no snapshots and no change stream", suggestion="rs.initiate()"
        )
    if facts.version < REPLICATION_VERSION:
        yield Problem(
            where="source", what=f"is MongoDB {version}; pre-images need 6.0", suggestion="upgrade the replica set"
        )
    if lacking := lacking_majority(facts):
        yield Problem(where="source", what=lacking, suggestion="bring the member back, see rs.status()")


def lacking_majority(facts: ServerFacts) -> str:
    """What keeps this replica set from a majority of data-bearing members, and which members it has; '' if nothing."""
    if not facts.replica_set or facts.write_majority_ok:
        return ""
    up = sum(one.follows for one in facts.members)
    states = ", ".join(f"{one.name} {one.state}" for one in facts.members)
    return (
        f"has too few data-bearing members up, {up} of the {facts.write_majority} that make a majority ({states}): until then "
        "majority writes, snapshots and the change stream stall"
    )


def _collection_problems(settings: CollectionSettings, facts: SourceFacts) -> Iterator[Problem]:
    where = f"collections.{settings.name}"
    if facts.kind in ("view", "timeseries"):
        yield Problem(
            where=where,
            what=f"is a {facts.kind}; change streams and _id ranges do not work on it",
            suggestion="leave it out",
        )
    if facts.capped:
        yield Problem(
            where=where,
            what="is capped: MongoDB shows no snapshot of it, so it can neither be loaded nor compared",
            suggestion="leave it out, or copy it into an ordinary collection ($out) and rename that over it",
        )
    if facts.kind != "collection":
        return  # a collection that is missing is an empty one
    fields, rest = (
        parse_template(one).fields if one else frozenset() for one in map(settings.item.key.get, ("PK", "SK"))
    )
    if (
        not settings.children
    ):  # children live in their parent's partition: with them the PK alone must tell documents apart
        fields, rest = fields | rest, frozenset()
    if "_id" in fields or any(unique <= fields for unique in facts.unique):
        return
    yield _shared_key(f"{where}.item.key", sorted(fields), sorted(rest))


def unlike_indexes(settings: CollectionSettings, facts: SourceFacts) -> Iterator[Problem]:
    """Where the unique indexes that the file names are not those of MongoDB, `_id_` included."""
    if facts.kind != "collection":
        return
    there = {str(index["name"]): index for index in facts.indexes}
    for one in settings.unique:
        if what := unlike(one, there.get(one.name)):
            where = f"collections.{settings.name}.unique.{one.name}"
            advice = (
                "write it as MongoDB has it (db.<collection>.getIndexes()) and load again (backfill --again), or make it "
                "in MongoDB as it is here"
            )
            yield Problem(where=where, what=what, suggestion=advice)


def not_kept(settings: CollectionSettings, waived: Collection[str], facts: SourceFacts) -> Iterator[Problem]:
    """MongoDB's unique indexes that nothing keeps once DynamoDB leads: no guard, and no table key. `_id` counts only where the
    file names any: others have always taken it for kept."""
    key = table_key_fields(settings.item.key)
    kept = {frozenset(one.fields) for one in settings.unique}
    for unique in dict.fromkeys((*facts.unique, *facts.partly_unique)):
        name = f"{settings.name}.{','.join(sorted(unique))}"
        passed = unique == {"_id"} and not settings.unique
        if passed or key <= unique or unique in kept or name in waived:
            continue
        yield Problem(
            where=name,
            what="is unique in MongoDB, and nothing keeps it so once DynamoDB leads",
            suggestion=f"name the index (collections.{settings.name}.unique), or waive it: cutover.waived_unique: [{name}]",
        )


def _shared_key(where: str, fields: Sequence[str], rest: Sequence[str]) -> Problem:
    """Two documents could have one key, made of `fields`, or with children one partition; `rest` are then those of the SK."""
    named = ", ".join(fields) or "no field"
    if rest:
        what = (
            f"its children live in the partition of their parent, so PK alone must tell documents apart: it is made of {named}, "
            f"and no unique index covers that; {', '.join(rest)} in SK does not help"
        )
        advice = (
            "put {_id} into PK, or create the unique index (full, not partial); or leave the array in its document "
            "(no children): then PK and SK tell documents apart together"
        )
        return Problem(where=where, what=what, suggestion=advice)
    what = f"two documents could have the same key: it is made of {named}, and no unique index covers that"
    advice = "create the unique index (full, not partial), or put {_id} into the key"
    return Problem(where=where, what=what, suggestion=advice)
