"""The fence on a MongoDB and a ledger that are fakes, raised and lifted by processes."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest
from docferry.config import Migration, parse_migration
from docferry.core.settings import CutoverSettings
from docferry.flows.fence import raising as fence_raising
from docferry.flows.fence import record as fence_record
from docferry.flows.fence.record import Recorded, recorded_fence
from docferry.ports.flows import Identity
from docferry.testing.fakes import FakeFence, FakeLedger
from docferry.testing.jobs import make_job

from support.backfill.rig import Quiet

MIGRATION = parse_migration(b"""
migration: fake
source: {database: myapp}
tables: {Tab: {}}
collections: {users: {}}
""")


ROLES = {("myapp", "readWrite"), ("myapp", "dbAdmin")}


WITHIN_S = 0.5


class Process:
    """One process: its stop signal, what it was told, and whether it is dead."""

    dead: set[str] = set()

    def __init__(self, mongo: FakeFence, ledger: FakeLedger, name: str = "one", **cutover: Any) -> None:
        self.stop, self.said = threading.Event(), Said()
        self.job = make_job(
            migration=with_cutover(**cutover),
            fence=mongo,
            ledger=ledger,
            identity=Identity(name=name, mark=name, ended=self.dead.__contains__),
            progress=self.said,
            stop=self.stop,
        )


class Said(Quiet):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def with_cutover(**cutover: Any) -> Migration:
    return replace(MIGRATION, cutover=CutoverSettings(**cutover))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fence_raising, "PAUSE_S", 0.002)
    monkeypatch.setattr(fence_raising, "BREATHE_S", 0.002)
    monkeypatch.setattr(fence_record, "LIFT_S", 0.2)
    monkeypatch.setattr(Process, "dead", set())


@pytest.fixture
def mongo() -> FakeFence:
    return FakeFence()


@pytest.fixture
def ledger() -> FakeLedger:
    return FakeLedger()


@pytest.fixture
def one(mongo: FakeFence, ledger: FakeLedger) -> Process:
    return Process(mongo, ledger)


def recorded(ledger: FakeLedger) -> Recorded:
    return recorded_fence(ledger)[0]
