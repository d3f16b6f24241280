"""Three tables that somebody else has designed: other key names, numbers as sort keys, none, sparse and narrow indexes."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from docferry.config import parse_migration
from docferry.flows.fence.marker import mark_leader
from docferry.flows.provision.run import Patience, provision
from docferry.flows.reverse.follower import record_stream_start
from docferry.wiring import desired

from support.backfill.rig import Quiet, Rig
from support.client.rig import MODES, set_mode
from support.reverse.application import job_of
from support.reverse.rig import dynamodb_leads

RATINGS: tuple[Any, ...] = (10.0, 9.6, Decimal128("9.55"), 9, Int64(10**12), 0.5, -1.25, Decimal128("1E+3"), 0)


def tree(mark: str) -> dict[str, Any]:
    """The file without what each test has for itself. Films: a numeric sort key; people: no sort key; threads: children."""
    films, people, threads = f"Films{mark}", f"People{mark}", f"Threads{mark}"
    return {
        "migration": "films",
        "tables": {
            films: {
                "key": {"PK": "pk", "SK": {"name": "sk", "type": "N"}},
                "indexes": {
                    "by_genre": {
                        "key": {"PK": "genre_key", "SK": {"name": "score", "type": "N"}},
                        "projection": "KEYS_ONLY",
                    },
                    "by-title": {"key": {"PK": "title_key"}, "projection": "INCLUDE", "include": ["title", "year"]},
                    "GSI1": None,
                    "GSI2": None,
                },
            },
            people: {"key": {"PK": "person"}},
            threads: {"key": {"PK": "thread", "SK": "part"}},
        },
        "collections": {
            "films": {
                "table": films,
                "item": {
                    "entity": "FILM",
                    "key": {"PK": "STUDIO#{studio}", "SK": "{number}"},
                    "index": {
                        "by_genre": {"PK": "GENRE#{genre}", "SK": "{imdb.rating:-number}"},
                        "by-title": {"PK": "TITLE#{title}", "when": {"kept": True}},
                        "GSI2": {
                            "PK": "LANG#{lang}#{_id:shard(3)}",
                            "SK": "YEAR#{year:-number}",
                            "when": {"gone": {"exists": False}, "kind": ["film", "short"]},
                        },
                        "GSI1": {"PK": "COUNTRY#{country}", "SK": "RATING#{imdb.rating:number}"},
                    },
                    "types": {"zip": "string", "number": "long"},
                },
            },
            "people": {"table": people, "item": {"entity": "PERSON", "key": {"PK": "{email}"}}},
            "threads": {
                "table": threads,
                "item": {"entity": "THREAD", "key": {"PK": "T#{_id}", "SK": "ROOT"}},
                "children": {"posts": {"entity": "POST", "key": {"SK": "POST#{votes:-number}#{index:d}"}}},
            },
            "reviews": {
                "table": threads,
                "item": {"entity": "REVIEW", "key": {"PK": "T#{thread}", "SK": "REVIEW#{stars:-number}#{_id}"}},
            },
        },
        "access_patterns": {
            "reviews_of_thread": {"collection": "reviews", "PK": "T#{thread}"},
            "films_of_genre": {"collection": "films", "index": "by_genre", "PK": "GENRE#{genre}"},
            "film_by_title": {"collection": "films", "index": "by-title", "PK": "TITLE#{title}"},
            "films_of_country": {"collection": "films", "index": "GSI1", "PK": "COUNTRY#{country}"},
            "film": {"collection": "films", "PK": "STUDIO#{studio}", "SK": "{number}"},
            "films_of_studio": {"collection": "films", "PK": "STUDIO#{studio}"},
            "films_in_language": {"collection": "films", "index": "GSI2", "PK": "LANG#{lang}"},
            "person": {"collection": "people", "PK": "{email}"},
        },
        "validate": {"settle_s": 0.5},
        "backfill": {"dead_letter_share": 0.6, "budget_wcu": 0},
        "ledger": {"table": f"Ledger{mark}"},
    }


def film(number: int, **more: Any) -> dict[str, Any]:
    """The key is the studio and its own number; ratings are numbers of all types."""
    return {
        "_id": number, "studio": f"s{number % 3}", "number": Int64(number), "title": f"Film {number}", "year": 1990 + number,
        "genre": "noir" if number % 2 else "western", "country": "fr", "lang": "fr",
        "kind": "film" if number % 4 else "short", "kept": number < 5, "pk": "a field of this name",
        "imdb": {"rating": RATINGS[number % len(RATINGS)]}, "seen": datetime(2024, 1, 1 + number % 28),
    } | more  # fmt: skip


def person(number: int, **more: Any) -> dict[str, Any]:
    return {"_id": f"p{number}", "email": f"p{number}@example.com", "person": number} | more


def review(number: int, **more: Any) -> dict[str, Any]:
    """In the partition of its thread, which is another document's."""
    return {"_id": f"r{number}", "thread": number % 3, "stars": RATINGS[number % len(RATINGS)]} | more


def thread(number: int, **more: Any) -> dict[str, Any]:
    posts = [{"votes": votes, "text": f"post {votes}"} for votes in (2, 10, 9.5, Decimal128("-1"))]
    return {"_id": number, "topic": f"topic {number}", "posts": posts} | more


MAKERS = {"films": film, "people": person, "threads": thread, "reviews": review}


def films_rig(env: Mapping[str, str], directory: Path, documents: int = 9) -> Rig:
    """Provisioned as `provision` does, with documents in MongoDB, and nothing loaded."""
    mark = uuid.uuid4().hex[:8]
    file = directory / f"films{mark}.yaml"
    file.write_text(yaml.safe_dump(tree(mark) | {"source": {"database": f"films{mark}"}}, sort_keys=False))
    rig = Rig(dict(env), file, parse_migration(file.read_bytes(), str(file)))
    patience = Patience(poll_s=0.05, settle_s=20, agree_s=1, trouble_s=1)
    provision(desired(rig.migration), rig.estate(), progress=Quiet(), stop=threading.Event(), patience=patience)
    for name, make in MAKERS.items():
        rig.database.create_collection(name, changeStreamPreAndPostImages={"enabled": True})
        rig.database[name].insert_many([make(number) for number in range(documents)])
    rig.database["films"].create_index([("studio", 1), ("number", 1)], unique=True)
    rig.database["people"].create_index("email", unique=True)
    return rig


def leads_from_here(rig: Rig) -> None:
    """DynamoDB leads, and reverse replication begins with what is written next."""
    streams = rig.streams()
    dynamodb_leads(rig.ledger)
    record_stream_start(rig.ledger, streams, [table.name for table in rig.migration.tables])
    set_mode(rig, MODES["DYNAMODB_ONLY"])
    mark_leader(job_of(rig, streams, threading.Event()))


def stored(rig: Rig, table: int) -> list[dict[str, Any]]:
    """All items of one of the file's tables as boto3 sees them, tombstones left out."""
    name = rig.migration.tables[table].name
    pages = rig.dynamodb.get_paginator("scan").paginate(TableName=name, ConsistentRead=True)
    return [item for page in pages for item in page["Items"] if "_deleted" not in item]
