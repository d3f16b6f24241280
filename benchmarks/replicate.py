"""docferry's replication against a loop over the change stream with one put_item or delete_item an event.

Same events from the same mongod (inserts, updates and deletes of products), same server that answers at once. The loop is the
plainest that people write: pymongo's `watch`, boto3's table, no versions, no conditions. Docferry's is the real one: full codec,
conditional puts, tombstones, positions. The server reads key and version of each conditional put: those of one item must
come in order. Each contender is a process of its own, and each round runs both.

BENCH_ROUNDS (3) and BENCH_EVENTS (100,000) change its size. Exit 1 if the promise is not kept; numbers go to build/bench.json.
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

import boto3
import bson
import uvloop
from docferry import wiring
from docferry.adapters.aws.dynamodb import DynamoTarget
from docferry.adapters.aws.dynamodb_http import DynamoHttp
from docferry.adapters.mongodb.source import MongoSource
from docferry.config import load_migration
from docferry.flows.ledger.load_headers import BULK
from docferry.flows.ledger.mapping_fingerprint import fingerprint_of
from docferry.flows.ledger.positions import position_body, position_in
from docferry.flows.replicate.follower import replicate
from docferry.flows.replicate.report import ReplicationReport
from docferry.ports.flows import StreamPosition
from docferry.sandbox import SandboxStack
from docferry.testing.jobs import make_job
from pymongo import DeleteOne, InsertOne, MongoClient, UpdateOne
from rich.console import Console
from rich.table import Table

from benchmarks.backfill import record
from benchmarks.contenders import COLLECTION, SHOP, MemoryLedger, Quiet, Run, peak_bytes, products, simple_item
from benchmarks.server import Server, running_server

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
EVENTS = int(os.environ.get("BENCH_EVENTS", "100000"))
LOOPED = 2_000
BATCH = 1_000
AT_LEAST = 5.0
DATABASE = "followed"
POSITION = "BENCH_POSITION"
MIB = 1024 * 1024


# --- events ----------------------------------------------------------------------------------------------------------


def make_events(uri: str) -> None:
    """EVENTS changes: each product is inserted, updated twice, and some are deleted."""
    with MongoClient[Any](uri, w="majority") as client:
        collection = client[DATABASE][COLLECTION]
        source, left = products(EVENTS), EVENTS
        while left:
            operations = _operations(list(islice(source, BATCH)))[:left]
            collection.bulk_write(operations, ordered=True)
            left -= len(operations)


def _operations(documents: Sequence[Mapping[str, Any]]) -> list[Any]:
    """By kind: each kind is one command to the server."""
    keys = [{"_id": document["_id"]} for document in documents]
    return [
        *(InsertOne(document) for document in documents),
        *(UpdateOne(key, {"$inc": {"stock": 1}, "$set": {"attributes.colour": "grey"}}) for key in keys),
        *(UpdateOne(key, {"$push": {"tags": "seen"}}) for key in keys),
        *(DeleteOne(key) for key in keys[::5]),
    ]


# --- contenders ------------------------------------------------------------------------------------------------------


def _position() -> StreamPosition:
    return position_in(bson.decode(bytes.fromhex(os.environ[POSITION])))


def loop(uri: str, limit: int) -> Run:
    """watch, and one put_item or delete_item an event."""
    source = MongoClient[Any](uri)[DATABASE]
    table = boto3.resource("dynamodb").Table("Shop")

    def run() -> int:
        with source.watch(resume_after=_position().token, full_document="whenAvailable") as stream:
            for event in islice(stream, limit):
                if event["operationType"] == "delete":
                    table.delete_item(Key={"PK": f"PRODUCT#{event['documentKey']['_id']}", "SK": "METADATA"})
                else:
                    table.put_item(Item=simple_item(event["fullDocument"]))
        return limit

    return run


def following(uri: str, limit: int) -> Run:
    """The replication as it is, from the recorded position to the end."""
    migration = load_migration(SHOP)
    migration = dataclasses.replace(
        migration,
        collections=tuple(one for one in migration.collections if one.name == COLLECTION),
        backfill=dataclasses.replace(migration.backfill, budget_wcu=0),
    )
    ledger = MemoryLedger()
    loaded = {"state": "complete", "mode": BULK, "mapping": fingerprint_of(migration.mapping(COLLECTION).settings)}
    ledger.write("backfill", COLLECTION, loaded, expect=None)
    ledger.write("position", "stream", position_body(_position()), expect=None)
    job = make_job(
        migration=migration,
        source=MongoSource(uri, DATABASE),
        ledger=ledger,
        identity=wiring.who(),
        progress=Quiet(),
        stop=threading.Event(),
    )
    target = DynamoTarget(DynamoHttp(boto3.Session()), migration.backfill.concurrency)

    async def follow() -> ReplicationReport:
        try:
            return await replicate(job, target, until=job.source.cluster_time())
        finally:
            await target.close()

    def run() -> int:
        report = uvloop.run(follow())
        if report.events != report.written or report.events != limit:
            raise ValueError(f"{report} of {limit} events")
        return report.events

    return run


CONTENDERS: Mapping[str, Callable[[str, int], Run]] = {"watch + put_item": loop, "docferry": following}


def contend(name: str, limit: int) -> None:
    """What the child process does: prints events and seconds as JSON."""
    run = CONTENDERS[name](os.environ["DOCFERRY_MONGO_URI"], limit)
    started, cpu = time.perf_counter(), time.process_time()
    events = run()
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    print(json.dumps({"events": events, "seconds": seconds, "cpu_seconds": cpu, "peak_bytes": peak_bytes()}))


# --- measuring -------------------------------------------------------------------------------------------------------


def run(name: str, limit: int, env: Mapping[str, str], server: Server) -> dict[str, Any]:
    """One contender in a process of its own; its rate, and whether the server got all of it in order."""
    server.reset()
    words = [sys.executable, "-m", "benchmarks.replicate", name, str(limit)]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, env={**os.environ, **env}, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    stats = server.stats()
    if stats["requests"] != limit or stats["disordered"]:
        raise SystemExit(f"{name}: {limit} events, but the server saw {stats}")
    return {**result, "rate": result["events"] / result["seconds"], "server": stats}


def prepare(uri: str) -> str:
    """An empty collection with images, the position before the first event, and the events. The position as text."""
    with MongoClient[Any](uri) as client:
        client[DATABASE].create_collection(COLLECTION, changeStreamPreAndPostImages={"enabled": True})
        client[DATABASE][COLLECTION].create_index("sku", unique=True)
    source = MongoSource(uri, DATABASE)
    try:
        position = bson.encode(position_body(source.stream_position())).hex()
    finally:
        source.close()
    make_events(uri)
    return position


def main() -> int:
    console = Console()
    with SandboxStack() as stack, running_server() as server:
        env = {**stack.env(), "AWS_ENDPOINT_URL_DYNAMODB": server.url, "PYTHONHASHSEED": "0"}
        console.print(f"making {EVENTS:,} change events in MongoDB")
        env[POSITION] = prepare(env["DOCFERRY_MONGO_URI"])
        sizes = {"watch + put_item": min(LOOPED, EVENTS), "docferry": EVENTS}
        rounds: list[dict[str, dict[str, Any]]] = []
        for number in range(ROUNDS):
            rounds.append({name: run(name, sizes[name], env, server) for name in CONTENDERS})
            text = ", ".join(f"{name} {one['rate']:,.0f}/s" for name, one in rounds[-1].items())
            console.print(f"round {number + 1} of {ROUNDS}: {text}")
    rates = {name: statistics.median(one[name]["rate"] for one in rounds) for name in CONTENDERS}
    ratio = statistics.median(one["docferry"]["rate"] / one["watch + put_item"]["rate"] for one in rounds)
    table = Table("contender", "events/s")
    for name, rate in rates.items():
        table.add_row(name, f"{rate:,.0f}")
    console.print(table)
    peak = rounds[-1]["docferry"]["peak_bytes"]
    console.print(f"{'kept  ' if ratio >= AT_LEAST else 'BROKEN'} at least {AT_LEAST:.0f} times the loop: {ratio:.1f}")
    console.print(f"order kept for each item; docferry's memory peaked at {peak / MIB:.0f} MB")
    record("replicate", {"events": EVENTS, "rates": rates, "ratio": ratio, "peak_bytes": peak}, ratio >= AT_LEAST)
    return 0 if ratio >= AT_LEAST else 1


if __name__ == "__main__":
    if len(sys.argv) > 1:
        contend(sys.argv[1], int(sys.argv[2]))
    else:
        sys.exit(main())
