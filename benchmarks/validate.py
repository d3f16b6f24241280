"""docferry's validation against a loop of find and get_item, over the same documents on the same server.

The loop is the plainest check that people write: boto3's client, one get_item a document, a few fields compared, one
direction. Docferry's is the real one: every field and type, both directions. Each contender is a process of its own;
each round runs both. Two servers: one that answers at once, so that the client is what is measured, on which the promise
is kept or broken; and ministack, which is slow and is here to say so.

BENCH_ROUNDS (3), BENCH_VALIDATED (50,000), BENCH_MINISTACK (2,000) change its size. Exit 1 if the promise is not kept;
numbers go to build/bench.json.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import boto3
import uvloop
from docferry import wiring
from docferry.adapters.aws.dynamodb import DynamoTarget
from docferry.adapters.aws.dynamodb_http import DynamoHttp
from docferry.adapters.mongodb.source import MongoSource
from docferry.config import load_migration
from docferry.flows.validate.first_pass import ValidationReport, validate
from docferry.sandbox import SandboxStack
from docferry.testing.jobs import make_job
from pymongo import MongoClient
from rich.console import Console
from rich.table import Table

from benchmarks.backfill import fill, record
from benchmarks.contenders import COLLECTION, SHOP, MemoryLedger, Quiet, Run, docferry, peak_bytes, products
from benchmarks.reading import running_reading_server

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
DOCUMENTS = int(os.environ.get("BENCH_VALIDATED", "50000"))
ON_MINISTACK = int(os.environ.get("BENCH_MINISTACK", "2000"))
LOOPED = 2_000
AT_LEAST = 10.0
AT_ONCE, MINISTACK = "answers at once", "ministack"


# --- contenders ------------------------------------------------------------------------------------------------------


def loop(uri: str, database: str, limit: int) -> Run:
    """find, and get_item for each document."""
    source = MongoClient[Any](uri)[database][COLLECTION]
    client = boto3.client("dynamodb")

    def run() -> int:
        done = 0
        for document in source.find({}).limit(limit):
            key = {"PK": {"S": f"PRODUCT#{document['_id']}"}, "SK": {"S": "METADATA"}}
            item = client.get_item(TableName="Shop", Key=key, ConsistentRead=True).get("Item", {})
            if any(item.get(name) != {"S": document[name]} for name in ("name", "sku", "description")):
                raise ValueError("a difference where there is none")
            done += 1
        return done

    return run


def validation(uri: str, database: str, limit: int) -> Run:
    """The validation as it is: all documents, all items."""
    migration = load_migration(SHOP)
    job = make_job(
        migration=migration,
        source=MongoSource(uri, database),
        ledger=MemoryLedger(),
        identity=wiring.who(),
        progress=Quiet(),
        stop=threading.Event(),
    )
    target = DynamoTarget(DynamoHttp(boto3.Session()), migration.backfill.concurrency)

    async def compare() -> ValidationReport:
        try:
            return await validate(job, target, [COLLECTION])
        finally:
            await target.close()

    def run() -> int:
        report = uvloop.run(compare())
        (result,) = report.collections
        if not report.ok or not result.items == result.documents == limit:
            raise ValueError(report.render())
        return result.documents

    return run


CONTENDERS: Mapping[str, Callable[[str, str, int], Run]] = {"find + get_item": loop, "docferry": validation}


def contend(name: str, database: str, limit: int) -> None:
    """What the child process does: prints documents and seconds as JSON."""
    run = CONTENDERS[name](os.environ["DOCFERRY_MONGO_URI"], database, limit)
    started, cpu = time.perf_counter(), time.process_time()
    documents = run()
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    print(json.dumps({"documents": documents, "seconds": seconds, "cpu_seconds": cpu, "peak_bytes": peak_bytes()}))


# --- measuring -------------------------------------------------------------------------------------------------------


def run(name: str, database: str, limit: int, env: Mapping[str, str]) -> dict[str, Any]:
    words = [sys.executable, "-m", "benchmarks.validate", name, database, str(limit)]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, env={**os.environ, **env}, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return {**result, "rate": result["documents"] / result["seconds"]}


def measure(place: str, database: str, documents: int, env: Mapping[str, str], console: Console) -> dict[str, Any]:
    """Rates of both, and by how much docferry is faster: the median of the rounds' ratios."""
    sizes = {"find + get_item": min(LOOPED, documents), "docferry": documents}
    rounds: list[dict[str, dict[str, Any]]] = []
    for number in range(ROUNDS):
        rounds.append({name: run(name, database, sizes[name], env) for name in CONTENDERS})
        found = ", ".join(f"{name} {one['rate']:,.0f}/s" for name, one in rounds[-1].items())
        console.print(f"{place}, round {number + 1} of {ROUNDS}: {found}")
    rates = {name: statistics.median(one[name]["rate"] for one in rounds) for name in CONTENDERS}
    ratio = statistics.median(one["docferry"]["rate"] / one["find + get_item"]["rate"] for one in rounds)
    last = rounds[-1]["docferry"]
    return {
        "documents": documents,
        "rates": rates,
        "ratio": ratio,
        "cpu_share": last["cpu_seconds"] / last["seconds"],
        "peak_bytes": last["peak_bytes"],
    }


def load(env: Mapping[str, str], database: str) -> None:
    """Put the items there with docferry's own backfill."""
    os.environ.update(env)
    docferry(env["DOCFERRY_MONGO_URI"], database, 0)()


def make_table(env: Mapping[str, str]) -> None:
    boto3.client("dynamodb", endpoint_url=env["AWS_ENDPOINT_URL_DYNAMODB"]).create_table(
        TableName="Shop",
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "PK", "KeyType": "HASH"}, {"AttributeName": "SK", "KeyType": "RANGE"}],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("PK", "SK")],
    )


def show(found: Mapping[str, Mapping[str, Any]], console: Console) -> None:
    table = Table("server", "documents", *CONTENDERS, "docferry is faster by")
    for place, one in found.items():
        rates = [f"{one['rates'][name]:,.0f}/s" for name in CONTENDERS]
        table.add_row(place, f"{one['documents']:,}", *rates, f"{one['ratio']:.1f} times")
    console.print(table)


def main() -> int:
    console = Console()
    with SandboxStack() as stack, running_reading_server() as server:
        uri = stack.env()["DOCFERRY_MONGO_URI"]
        at_once = {**stack.env(), "AWS_ENDPOINT_URL_DYNAMODB": server.url}
        ministack = stack.env()
        os.environ.update(ministack)
        console.print(f"loading {DOCUMENTS:,} and {ON_MINISTACK:,} products")
        fill(uri, "validated", products(DOCUMENTS))
        fill(uri, "few", products(ON_MINISTACK))
        load(at_once, "validated")
        make_table(ministack)
        load(ministack, "few")
        run("docferry", "validated", DOCUMENTS, at_once)  # the server puts its pages together
        found = {
            AT_ONCE: measure(AT_ONCE, "validated", DOCUMENTS, at_once, console),
            MINISTACK: measure(MINISTACK, "few", ON_MINISTACK, ministack, console),
        }
    show(found, console)
    ratio = found[AT_ONCE]["ratio"]
    console.print(
        f"{'kept  ' if ratio >= AT_LEAST else 'BROKEN'} at least {AT_LEAST:.0f} times find + get_item: {ratio:.1f}"
    )
    record("validate", found, ratio >= AT_LEAST)
    return 0 if ratio >= AT_LEAST else 1


if __name__ == "__main__":
    if len(sys.argv) > 1:
        contend(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    else:
        sys.exit(main())
