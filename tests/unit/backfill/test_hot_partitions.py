"""A partition that would have more of a load's writes than it takes is told before, and the load is slower for it."""

from __future__ import annotations

from typing import Any

import pytest
from docferry.config import parse_migration
from docferry.core.limits import PARTITION_WRU_PER_S
from docferry.flows.backfill.chunks import prepare
from docferry.flows.backfill.plan import plan_backfill
from docferry.flows.kernel.job import Job
from docferry.flows.ledger.load_headers import LoadHeaders
from docferry.flows.preflight.check import check_migration
from docferry.testing.fakes import FakeSource
from docferry.testing.jobs import make_job

FILE = """
migration: m
source: {database: d}
tables: {Tab: {indexes: [GSI1]}}
collections:
  docs:
    table: Tab
    item:
      entity: DOC
      key: {PK: "DOC#{_id}", SK: DATA}
      index: {GSI1: {PK: "STATUS#{status}", SK: "{_id}"}}
"""


def job_of(documents: list[dict[str, Any]], more: str = "") -> Job:
    source = FakeSource({"docs": documents})
    source.images["docs"] = True
    return make_job(migration=parse_migration((FILE + more).encode(), "file"), source=source)


def mostly(status: str, documents: int = 200) -> list[dict[str, Any]]:
    return [{"_id": n, "status": status if n % 10 else f"s{n}"} for n in range(documents)]


def test_a_status_that_most_documents_have_paces_the_load_to_what_its_partition_takes() -> None:
    job = job_of(mostly("secret-status"))
    (plan,) = plan_backfill(job).collections
    assert "one partition of index GSI1 (STATUS#{status}) has 45% of the writes" in plan.hot
    assert "secret-status" not in plan.hot
    assert plan.most_wcu == pytest.approx(PARTITION_WRU_PER_S / 0.45, rel=0.01)
    prepare(job, "docs")
    header = LoadHeaders(job.ledger).read("docs")
    assert header is not None
    assert header.most_wcu == pytest.approx(plan.most_wcu, abs=1)
    (note,) = [one for one in check_migration(job.migration, job.source).notes if "one partition" in one]
    assert note.startswith("docs: one partition of index GSI1")


@pytest.mark.parametrize(
    ("documents", "more"),
    [
        ([{"_id": n, "status": f"s{n}"} for n in range(200)], ""),
        (mostly("active", documents=8), ""),
        (mostly("active"), "backfill: {budget_wcu: 2000}"),
        ([], ""),
    ],
    ids=["keys that are spread", "a small collection", "a budget below it", "nothing"],
)
def test_otherwise_the_load_is_as_fast_as_its_budget(documents: list[dict[str, Any]], more: str) -> None:
    job = job_of(documents, more)
    (plan,) = plan_backfill(job).collections
    assert (plan.hot, plan.most_wcu) == ("", 0)
    prepare(job, "docs")
    header = LoadHeaders(job.ledger).read("docs")
    assert header is not None
    assert header.most_wcu == 0
    assert not [one for one in check_migration(job.migration, job.source).notes if "one partition" in one]
