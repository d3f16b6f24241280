"""Five thousand writes are made while DynamoDB leads, and then MongoDB leads again: it holds every one of them, exactly.

What must be there is told from the writes alone, by a model and a comparison that share no code with docferry. No process
replicates in reverse while they are made, so that the time of the way back includes all of them.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest
from docferry import wiring
from docferry.client import AsyncDualWriteManager
from docferry.core.cutover.modes import Mode
from docferry.flows.cutover.hold import SwitchReport, back_out
from docferry.flows.ledger import approvals
from docferry.flows.ledger.modes import read_mode
from docferry.rehearsal.independent import judge
from docferry.rehearsal.independent.appearance import canonical
from docferry.rehearsal.independent.replay import updated
from docferry.sandbox import SandboxStack
from support.backfill.rig import Rig
from support.client.drill import approve, change_leader, cutover_of
from support.client.rig import MODES, connected, set_mode
from support.cutover.unfence import unfence
from support.replicate.rig import Following, assert_equal, end, live_shop
from support.validate.planting import MAKERS, require_equal

pytestmark = pytest.mark.cutover

WRITES, WORKERS = 5_000, 25
Document = dict[str, Any]


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    """On a stack of its own: the write block is for a cluster that holds nothing else."""
    with SandboxStack() as stack:
        made = live_shop(stack.env(), tmp_path)
        made.dynamodb.update_table(
            TableName=made.table,
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
        )
        connected(made, monkeypatch, stack)
        yield made
        back_out(cutover_of(made), "the test is over")
        unfence(cutover_of(made))
        end(made)


class Worker:
    """Writes documents of its own, one after the other, and remembers what each must be by now."""

    def __init__(self, manager: AsyncDualWriteManager, number: int, owned: Mapping[str, list[Document]]) -> None:
        self.manager, self.random, self.name = manager, Random(number), f"w{number}"
        self.owned = {name: list(owned.get(name, ())) for name in MAKERS}
        self.free: list[str] = []
        self.made = 0
        self.did: Counter[str] = Counter()

    async def work(self, writes: int) -> None:
        for _ in range(writes):
            collection = self.random.choice(("users", "users", "orders", "products", "categories"))
            there = self.owned[collection]
            kinds = (*["insert"] * 3, *["update"] * 4, "replace", "delete") if there else ("insert",)
            kind = self.random.choice(kinds)
            await getattr(self, f"_{kind}")(collection)
            self.did[kind] += 1

    async def _insert(self, collection: str) -> None:
        document = MAKERS[collection](self._new_name(collection))
        await self.manager[collection].insert_one(copy.deepcopy(document))
        self.owned[collection].append(document)

    async def _update(self, collection: str) -> None:
        document = self.random.choice(self.owned[collection])
        change = self._change(collection)
        result = await self.manager[collection].update_one(self._key(collection, document), change)
        assert result.matched_count == 1
        self._becomes(collection, document, updated(document, change))

    async def _replace(self, collection: str) -> None:
        document = self.random.choice(self.owned[collection])
        after = MAKERS[collection](self._new_name(collection)) | {"_id": document["_id"], "replaced": True}
        result = await self.manager[collection].replace_one(self._key(collection, document), copy.deepcopy(after))
        assert result.matched_count == 1
        self._becomes(collection, document, after)

    async def _delete(self, collection: str) -> None:
        document = self.random.choice(self.owned[collection])
        assert (await self.manager[collection].delete_one(self._key(collection, document))).deleted_count == 1
        self._becomes(collection, document, None)

    def _key(self, collection: str, document: Document) -> Document:
        return {"username": document["username"]} if collection == "users" else {"_id": document["_id"]}

    def _new_name(self, collection: str) -> str:
        """Names that have become free are given again: to other documents, under the same keys."""
        if collection == "users" and self.free and self.random.random() < 0.5:
            return self.free.pop()
        self.made += 1
        return f"{self.name}-{self.made}"

    def _change(self, collection: str) -> Document:
        number = self.random.randrange(1_000)
        if collection == "users":
            return self.random.choice([
                {"$set": {"status": "idle", "visits": number}},
                {"$push": {"addresses": {"type": "other", "street": f"{number} Third St"}}},
                {"$unset": {"addresses": ""}},
                {"$set": {"username": self._new_name(collection)}, "$inc": {"renamed": 1}},
            ])  # fmt: skip
        return {"$set": {"note": f"note {number}"}, "$inc": {"stock": 1}}

    def _becomes(self, collection: str, before: Document, after: Document | None) -> None:
        owned = self.owned[collection]
        owned.remove(before)
        if after is not None:
            owned.append(after)
        if collection == "users" and (after is None or after["username"] != before["username"]):
            self.free.append(before["username"])


async def write_many(rig: Rig, there: Mapping[str, list[Document]]) -> list[Worker]:
    async with await wiring.connect_async(rig.file) as manager:
        workers = [Worker(manager, number, there if number == 0 else {}) for number in range(WORKERS)]
        await asyncio.gather(*(one.work(WRITES // WORKERS) for one in workers))
    return workers


def assert_holds(database: Any, workers: list[Worker]) -> int:
    """MongoDB's documents are the model's: none is missing, none is too many, and each is the same to the last type."""
    for collection in MAKERS:
        expected = [document for one in workers for document in one.owned[collection]]
        found = list(judge.read_documents(database, collection))
        assert sorted(map(canonical, found)) == sorted(map(canonical, expected)), collection
    return sum(len(documents) for one in workers for documents in one.owned.values())


def lead_by_dynamodb(rig: Rig) -> None:
    with Following(rig):
        set_mode(rig, MODES["DYNAMODB_READS 100"])
        require_equal(rig)
    approve(rig, approvals.STOP_MONGO_WRITES)
    with wiring.connect(rig.file):  # an application that is not there cannot be led
        change_leader(rig, back=False)


def test_mongodb_holds_five_thousand_writes_of_a_leading_dynamodb(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    there = {name: list(judge.read_documents(rig.database, name)) for name in MAKERS}
    lead_by_dynamodb(rig)
    began = time.monotonic()
    workers = asyncio.run(write_many(rig, there))
    wrote_s = time.monotonic() - began
    began = time.monotonic()
    report = change_leader(rig, back=True)
    back_s = time.monotonic() - began
    assert read_mode(rig.ledger).mode is Mode.MONGO_ONLY
    documents = assert_holds(rig.database, workers)
    assert_equal(rig)  # by the judge, and DynamoDB's items are these documents', too
    did = sum((one.did for one in workers), Counter())
    assert sum(did.values()) == WRITES
    with capsys.disabled():
        print(f"\n{_said(did, wrote_s)}; {documents:,} documents are left\n{_back(report, back_s)}")


def _said(did: Counter[str], seconds: float) -> str:
    kinds = ", ".join(f"{number:,} {kind}s" for kind, number in sorted(did.items()))
    return f"{sum(did.values()):,} writes in DYNAMODB_ONLY ({kinds}) took {seconds:.1f} s"


def _back(report: SwitchReport, seconds: float) -> str:
    return f"rolling back took {seconds:.1f} s, of which writes were held {report.held_s:.2f} s"
