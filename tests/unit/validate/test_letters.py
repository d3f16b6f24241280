"""Dead letters while several processes open, close and replay them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import bson
import pytest
from bson.timestamp import Timestamp
from docferry.core.mapping.raw import id_bytes
from docferry.core.versions import version_of
from docferry.errors import ConditionFailed, DocumentError, RefusedByStore
from docferry.flows.kernel.job import Job
from docferry.flows.ledger.dead_letters import (
    DeadLetter,
    close_letter,
    letter_document,
    letter_in,
    open_letter,
    read_letter,
)
from docferry.flows.replicate.lanes import Applying, Lanes
from docferry.flows.replicate.report import ReplicationReport
from docferry.flows.validate.replay import replay_letters
from docferry.ports.flows import ChangeEvent, Record, StreamPosition
from docferry.testing.fakes import FakeLedger, FakeSource, FakeTarget
from docferry.testing.jobs import make_job
from docferry.wiring import who
from support.convergence.rules import PatientRepair, calls_inline
from support.convergence.sides import DOCS, MIGRATION, TABLE
from support.convergence.standins import NoLimit, Quiet

DOCUMENT = bson.encode({"_id": 1, "name": "a"})
VERSION = version_of(Timestamp(1, 1), 0)


@pytest.fixture(autouse=True)
def inline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with calls_inline(monkeypatch):
        yield


def error() -> DocumentError:
    found = RefusedByStore("no")
    found.namespace, found.id = DOCS, "~i1"
    return found


def letter(ledger: FakeLedger) -> DeadLetter:
    found = read_letter(ledger, DOCS, "~i1")
    assert found is not None
    return found


def test_letter_opened_again_while_it_is_closed_keeps_its_document() -> None:
    class Hasty(FakeLedger):
        """Another process opens the letter again, by the same change, between the two steps of closing it."""

        def delete(self, record: Record) -> None:
            super().delete(record)
            if record.section == f"dead:{DOCS}":
                open_letter(self, DOCS, error(), DOCUMENT, VERSION)

    ledger = Hasty()
    open_letter(ledger, DOCS, error(), DOCUMENT, VERSION)
    close_letter(ledger, letter(ledger))
    assert letter_document(ledger, letter(ledger)) == DOCUMENT


def test_letter_opened_twice_leaves_one_set_of_parts() -> None:
    ledger = FakeLedger()
    for _ in range(2):
        open_letter(ledger, DOCS, error(), DOCUMENT, VERSION)
    assert len(ledger.list(f"dead-parts:{DOCS}")) == 1
    close_letter(ledger, letter(ledger))
    assert not ledger.list(f"dead-parts:{DOCS}")


def test_document_of_a_letter_that_was_closed_meanwhile_is_no_broken_invariant() -> None:
    ledger = FakeLedger()
    open_letter(ledger, DOCS, error(), DOCUMENT, VERSION)
    old = letter(ledger)
    close_letter(ledger, old)
    with pytest.raises(ConditionFailed):
        letter_document(ledger, old)


def test_replay_passes_over_a_letter_that_was_closed_since_it_was_listed() -> None:
    class Closing(FakeLedger):
        def list(self, section: str, prefix: str = "") -> list[Record]:
            found = super().list(section, prefix)
            for record in found if section == f"dead:{DOCS}" else ():
                close_letter(self, letter_in(record))
            return found

    ledger = Closing()
    open_letter(ledger, DOCS, error(), DOCUMENT, VERSION)
    report = asyncio.run(replay_letters(job_of(ledger, FakeSource({DOCS: []})), FakeTarget(), DOCS))
    assert (report.letters, report.changed) == (1, 1)


def test_letter_of_a_document_that_nobody_could_read_can_be_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A change too large for its images and its keys, whose document is gone by now: the letter holds its id."""
    monkeypatch.setattr("docferry.flows.validate.repair._Repair", PatientRepair)
    ledger, source, target = FakeLedger(), FakeSource({DOCS: []}), FakeTarget()
    target.create_table(TABLE)
    source.put(DOCS, {"_id": 1, "name": "a"})
    change = replace(event(source), images_lost=True, before=None, after=None, operation="update")
    source.remove(DOCS, 1)
    asyncio.run(apply(ledger, source, target, change))
    assert bson.decode(letter_document(ledger, letter(ledger))) == {"_id": 1}
    source.put("others", {"_id": 0})
    report = asyncio.run(replay_letters(job_of(ledger, source), target, DOCS))
    assert (report.letters, report.gone) == (1, 1)
    assert read_letter(ledger, DOCS, "~i1") is None


def event(source: FakeSource) -> ChangeEvent:
    start = StreamPosition(time=Timestamp(1, 0), token={"_data": f"82{1:08X}{0:08X}{0:08X}"}, scope="", n=0)
    fields = MIGRATION.mapping(DOCS).key_fields
    (change,) = source.follow(start, {DOCS: fields}).read(0.0).changes
    assert change.id == id_bytes(1)
    return change


async def apply(ledger: FakeLedger, source: FakeSource, target: FakeTarget, change: ChangeEvent) -> None:
    work = Applying(
        migration=MIGRATION, source=source, ledger=ledger, target=target, budget=NoLimit(), guard=lambda: None,
        stop=threading.Event(),
    )  # fmt: skip
    lanes = Lanes(work, change.position, ReplicationReport().books)
    lanes.put(change)
    await lanes.moved.wait()
    await lanes.end()
    assert lanes.failure is None


def job_of(ledger: Any, source: FakeSource) -> Job:
    return make_job(
        migration=MIGRATION, source=source, ledger=ledger, identity=who(), progress=Quiet(), stop=threading.Event()
    )
