"""Documents are measured as their table holds them: an index that projects less holds less."""

from __future__ import annotations

import json

from docferry.config import parse_migration
from docferry.flows.cost.measured import measure_collections
from docferry.testing.fakes import FakeSource

TREE = {
    "migration": "films",
    "source": {"database": "films"},
    "tables": {
        "Films": {
            "indexes": {
                "GSI1": None,
                "by-genre": {"key": {"PK": "genre_key"}, "projection": "KEYS_ONLY"},
                "by-title": {"key": {"PK": "title_key"}, "projection": "INCLUDE", "include": ["plot"]},
            }
        }
    },
    "collections": {
        "films": {
            "table": "Films",
            "item": {
                "entity": "FILM",
                "key": {"PK": "FILM#{_id}", "SK": "DATA"},
                "index": {
                    "GSI1": {"PK": "YEAR#{year}", "SK": "FILM#{_id}"},
                    "by-genre": {"PK": "GENRE#{genre}"},
                    "by-title": {"PK": "TITLE#{title}"},
                },
            },
        }
    },
}
FILM = {"genre": "noir", "title": "M", "year": 1931, "plot": "p" * 1_200, "script": "s" * 9_000}


def test_an_index_holds_what_it_projects() -> None:
    migration = parse_migration(json.dumps(TREE).encode())
    source = FakeSource({"films": [{"_id": number, **FILM} for number in range(5)]})
    (films,) = measure_collections(migration, source)
    units = {one.name: (one.put_units, one.versioned) for one in films.indexes}
    assert units == {"GSI1": (11.0, True), "by-genre": (1.0, False), "by-title": (2.0, False)}
    assert films.put_units == 11.0
