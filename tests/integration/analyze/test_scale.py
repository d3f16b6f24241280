"""Many collections and documents: it ends inside its budgets, asks no more of MongoDB than it says, and needs no more memory.

Small by default. DOCFERRY_SCALE=300,1000000,5000000 makes that many collections, with so many documents the first time and so
many the second; DOCFERRY_SCALE_URI leads to a mongod of your own for it (a hundred bytes a document; its databases stay).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from docferry.sandbox import SandboxStack
from pymongo import MongoClient
from pymongo.database import Database
from support.place import ROOT

COLLECTIONS, *SIZES = map(int, os.environ.get("DOCFERRY_SCALE", "8,800,4000").split(","))
URI = os.environ.get("DOCFERRY_SCALE_URI", "")
BIG = "DOCFERRY_SCALE" in os.environ
DOCUMENTS = 300 if BIG else 100
MINUTES = 10.0
MOST_RSS = 300 * 2**20
APART = 40 * 2**20
"""How far the memory of two runs may differ by chance."""
LOOKED_UP = 2_000
"""Documents of one collection that a few lookups and counts may touch besides the sample: fan-outs and values are bounded."""
MEASURED = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[2:]).returncode
with open(sys.argv[1], "w") as file:
    file.write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(code)
"""
"""A small process between: Linux counts what the parent of a process held when it was started as the child's own."""
pytestmark = pytest.mark.timeout(7_200 if BIG else 300)


@pytest.fixture(scope="module")
def client(stack: SandboxStack) -> Iterator[MongoClient[Any]]:
    with MongoClient[Any](URI or stack.env()["DOCFERRY_MONGO_URI"]) as opened:
        yield opened


def generated(database: Database[Any], documents: int) -> None:
    """Small documents, spread evenly; what is there already is left."""
    each = documents // COLLECTIONS
    for number in range(COLLECTIONS):
        collection = database[f"c{number:03d}"]
        there = collection.estimated_document_count()
        for start in range(there, each, 5_000):
            collection.insert_many(
                [
                    {
                        "_id": ObjectId(),
                        "user_id": n % 997,
                        "status": "abc"[n % 3],
                        "n": n,
                        "name": f"n{n * 7919 % 10**6}",
                    }
                    for n in range(start, min(each, start + 5_000))
                ],
                ordered=False,
            )
        if number % 3 == 0:
            collection.create_index("user_id")


def scanned(client: MongoClient[Any]) -> int:
    """Documents that the server has looked at since it started."""
    return int(client.admin.command("serverStatus")["metrics"]["queryExecutor"]["scannedObjects"])


def analyzed(stack: SandboxStack, database: str, out: Path, *more: str) -> tuple[dict[str, Any], int, float]:
    """The report, the most memory in bytes, and seconds of a run of the command."""
    env = {**os.environ, **stack.env(), "PYTHONPATH": str(ROOT / "include")}
    env |= {"DOCFERRY_MONGO_URI": URI} if URI else {}
    command = [sys.executable, "-m", "docferry.cli", "analyze", "--database", database, "--out", str(out), *more]
    kept = out.parent / "most.rss"
    began = time.monotonic()
    with (out.parent / "said.log").open("w") as said:
        done = subprocess.run([sys.executable, "-c", MEASURED, str(kept), *command], env=env, stdout=said, stderr=said)
    assert done.returncode == 0, (out.parent / "said.log").read_text()
    report: dict[str, Any] = json.loads((out / "report.json").read_text())
    return report, int(kept.read_text()) * 1024, time.monotonic() - began


def test_memory_is_the_same_for_five_times_the_documents_and_the_load_stays_inside_the_bound(
    stack: SandboxStack, client: MongoClient[Any], tmp_path: Path
) -> None:
    memory = []
    for size in SIZES:
        name = f"scale_{size}"
        generated(client[name], size)
        before = scanned(client)
        out = tmp_path / name
        report, rss, seconds = analyzed(stack, name, out, "--documents", str(DOCUMENTS), "--minutes", str(MINUTES))
        looked = scanned(client) - before
        facts = report["facts"]
        average = sum(one["average_bytes"] for one in facts["collections"]) / COLLECTIONS
        by_server = facts["server_bytes"] / average
        print(
            f"{size:,} documents: {seconds:.0f} s, {rss / 2**20:.0f} MB, {facts['documents_read']:,} read, {looked:,} looked at "
            f"by the server, {by_server:,.0f} of them counted"
        )
        memory.append(rss)
        assert len(facts["collections"]) == COLLECTIONS
        assert seconds < MINUTES * 60 + 120
        assert facts["documents_read"] <= COLLECTIONS * DOCUMENTS
        assert looked <= 2 * facts["documents_read"] + by_server + COLLECTIONS * LOOKED_UP
        assert rss < MOST_RSS
        assert (out / "migration.yaml").exists()
        if not URI:
            client.drop_database(name)
    assert max(memory) - min(memory) < APART


def test_hostile_documents_need_no_more_memory(stack: SandboxStack, client: MongoClient[Any], tmp_path: Path) -> None:
    deep: Any = "end"
    for _ in range(98):
        deep = {"d": deep}
    database = client["scale_hostile"]
    client.drop_database(database.name)
    database["deep"].insert_one({"deep": deep})
    database["wide"].insert_many({f"k{batch}_{number}": 1 for number in range(2_000)} for batch in range(50))
    database["big"].insert_one({"blob": "x" * (16 * 1024 * 1024 - 64)})
    try:
        report, rss, _ = analyzed(stack, database.name, tmp_path / "out")
    finally:
        client.drop_database(database.name)
    print(f"hostile: {rss / 2**20:.0f} MB")
    assert report["facts"]["documents_read"] == 52
    assert rss < MOST_RSS
    assert (tmp_path / "out" / "report.html").stat().st_size < 5_000_000
