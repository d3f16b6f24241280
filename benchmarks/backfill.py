"""docferry's backfill against the playbook's loop and boto3's batch_writer.

Same products, same mongod, same server that answers at once; each contender is a process of its own, and each round runs
all three, so that a slow moment of the machine hits them alike. Rates are documents a second; the slow ones get fewer
documents. Then memory: the same load with 20,000 and with BENCH_DOCUMENTS (1,000,000) documents.

BENCH_ROUNDS (3), BENCH_PRODUCTS (100,000) and BENCH_DOCUMENTS change its size. Exit 1 if a promise is not kept; numbers
go to build/bench.json.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
from docferry.sandbox import SandboxStack
from pymongo import MongoClient, WriteConcern
from rich.console import Console
from rich.table import Table

from benchmarks.contenders import COLLECTION, CONTENDERS, products, small_products
from benchmarks.server import Server, running_server

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
PRODUCTS = int(os.environ.get("BENCH_PRODUCTS", "100000"))
DOCUMENTS = int(os.environ.get("BENCH_DOCUMENTS", "1000000"))
FEW = 20_000
SIZES = {"playbook": 500, "batch_writer": 5_000, "docferry": PRODUCTS}
AT_LEAST = {"playbook": 60.0, "batch_writer": 8.0}
MEMORY_BYTES = 300 * 1024 * 1024
SAME = 0.10
REPORT = Path("build") / "bench.json"


def fill(uri: str, database: str, documents: Iterable[Mapping[str, Any]]) -> None:
    """Insert documents, a few batches at a time."""
    with MongoClient[Any](uri) as client, ThreadPoolExecutor(2) as pool:
        target = client[database].get_collection(COLLECTION, write_concern=WriteConcern(1))
        target.create_index("sku", unique=True)
        source = iter(documents)
        while batch := list(islice(source, 20_000)):
            halves = (batch[: len(batch) // 2], batch[len(batch) // 2 :])
            list(pool.map(lambda half: target.insert_many(half, ordered=False) if half else None, halves))
        # A majority write waits for all before it; snapshots then need not.
        client[database]["end"].with_options(write_concern=WriteConcern("majority")).insert_one({})


def run(name: str, database: str, limit: int, env: Mapping[str, str], server: Server) -> dict[str, Any]:
    """One contender in a process of its own; its rate, its memory, and whether the server got all of it."""
    server.reset()
    words = [sys.executable, "-m", "benchmarks.contenders", name, database, str(limit)]
    child = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env={**os.environ, **env})
    memory = watch_memory(psutil.Process(child.pid), child)
    out, _ = child.communicate()
    if child.returncode:
        raise SystemExit(f"{name} failed")
    result: dict[str, Any] = json.loads(out)
    stats = server.stats()
    if stats["items"] != result["documents"]:
        raise SystemExit(f"{name}: {result['documents']} documents, but the server accepted {stats['items']} items")
    return {**result, "rate": result["documents"] / result["seconds"], "median_bytes": memory, "server": stats}


def watch_memory(process: psutil.Process, child: subprocess.Popen[str]) -> int:
    """The median of the resident memory while the child lives, in bytes."""
    seen = [0]
    while child.poll() is None:
        try:
            seen.append(process.memory_info().rss)
        except psutil.NoSuchProcess:
            break
        time.sleep(0.1)
    return int(statistics.median(seen))


def measure_rates(env: Mapping[str, str], server: Server, console: Console) -> dict[str, Any]:
    """Rates of all contenders, and by how much docferry is faster: the median of the rounds' ratios."""
    rounds = []
    for number in range(ROUNDS):
        rounds.append({name: run(name, "bench", SIZES[name], env, server) for name in CONTENDERS})
        found = ", ".join(f"{name} {one['rate']:,.0f}/s" for name, one in rounds[-1].items())
        console.print(f"round {number + 1} of {ROUNDS}: {found}")
    rates = {name: statistics.median(one[name]["rate"] for one in rounds) for name in CONTENDERS}
    ratios = {
        name: statistics.median(one["docferry"]["rate"] / one[name]["rate"] for one in rounds) for name in AT_LEAST
    }
    last = rounds[-1]["docferry"]
    return {
        "rates": rates,
        "ratios": ratios,
        "cpu_share": last["cpu_seconds"] / last["seconds"],
        "server": last["server"],
    }


def measure_memory(env: Mapping[str, str], server: Server) -> dict[str, Any]:
    """Peak resident memory for few and for many documents."""
    few = run("docferry", "few", FEW, env, server)
    many = run("docferry", "many", DOCUMENTS, env, server)
    names = ("documents", "seconds", "rate", "peak_bytes", "median_bytes")
    return {"few": {name: few[name] for name in names}, "many": {name: many[name] for name in names}}


def promises(found: Mapping[str, Any]) -> list[tuple[str, bool]]:
    """Every promise in words, and whether it is kept."""
    few, many = found["memory"]["few"]["peak_bytes"], found["memory"]["many"]["peak_bytes"]
    kept = [
        (f"at least {least:.0f} times {name}: {found['ratios'][name]:.1f}", found["ratios"][name] >= least)
        for name, least in AT_LEAST.items()
    ]
    kept.append((f"under {MEMORY_BYTES >> 20} MB: {many / 2**20:.0f} MB", max(few, many) < MEMORY_BYTES))
    growth = many / few - 1
    kept.append((f"the same memory for {FEW:,} and {DOCUMENTS:,} documents: {growth:+.1%}", abs(growth) <= SAME))
    return kept


def show(found: Mapping[str, Any], console: Console) -> None:
    table = Table("contender", "documents/s", "docferry is faster by")
    for name, rate in found["rates"].items():
        table.add_row(name, f"{rate:,.0f}", f"{found['ratios'][name]:.1f} times" if name in found["ratios"] else "")
    console.print(table)


def record(benchmark: str, found: Mapping[str, Any], kept: bool) -> None:
    """A benchmark's numbers beside what the others have written."""
    REPORT.parent.mkdir(exist_ok=True)
    before = json.loads(REPORT.read_text()) if REPORT.exists() else {}
    REPORT.write_text(json.dumps({**before, benchmark: {**found, "kept": kept, "cores": os.cpu_count()}}, indent=1))


def main() -> int:
    console = Console()
    with SandboxStack() as stack, running_server() as server:
        uri = stack.env()["DOCFERRY_MONGO_URI"]
        env = {**stack.env(), "AWS_ENDPOINT_URL_DYNAMODB": server.url, "PYTHONHASHSEED": "0"}
        console.print(f"loading {PRODUCTS:,} products, {FEW:,} and {DOCUMENTS:,} small documents into MongoDB")
        for database, documents in (
            ("bench", products(PRODUCTS)),
            ("few", small_products(FEW)),
            ("many", small_products(DOCUMENTS)),
        ):
            fill(uri, database, documents)
        found = measure_rates(env, server, console)
        show(found, console)
        found["memory"] = measure_memory(env, server)
    kept = promises(found)
    for text, ok in kept:
        console.print(f"{'kept  ' if ok else 'BROKEN'} {text}")
    REPORT.parent.mkdir(exist_ok=True)
    everything = {**found, "promises": [{"what": text, "kept": ok} for text, ok in kept], "cores": os.cpu_count()}
    REPORT.write_text(json.dumps({"backfill": everything}, indent=1))
    console.print(f"written to {REPORT}")
    return 0 if all(ok for _, ok in kept) else 1


if __name__ == "__main__":
    sys.exit(main())
