"""What the client adds to pymongo's own calls that it delegates, and what a unique index costs an insert once DynamoDB leads.

Part of `benchmarks.client`. Delegated calls are the blocking ones of a leading MongoDB, beside the same calls of a bare pymongo
with the same write concern, in turns. A guarded insert writes a document and the guard of one unique index in one transaction,
beside the insert of such a document into such a table by a file that waives the index.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from docferry import wiring
from docferry.config import Migration, load_migration
from docferry.core.cutover.modes import MODE, Mode, ModeState
from docferry.core.versions import snapshot_version
from pymongo import MongoClient, UpdateOne, WriteConcern
from rich.console import Console

from benchmarks.contenders import COLLECTION, SHOP

CALLS = int(os.environ.get("BENCH_CALLS", "200"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
WARM = 10
PASSES = 4
"""Delegated calls are quick: more of them tell the client's share better."""
AT_MOST = 1.05
CATEGORIES = 20
Product = Mapping[str, Any]
Call = Callable[[Any, int], Any]

DELEGATED: Mapping[str, Call] = {
    "aggregate": lambda them, at: list(
        them.aggregate([{"$match": {"n": at % CATEGORIES}}, {"$group": {"_id": "$n", "sum": {"$sum": "$m"}}}])
    ),
    "distinct": lambda them, at: them.distinct("m", {"n": at % CATEGORIES}),
    "update_many": lambda them, at: them.update_many({"n": at % CATEGORIES}, {"$inc": {"m": 1}}),
    "bulk_write": lambda them, at: them.bulk_write([UpdateOne({"_id": at % CATEGORIES}, {"$inc": {"m": 1}})]),
    "find_one_and_replace": lambda them, at: them.find_one_and_replace({"_id": at % CATEGORIES}, {"n": at % 7, "m": 1}),
}


def set_mode(migration: Migration, state: ModeState) -> int:
    """Write the mode, as a flow does. Gives its epoch."""
    connections = wiring.connections_from_environment(migration)
    ledger = connections.ledger(migration)
    before = ledger.read(*MODE)
    epoch = int(before.body["epoch"]) + 1 if before else 1
    leads = state.mode.dynamodb_leads
    floor = snapshot_version(connections.source(migration).cluster_time()) if leads else 0
    ledger.write(*MODE, replace(state, epoch=epoch, floor=floor).to_body(), expect=before)
    return epoch


def wait_for(manager: Any, epoch: int) -> None:
    while manager.parts.membership.state.epoch != epoch:
        time.sleep(0.05)


@dataclass(slots=True)
class Pair:
    """Seconds of each call, of one and of the other, which take turns."""

    one: list[float] = field(default_factory=list)
    other: list[float] = field(default_factory=list)

    def turn(self, number: int, one: Callable[[], Any], other: Callable[[], Any]) -> None:
        both = [(one, self.one), (other, self.other)]
        for call, times in both if number % 2 else reversed(both):
            began = time.perf_counter()
            call()
            if number >= WARM:
                times.append(time.perf_counter() - began)

    def numbers(self) -> dict[str, float]:
        """Milliseconds."""
        one, other = (sorted(1000 * value for value in times) for times in (self.one, self.other))
        return {
            "p50_ms": statistics.median(one),
            "p95_ms": one[int(len(one) * 0.95)],
            "bare_p50_ms": statistics.median(other),
            "bare_p95_ms": other[int(len(other) * 0.95)],
            "ratio": statistics.median(one) / statistics.median(other),
        }


def delegated(uri: str, console: Console) -> dict[str, dict[str, float]]:
    """call -> its numbers, of MONGO_ONLY and DUAL_WRITE together: the client does the same in both."""
    migration, pairs = load_migration(SHOP), {name: Pair() for name in DELEGATED}
    with wiring.connect(SHOP) as manager, MongoClient[Any](uri) as client:
        ours = manager["categories"]
        theirs = client[migration.source.database].get_collection("plain", write_concern=WriteConcern("majority"))
        for them in (client[migration.source.database]["categories"], theirs):
            them.insert_many([{"_id": at, "n": at, "m": at} for at in range(CATEGORIES)])
        for number in range(ROUNDS):
            wait_for(manager, set_mode(migration, ModeState(mode=(Mode.MONGO_ONLY, Mode.DUAL_WRITE)[number % 2])))
            for name, call in DELEGATED.items():
                for at in range(CALLS * PASSES + WARM):
                    pairs[name].turn(at, lambda: call(ours, at), lambda: call(theirs, at))  # noqa: B023
    found = {name: pair.numbers() for name, pair in pairs.items()}
    for name, one in found.items():
        console.print(
            f"delegated {name}: {one['p50_ms']:.2f} ms, pymongo's own {one['bare_p50_ms']:.2f} ms (p50): "
            f"{100 * (one['ratio'] - 1):+.1f} %"
        )
    return found


def guarded_file(directory: Path) -> Path:
    """The shop's file with the index on `sku` kept, in tables of its own."""
    text = SHOP.read_text()
    for old, new in (
        ("migration: shop", "migration: guarded"),
        ("  Shop:\n", "  Guarded:\n"),
        ("table: Shop", "table: Guarded"),
        ("  products:\n", "  products:\n    unique: {sku_1: [sku]}\n"),
    ):
        if old not in text:
            raise ValueError(f"{SHOP} says {old!r} no more")
        text = text.replace(old, new)
    path = directory / "guarded.yaml"
    path.write_text(text)
    return path


def guarded(source: Iterator[Product], make_tables: Callable[[Migration], None], console: Console) -> dict[str, float]:
    """What inserts with a guard take, beside those without."""
    pair, state = Pair(), ModeState(mode=Mode.DYNAMODB_ONLY, journal=True)
    with tempfile.TemporaryDirectory() as directory:
        kept = guarded_file(Path(directory))
        make_tables(load_migration(kept))
        with wiring.connect(kept) as with_guard, wiring.connect(SHOP) as without:
            for manager, file in ((with_guard, kept), (without, SHOP)):
                wait_for(manager, set_mode(load_migration(file), state))
            for number in range(ROUNDS * CALLS + WARM):
                one, other = dict(next(source)), dict(next(source))
                pair.turn(
                    number,
                    lambda: with_guard[COLLECTION].insert_one(one),  # noqa: B023
                    lambda: without[COLLECTION].insert_one(other),  # noqa: B023
                )
    found = pair.numbers()
    told = ", ".join(
        f"{name} {found[name + '_ms'] - found[f'bare_{name}_ms']:.2f} ms "
        f"({found[f'bare_{name}_ms']:.2f} -> {found[name + '_ms']:.2f})"
        for name in ("p50", "p95")
    )
    console.print(f"while DynamoDB leads, a unique index adds to insert_one: {told}")
    return found


def worst(found: Mapping[str, Mapping[str, float]]) -> tuple[float, str]:
    return max((one["ratio"], name) for name, one in found.items())
