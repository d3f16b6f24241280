"""A quarter of the load's connections break, and what was sent arrives seconds later, when replication could be writing."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docferry.flows.backfill.load import backfill_collection
from docferry.flows.replicate.follower import replicate
from docferry.sandbox import SandboxStack
from support.backfill.proxy import FaultProxy
from support.backfill.rig import Rig, generic_rig

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("late_writes")]
DOCUMENTS = 400
LATE_S = (4.0, 6.0)
LIFE_S = 6.5


@pytest.fixture(scope="module")
def stack() -> Iterator[SandboxStack]:
    with SandboxStack() as opened:
        yield opened


def rig_of(stack: SandboxStack, directory: Path, name: str, life_s: float) -> Rig:
    rig = generic_rig(stack.env(), directory, name, ["plain"], page_documents=10, late_writes_s=life_s)
    rig.database.create_collection("plain", changeStreamPreAndPostImages={"enabled": True})
    rig.database["plain"].insert_many([{"_id": n, "text": "old"} for n in range(DOCUMENTS)])
    return rig


def stale_after(rig: Rig, *, for_s: float) -> tuple[int, int]:
    """Load, change every document, replicate for so long; (documents that are different in DynamoDB, requests delivered late)."""

    async def work(late: Any) -> None:
        target = dataclasses.replace(rig, env={**rig.env, "AWS_ENDPOINT_URL_DYNAMODB": late.url}, procs=[]).target()
        try:
            report = await backfill_collection(rig.job(), target, "plain")
        finally:
            await target.close()
        assert bool(report.waits) == (rig.migration.backfill.late_writes_s > 0)
        rig.database["plain"].update_many({}, {"$set": {"text": "new"}})
        direct = rig.target()
        try:
            await replicate(rig.job(), direct, for_s=for_s)
        finally:
            await direct.close()

    with FaultProxy(rig.env["AWS_ENDPOINT_URL_DYNAMODB"], {"BatchWriteItem": {"late": 0.25}}, late_s=LATE_S) as proxy:
        asyncio.run(work(proxy))
    pages = rig.dynamodb.get_paginator("scan").paginate(TableName=rig.table, ConsistentRead=True)
    items = [item for page in pages for item in page["Items"]]
    assert len(items) == DOCUMENTS
    return sum(item["text"]["S"] != "new" for item in items), proxy.seen["delivered late"]


def test_replication_that_waits_for_them_leaves_no_document_stale(stack: SandboxStack, tmp_path: Path) -> None:
    stale, late = stale_after(rig_of(stack, tmp_path, "waited", LIFE_S), for_s=LIFE_S + 8.0)
    assert (stale, late > 3) == (0, True)


def test_the_fault_would_leave_documents_stale_if_nobody_waited(stack: SandboxStack, tmp_path: Path) -> None:
    stale, late = stale_after(rig_of(stack, tmp_path, "hasty", 0.0), for_s=LATE_S[1] + 3.0)
    assert 0 < stale < DOCUMENTS  # those that were not late are fresh
    assert late > 3
