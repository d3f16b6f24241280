"""Three ways to carry products from MongoDB to DynamoDB. Run as a process: prints documents and seconds as JSON."""

from __future__ import annotations

import atexit
import dataclasses
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
import uvloop
import yaml
from bson import Decimal128, ObjectId
from docferry import wiring
from docferry.adapters.aws.dynamodb import DynamoTarget
from docferry.adapters.aws.dynamodb_http import DynamoHttp
from docferry.adapters.mongodb.source import MongoSource
from docferry.config import load_migration
from docferry.errors import ConditionFailed
from docferry.flows.backfill.finish import CollectionReport
from docferry.flows.backfill.load import backfill_collection
from docferry.ports.flows import Record
from docferry.testing.jobs import make_job
from pymongo import MongoClient


def _bare_shop() -> Path:
    """The shop's file without its unique indexes, which neither the playbook's loop nor boto3 keeps."""
    tree = yaml.safe_load((Path(__file__).parents[1] / "include" / "migrations" / "shop.yaml").read_text())
    for collection in tree["collections"].values():
        collection.pop("unique", None)
    directory = tempfile.mkdtemp(prefix="docferry-bench-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    file = Path(directory) / "shop.yaml"
    file.write_text(yaml.safe_dump(tree, sort_keys=False))
    return file


SHOP = _bare_shop()
COLLECTION = "products"
PAGE = 25
Run = Callable[[], int]
"""Carries the documents and says how many. Clients are made before: that is not what is measured."""


# --- the playbook's loop ---------------------------------------------------------------------------------------------


def playbook(uri: str, database: str, limit: int) -> Run:
    """Pages by skip and limit, ten threads, one put_item a document.

    A loop over all of the collection would take too long, so `limit` documents' worth of its pages are taken, evenly
    spread: the server walks over what is skipped, and that is part of what such a loop costs.
    """
    source = MongoClient[Any](uri)[database][COLLECTION]
    table = boto3.resource("dynamodb").Table("Shop")
    total, pages = source.estimated_document_count(), limit // PAGE

    def run() -> int:
        done = 0
        with ThreadPoolExecutor(10) as pool:
            for number in range(pages):
                page = list(source.find({}).skip(number * (total - PAGE) // pages).limit(PAGE))
                for future in [pool.submit(table.put_item, Item=simple_item(document)) for document in page]:
                    future.result()
                done += len(page)
        return done

    return run


# --- boto3's own batches ---------------------------------------------------------------------------------------------


def batch_writer(uri: str, database: str, limit: int) -> Run:
    """One cursor, one thread, boto3's batch_writer."""
    source = MongoClient[Any](uri)[database][COLLECTION]
    table = boto3.resource("dynamodb").Table("Shop")

    def run() -> int:
        done = 0
        with table.batch_writer() as writer:
            for document in source.find({}).limit(limit):
                writer.put_item(Item=simple_item(document))
                done += 1
        return done

    return run


def simple_item(product: Mapping[str, Any]) -> dict[str, Any]:
    """A hand-made transformation of the playbook's kind: no types kept, no versions, floats as Decimal for boto3."""
    identity = str(product["_id"])
    item = {name: _simple(value) for name, value in product.items() if name != "_id"}
    return item | {
        "PK": f"PRODUCT#{identity}",
        "SK": "METADATA",
        "entityType": "PRODUCT",
        "GSI1PK": f"CATEGORY#{product['categoryId']}",
        "GSI1SK": f"PRODUCT#{product['name']}",
        "GSI2PK": f"SKU#{product['sku']}",
        "GSI2SK": "PRODUCT",
        "productId": identity,
    }


def _simple(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _simple(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_simple(inner) for inner in value]
    if isinstance(value, Decimal128 | ObjectId):
        return str(value)
    if isinstance(value, float):
        return Decimal(str(value))
    return value.isoformat() if hasattr(value, "isoformat") else value


# --- docferry --------------------------------------------------------------------------------------------------------


class MemoryLedger:
    """A ledger in this process: what is measured is the load."""

    def __init__(self) -> None:
        self._records: dict[tuple[str, str], Record] = {}
        self._tables: dict[str, MemoryLedger] = {}
        self._lock = threading.Lock()

    def read(self, section: str, key: str) -> Record | None:
        return self._records.get((section, key))

    def glance(self, section: str, key: str) -> Record | None:
        return self.read(section, key)

    def list(self, section: str, prefix: str = "") -> list[Record]:
        with self._lock:
            found = [one for (where, key), one in self._records.items() if where == section and key.startswith(prefix)]
        return sorted(found, key=lambda one: one.key)

    def write(
        self,
        section: str,
        key: str,
        body: Mapping[str, Any],
        *,
        expect: Record | None,
        unchanged: Sequence[Record] = (),
        beside: Sequence[Record] = (),
    ) -> Record:
        with self._lock:
            seen = [self._records.get((one.section, one.key)) for one in unchanged]
            if self._records.get((section, key)) != expect or seen != [*unchanged]:
                raise ConditionFailed("changed meanwhile", operation="write")
            record = Record(section, key, expect.revision + 1 if expect else 1, dict(body))
            self._records[section, key] = record
            self._records |= {(one.section, one.key): one for one in beside}
            return record

    def of_table(self, table: str) -> MemoryLedger:
        return self._tables.setdefault(table, MemoryLedger())

    def delete(self, record: Record) -> None:
        with self._lock:
            del self._records[record.section, record.key]


class Quiet:
    def say(self, text: str) -> None: ...

    def advance(self, subject: str, done: int, total: int, note: str = "") -> None: ...


def docferry(uri: str, database: str, limit: int) -> Run:
    """The backfill as it is: full codec, versions, accounting, checkpoints. Reads all of the collection."""
    migration = load_migration(SHOP)
    migration = dataclasses.replace(migration, backfill=dataclasses.replace(migration.backfill, budget_wcu=0))
    identity = wiring.who()
    job = make_job(
        migration=migration,
        source=MongoSource(uri, database),
        ledger=MemoryLedger(),
        identity=identity,
        progress=Quiet(),
        stop=threading.Event(),
        run="bench",
        run_mark=identity.mark,
    )

    target = DynamoTarget(DynamoHttp(boto3.Session()), migration.backfill.concurrency)

    async def load() -> CollectionReport:
        try:
            return await backfill_collection(job, target, COLLECTION)
        finally:
            await target.close()

    def run() -> int:
        counts = uvloop.run(load()).counts
        if counts.written != counts.read:
            raise ValueError(f"{counts} in a collection in which everything can be stored")
        return counts.read

    return run


CONTENDERS: dict[str, Callable[[str, str, int], Run]] = {
    "playbook": playbook,
    "batch_writer": batch_writer,
    "docferry": docferry,
}


def main(name: str, database: str, limit: int) -> None:
    uri = os.environ["DOCFERRY_MONGO_URI"]
    if profile := os.environ.get("BENCH_PROFILE"):
        import cProfile

        profiler = cProfile.Profile()
        profiler.enable()
    run = CONTENDERS[name](uri, database, limit)
    started, cpu = time.perf_counter(), time.process_time()
    documents = run()
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    if profile:
        profiler.disable()
        profiler.dump_stats(profile)
    print(json.dumps({"documents": documents, "seconds": seconds, "cpu_seconds": cpu, "peak_bytes": peak_bytes()}))


def peak_bytes() -> int:
    """The most that this process has had resident. Not getrusage: that begins with what the parent had."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def products(count: int) -> Iterator[dict[str, Any]]:
    """Products like the shop's, all of them storable."""
    from docferry.rehearsal.shop import ShopPlan, shop_documents

    plan = ShopPlan(users=-(-count * 5 // 2), awkward=0, unstorable=0)
    for _, made in zip(range(count), shop_documents(COLLECTION, plan), strict=False):
        yield made.document


def small_products(count: int) -> Iterator[dict[str, Any]]:
    """Small documents, quickly made."""
    for n in range(count):
        yield {"_id": n, "sku": f"S{n}", "name": "Small", "price": Decimal128("9.90"), "stock": n % 500}


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
