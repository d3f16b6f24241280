"""Whoever only looks is told, too, that a collection was loaded by another mapping than the file has now."""

# ruff: noqa: E501 - one case a line

from __future__ import annotations

import asyncio
import threading

from docferry.config import Migration, parse_migration
from docferry.errors import TableMissing, Unavailable
from docferry.flows.backfill.load import backfill_collection
from docferry.flows.kernel.job import Job
from docferry.flows.preflight.check import CheckReport, check_ledger
from docferry.flows.reporting.health import Status, health_of
from docferry.flows.reporting.status import status_of
from docferry.testing.fakes import FakeLedger, FakeSource, FakeTarget
from docferry.testing.jobs import make_job
from docferry.wiring import who
from support.backfill.rig import Quiet

FILE = 'migration: m\nsource: {database: d}\ntables: {Items: {}}\ncollections: {docs: {item: {entity: DOC, key: {PK: "DOC#{_id}", SK: ROOT}}}}\n'


def migration(sk: str = "ROOT") -> Migration:
    return parse_migration(FILE.replace("ROOT", sk).encode())


def job(ledger: FakeLedger, of: Migration) -> Job:
    source = FakeSource({"docs": [{"_id": 1}]})
    return make_job(
        migration=of, source=source, ledger=ledger, identity=who(), progress=Quiet(), stop=threading.Event()
    )


def loaded() -> FakeLedger:
    ledger, target = FakeLedger(), FakeTarget()
    target.create_table("Items")
    asyncio.run(backfill_collection(job(ledger, migration()), target, "docs"))
    return ledger


def test_check_status_and_health_tell_of_a_mapping_that_has_changed() -> None:
    ledger, changed = loaded(), migration("OTHER")
    report = CheckReport()
    check_ledger(changed, ledger, report)
    assert [one.where for one in report.problems] == ["collections.docs"]
    assert "mapping has changed" in status_of(changed, ledger)["mapping_changed"][0]
    part = health_of(job(ledger, changed), ["mapping"]).parts["mapping"]
    assert part.status is Status.UNHEALTHY
    assert "mapping has changed" in part.why


def test_mapping_that_is_the_same_is_well() -> None:
    ledger, report = loaded(), CheckReport()
    check_ledger(migration(), ledger, report)
    assert (report.problems, report.notes) == ([], [])
    assert status_of(migration(), ledger)["mapping_changed"] == []
    assert health_of(job(ledger, migration()), ["mapping"]).ok


def test_ledger_that_is_not_there_yet_says_nothing_and_one_that_does_not_answer_is_named() -> None:
    class Missing(FakeLedger):
        error: Exception = TableMissing("no table")

        def read(self, section: str, key: str) -> None:
            raise self.error

    ledger, report = Missing(), CheckReport()
    check_ledger(migration(), ledger, report)
    assert (report.problems, report.notes) == ([], [])
    ledger.error = Unavailable("nobody answers")
    check_ledger(migration(), ledger, report)
    assert "nobody answers" in report.notes[0]
