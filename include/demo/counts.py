"""What is in both databases, and what happened to MongoDB, counted with pymongo and boto3 alone: docferry counts nothing here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import boto3
from bson.timestamp import Timestamp
from docferry.config import Migration
from docferry.rehearsal.independent.aftermath import compare_guards, compare_indexes
from docferry.rehearsal.independent.history import HistoryVerdict
from docferry.rehearsal.independent.judge import scan_table
from pymongo import MongoClient

EVENTS_A_BATCH = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamCounts:
    """The change events of the mapped collections since the beginning.

    `after_position` are those behind the position that was recorded before the backfill; `by_phase` has all of them.
    """

    events: int
    after_position: int
    by_phase: Mapping[str, int]


def now_in(uri: str) -> Timestamp:
    """MongoDB's time."""
    with MongoClient[dict[str, Any]](uri) as client:
        time: Timestamp = client.admin.command("ping")["operationTime"]
        return time


def count_documents(uri: str, migration: Migration) -> dict[str, int]:
    """Documents of each collection, each looked at."""
    with MongoClient[dict[str, Any]](uri) as client:
        database = client[migration.source.database]
        return {name: database[name].count_documents({}) for name in migration.mappings}


def count_items(migration: Migration) -> Counter[str]:
    """Items by collection, tombstones left out; '' for those whose entity type no collection has."""
    client = boto3.Session(region_name=migration.target.region).client("dynamodb")
    found: Counter[str] = Counter()
    for table in migration.tables:
        owners = {entity: one.collection for entity, one in migration.kinds(table.name).items()}
        for page in client.get_paginator("scan").paginate(
            TableName=table.name, ProjectionExpression="entityType, #d", ConsistentRead=True,
            ExpressionAttributeNames={"#d": "_deleted"},
        ):  # fmt: skip
            alive = [item for item in page["Items"] if "_deleted" not in item]
            found.update(owners.get(item.get("entityType", {}).get("S", ""), "") for item in alive)
    return found


def unique_problems(uri: str, migration: Migration) -> list[str]:
    """What is wrong with the shop's unique values in either database, at rest."""
    verdict = HistoryVerdict()
    dynamodb = boto3.Session(region_name=migration.target.region).client("dynamodb")
    compare_guards(verdict, scan_table(dynamodb, migration.mappings["users"].table))
    with MongoClient[dict[str, Any]](uri) as client:
        compare_indexes(verdict, client[migration.source.database])
    return [*verdict.lost, *verdict.resurrected]


def count_events(
    uri: str, migration: Migration, phases: Sequence[tuple[str, Timestamp]], until: Timestamp, position: str
) -> StreamCounts:
    """Read the change stream once more, up to a time at which no process writes any longer.

    `phases` are names with the times at which they began, in order; `position` is a resume token's `_data`: tokens are in
    order as text.
    """
    pipeline: list[dict[str, Any]] = [
        {"$match": {"ns.coll": {"$in": list(migration.mappings)}}},
        {"$project": {"clusterTime": 1}},
    ]
    began = phases[0][1]
    behind, by_phase = 0, Counter({name: 0 for name, _ in phases})
    with (
        MongoClient[dict[str, Any]](uri) as client,
        client[migration.source.database].watch(
            pipeline,
            start_at_operation_time=Timestamp(began.time, began.inc + 1),
            batch_size=EVENTS_A_BATCH,
            max_await_time_ms=200,
        ) as stream,
    ):
        while True:
            event = stream.try_next()
            if event is None:
                if stream.resume_token is not None and _time_of(stream.resume_token["_data"]) >= until:
                    break
                continue
            if event["clusterTime"] > until:
                break
            behind += event["_id"]["_data"] > position
            by_phase[_phase_of(phases, event["clusterTime"])] += 1
    return StreamCounts(events=by_phase.total(), after_position=behind, by_phase=dict(by_phase))


def _time_of(token: str) -> Timestamp:
    """A resume token begins with 82, and then the time."""
    return Timestamp(int(token[2:10], 16), int(token[10:18], 16))


def _phase_of(phases: Sequence[tuple[str, Timestamp]], time: Timestamp) -> str:
    return next((name for name, began in reversed(phases) if time > began), phases[0][0])
