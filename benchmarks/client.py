"""The client against the bare pymongo and boto3 calls that it makes, in each mode, on a real mongod and ministack.

Bare is what an expert would write who knows where each call must go, with documents and items made ready beforehand: pymongo's
call, and boto3's with the same keys and conditions. Both take turns, call by call, on documents of their own, so that a slow
moment of the machine hits them alike; the overhead is the ratio of the medians of all rounds. The shop's products, one
item each.

Beside a leading MongoDB reads are compared in a thread, off the application's way, all of them here. It is let finish after each
burst of calls, of which the first ones, after that pause, are not timed: what comparing costs an application that is never idle
depends on the cores, and on DynamoDB, which ministack is not.

Then the calls that the client delegates, and what a unique index costs an insert (`benchmarks.calls`).

BENCH_CALLS (200) and BENCH_ROUNDS (3) change its size. Exit 1 if an overhead is above 15 %, or 5 % of what is delegated;
numbers go to build/bench.json.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import boto3
from docferry import wiring
from docferry.client.transport.sync_driver import run
from docferry.config import Migration, load_migration
from docferry.core.cutover.modes import Mode, ModeState
from docferry.sandbox import SandboxStack
from pymongo import MongoClient
from rich.console import Console
from rich.table import Table

from benchmarks.backfill import record
from benchmarks.bare import CHANGE, Bare, Made, Product, make
from benchmarks.calls import AT_MOST as DELEGATED_AT_MOST
from benchmarks.calls import delegated, guarded, set_mode
from benchmarks.calls import worst as worst_of
from benchmarks.contenders import COLLECTION, SHOP, products

CALLS = int(os.environ.get("BENCH_CALLS", "200"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
WARM = 10
BURST = 22
READ_PASSES = 4
"""Reads are quick, and there the client's share is largest: more of them tell it better."""
AT_MOST = 1.15
MODES = {
    "MONGO_ONLY": ModeState(mode=Mode.MONGO_ONLY),
    "DUAL_WRITE": ModeState(mode=Mode.DUAL_WRITE, percent=100),
    "DYNAMODB_READS": ModeState(mode=Mode.DYNAMODB_READS, percent=100),
    "DYNAMODB_ONLY": ModeState(mode=Mode.DYNAMODB_ONLY),
    "DYNAMODB_ONLY with journal": ModeState(mode=Mode.DYNAMODB_ONLY, journal=True),
}
OPERATIONS = ("insert_one", "find_one by key", "find by access pattern", "update_one $set $inc", "delete_one")


class Client:
    """docferry's client, as an application calls it."""

    def __init__(self, blocking: bool) -> None:
        self._blocking = blocking
        self._manager: Any = wiring.connect(SHOP) if blocking else None

    async def open(self) -> None:
        if not self._blocking:
            self._manager = await wiring.connect_async(SHOP)

    @property
    def _products(self) -> Any:
        return self._manager[COLLECTION]

    async def _wait(self, answer: Any) -> Any:
        return answer if self._blocking else await answer

    async def insert(self, state: ModeState, one: Made) -> None:
        await self._wait(self._products.insert_one(one.document))

    async def find_by_key(self, state: ModeState, one: Made) -> Any:
        return await self._wait(self._products.find_one({"_id": one.document["_id"]}))

    async def find_by_pattern(self, state: ModeState, one: Made) -> Any:
        return await self._wait(self._products.find({"sku": one.document["sku"]}).to_list())

    async def update(self, state: ModeState, one: Made) -> None:
        await self._wait(self._products.update_one({"_id": one.document["_id"]}, CHANGE))

    async def delete(self, state: ModeState, one: Made) -> None:
        await self._wait(self._products.delete_one({"_id": one.document["_id"]}))

    def state(self) -> ModeState:
        found: ModeState = self._manager.parts.membership.state
        return found

    def compared(self) -> int:
        """How many reads have been compared."""
        counts = self._manager.get_metrics()["counts"]
        return sum(number for name, number in counts.items() if name.startswith("shadow."))

    async def close(self) -> None:
        await self._wait(self._manager.close())


# --- measuring -------------------------------------------------------------------------------------------------------

Call = Callable[[ModeState, Made], Awaitable[Any]]


@dataclass(slots=True)
class Times:
    """Seconds of each call, of both."""

    client: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Bench:
    """Both contenders, blocking or in one event loop."""

    migration: Migration
    client: Client
    bare: Bare
    reads: int = 0

    def calls(self) -> Mapping[str, tuple[Call, Call]]:
        client, bare = self.client, self.bare
        return {
            "insert_one": (client.insert, bare.insert),
            "find_one by key": (client.find_by_key, bare.find_by_key),
            "find by access pattern": (client.find_by_pattern, bare.find_by_pattern),
            "update_one $set $inc": (client.update, bare.update),
            "delete_one": (client.delete, bare.delete),
        }

    async def round(self, mode: str, source: Iterator[Product]) -> dict[str, Times]:
        """Every operation on products of this round: inserted, read, changed, deleted, in this order."""
        state, mapping = MODES[mode], self.migration.mapping(COLLECTION)
        mine = [make(mapping, next(source)) for _ in range(CALLS + WARM)]
        its = [make(mapping, next(source)) for _ in range(CALLS + WARM)]
        found: dict[str, Times] = {}
        for name, calls in self.calls().items():
            passes = READ_PASSES if "find" in name else 1
            found[name] = await self._pairs(state, calls, mine * passes, its * passes)
        return found

    async def _pairs(
        self, state: ModeState, calls: tuple[Call, Call], mine: Sequence[Made], its: Sequence[Made]
    ) -> Times:
        times, (client, bare) = Times(), calls
        for number, (one, other) in enumerate(zip(mine, its, strict=True)):
            if number % 2:
                for_bare = await self._timed(bare, state, other)
                for_client = await self._timed(client, state, one)
            else:
                for_client = await self._timed(client, state, one)
                for_bare = await self._timed(bare, state, other)
            if number >= WARM and number % BURST > 1:
                times.client.append(for_client)
                times.bare.append(for_bare)
            if state.percent and client in (self.client.find_by_key, self.client.find_by_pattern):
                self.reads += 1
                if number % BURST == BURST - 1:
                    self._let_compare()
        return times

    def _let_compare(self) -> None:
        while self.client.compared() < self.reads:
            time.sleep(0.0005)

    async def _timed(self, call: Call, state: ModeState, one: Made) -> float:
        began = time.perf_counter()
        await call(state, one)
        return time.perf_counter() - began


async def measure(
    blocking: bool, env: Mapping[str, str], source: Iterator[Product], console: Console
) -> dict[str, dict[str, list[Times]]]:
    """mode -> operation -> the times of each round."""
    migration = load_migration(SHOP)
    bench = Bench(migration, Client(blocking), Bare(env["DOCFERRY_APP_MONGO_URI"], migration, blocking))
    await bench.client.open()
    found: dict[str, dict[str, list[Times]]] = {mode: {name: [] for name in OPERATIONS} for mode in MODES}
    for number in range(ROUNDS):
        for mode, state in MODES.items():
            epoch = set_mode(migration, state)
            while bench.client.state().epoch != epoch:
                time.sleep(0.05)  # noqa: ASYNC251
            for name, times in (await bench.round(mode, source)).items():
                found[mode][name].append(times)
        console.print(f"{_kind(blocking)}: round {number + 1} of {ROUNDS}")
    await bench.client.close()
    await bench.bare.close()
    without, with_entry = (statistics.mean(bench.bare.units[one]) for one in (False, True))
    console.print(
        f"write units of a write while DynamoDB leads: {without:.2f}, with its entry in the journal {with_entry:.2f}"
    )
    return found


def _kind(blocking: bool) -> str:
    return "synchronous" if blocking else "asynchronous"


# --- showing ---------------------------------------------------------------------------------------------------------


def summary(rounds: Sequence[Times]) -> dict[str, float]:
    """Milliseconds of all rounds together: a round alone says little of writes, which wait for the disk."""
    client, bare = (sorted(1000 * one for times in rounds for one in getattr(times, who)) for who in ("client", "bare"))
    return {
        "p50_ms": statistics.median(client),
        "p95_ms": client[int(len(client) * 0.95)],
        "bare_p50_ms": statistics.median(bare),
        "bare_p95_ms": bare[int(len(bare) * 0.95)],
        "ratio": statistics.median(client) / statistics.median(bare),
    }


def show(kind: str, found: Mapping[str, Mapping[str, Mapping[str, float]]], console: Console) -> None:
    table = Table("mode", "operation", "p50", "p95", "bare p50", "bare p95", "overhead", title=f"{kind} client, ms")
    for mode, operations in found.items():
        for name, one in operations.items():
            numbers = [f"{one[key]:.2f}" for key in ("p50_ms", "p95_ms", "bare_p50_ms", "bare_p95_ms")]
            table.add_row(mode, name, *numbers, f"{100 * (one['ratio'] - 1):+.0f} %")
        table.add_section()
    console.print(table)
    for name in OPERATIONS:
        if "find" not in name:
            alone, dual = (found[mode][name]["p50_ms"] for mode in ("MONGO_ONLY", "DUAL_WRITE"))
            console.print(f"a dual write adds to {name}: {dual - alone:.2f} ms ({alone:.2f} -> {dual:.2f}, p50)")
            leads, proved = found["DYNAMODB_ONLY"][name], found["DYNAMODB_ONLY with journal"][name]
            told = ", ".join(f"{key[:3]} {leads[key]:.2f} -> {proved[key]:.2f}" for key in ("p50_ms", "p95_ms"))
            console.print(f"while DynamoDB leads, the journal makes of {name}: {told} ms")


def make_tables(migration: Migration) -> None:
    """Bare tables with the file's indexes: what the client needs and no more."""
    client, keys = boto3.client("dynamodb"), {"PK": "HASH", "SK": "RANGE"}
    ledger = migration.ledger.table
    made = client.list_tables()["TableNames"]
    for name, indexes in (
        (migration.tables[0].name, migration.tables[0].indexes),
        (ledger, ()),
        (migration.ledger.journal_table, ()),
    ):
        if name in made:
            continue
        names = [*keys, *(f"{index}{part}" for index in indexes for part in keys)]
        more = [
            {
                "IndexName": index,
                "KeySchema": [{"AttributeName": index + part, "KeyType": kind} for part, kind in keys.items()],
                "Projection": {"ProjectionType": "ALL"},
            }
            for index in indexes
        ]
        client.create_table(
            TableName=name,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": part, "KeyType": kind} for part, kind in keys.items()],
            AttributeDefinitions=[{"AttributeName": one, "AttributeType": "S"} for one in names],
            **({"GlobalSecondaryIndexes": more} if more else {}),
        )


def main() -> int:
    console = Console()
    found: dict[str, Any] = {}
    with SandboxStack() as stack:
        env = stack.env()
        os.environ.update({**env, "DOCFERRY_MONGO_URI": env["DOCFERRY_APP_MONGO_URI"]})
        migration = load_migration(SHOP)
        make_tables(migration)
        with MongoClient[Any](env["DOCFERRY_MONGO_URI"]) as mongo:
            mongo[migration.source.database][COLLECTION].create_index("sku", unique=True)
        made = products(2 * 2 * len(MODES) * ROUNDS * (CALLS + WARM) + 2 * (ROUNDS * CALLS + WARM))
        for blocking in (True, False):
            work = measure(blocking, env, made, console)
            measured = run(work) if blocking else asyncio.run(work)
            found[_kind(blocking)] = {
                mode: {name: summary(rounds) for name, rounds in operations.items()}
                for mode, operations in measured.items()
            }
            show(_kind(blocking), found[_kind(blocking)], console)
        calls = {"delegated": delegated(env["DOCFERRY_APP_MONGO_URI"], console)}
        calls["guarded"] = {"insert_one": guarded(made, make_tables, console)}
    worst = max(
        (one["ratio"], f"{kind}, {mode}, {name}")
        for kind, modes in found.items()
        for mode, operations in modes.items()
        for name, one in operations.items()
    )
    kept = worst[0] <= AT_MOST
    percent = (
        f"{100 * (AT_MOST - 1):.0f} % over the calls that it makes: {100 * (worst[0] - 1):+.0f} % at most ({worst[1]})"
    )
    console.print(f"{'kept  ' if kept else 'BROKEN'} at most {percent}")
    most, call = worst_of(calls["delegated"])
    quick = most <= DELEGATED_AT_MOST
    percent = f"{100 * (DELEGATED_AT_MOST - 1):.0f} % over pymongo's own: {100 * (most - 1):+.1f} % at most ({call})"
    console.print(f"{'kept  ' if quick else 'BROKEN'} what is delegated takes at most {percent}")
    record("client", found | calls, kept and quick)
    return 0 if kept and quick else 1


if __name__ == "__main__":
    sys.exit(main())
