"""What the ledger holds of a large migration: forty collections, of which one is being loaded, and thirty days of history."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import yaml
from docferry.config import Migration, load_migration
from docferry.core.cutover.modes import MODE, Mode, ModeState
from docferry.flows.ledger.load_headers import COMPLETE, Chunk, Counts, LoadHeader, LoadHeaders, create_chunk
from docferry.flows.ledger.rooms.history import COARSE_POINTS, COARSE_S, FINE_POINTS, FINE_S, HISTORY, Series

from support.backfill.rig import Rig

COLLECTIONS, CHUNKS = 40, 5_000
LOADING = "c00"
EACH = CHUNKS // COLLECTIONS
"""Chunks of a collection."""
NOW_S = 1_780_000_200


def large_migration(directory: Path, name: str, table: str) -> Migration:
    """`table` is the tests' own, for all of its migrations; their ledger's name begins with it."""
    tree = {
        "migration": name,
        "source": {"database": name},
        "tables": {table: {}},
        "ledger": {"table": f"{table}Ledger"},
        "collections": {f"c{number:02d}": {} for number in range(COLLECTIONS)},
    }
    file = directory / f"{name}.yaml"
    file.write_text(yaml.safe_dump(tree))
    return load_migration(file)


def fill_room(rig: Rig) -> None:
    """In DUAL_WRITE: as long as no mode is recorded, the moves are asked whether one is lost."""
    rig.ledger.write(*MODE, ModeState(mode=Mode.DUAL_WRITE, epoch=1).to_body(), expect=None)
    headers = LoadHeaders(rig.ledger)
    header = LoadHeader(collection="", mapping="f1-x", started_ms=1_000, finished_ms=3_000, chunks=EACH)
    for name in rig.migration.mappings:
        counts = Counts(read=10, written=10, items=30)
        loaded = replace(header, collection=name, state=COMPLETE, counts=counts)
        headers.write(replace(header, collection=name) if name == LOADING else loaded)
    full = {
        "fine": [[NOW_S + FINE_S * number, 5, 86_400] for number in range(FINE_POINTS)],
        "coarse": [[NOW_S + COARSE_S * number, 5, 86_400] for number in range(COARSE_POINTS)],
    }
    for series in (Series.FORWARD, Series.REVERSE, Series.SPENT):
        rig.ledger.write(HISTORY, series, full, expect=None)


def add_chunks(rig: Rig, numbers: Iterable[int]) -> None:
    """The first EACH of them are of LOADING."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda one: create_chunk(rig.ledger, f"c{one // EACH:02d}", Chunk(key=f"{one:05d}")), numbers))
