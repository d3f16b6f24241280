"""Jobs of processes that raise and lift the fence, on fakes, and the mode as a test wants it."""

from __future__ import annotations

import threading
from typing import Any
from weakref import WeakKeyDictionary

from docferry.config import Migration, parse_migration
from docferry.core.cutover.modes import MODE, ModeState
from docferry.flows.kernel.job import Job
from docferry.ports.flows import Identity
from docferry.testing.fakes import FakeFence, FakeLeader, FakeLedger, FakeSource, FakeStreams, FakeTarget
from docferry.testing.jobs import make_job

from support.backfill.rig import Quiet

MIGRATION: Migration = parse_migration(b"""
migration: fake
source: {database: myapp}
tables: {Tab: {}}
collections: {users: {}}
""")
NOT_ASKED: Any = None
"""A guard looks at neither the connections nor AWS."""
_MARKERS: WeakKeyDictionary[FakeFence, FakeLeader] = WeakKeyDictionary()


def marker_of(mongo: FakeFence) -> FakeLeader:
    """The marker in this MongoDB."""
    return _MARKERS.setdefault(mongo, FakeLeader())


def job_of(mongo: FakeFence, ledger: FakeLedger, name: str = "guard") -> Job:
    return make_job(
        migration=MIGRATION,
        source=FakeSource({"users": ()}),
        fence=mongo,
        leader=marker_of(mongo),
        clients=NOT_ASKED,
        estate=NOT_ASKED,
        streams=FakeStreams(FakeTarget()),
        ledger=ledger,
        identity=Identity(name=name, mark=name, ended=lambda mark: False),
        progress=Quiet(),
        stop=threading.Event(),
    )


def set_mode(ledger: FakeLedger, mode: ModeState) -> None:
    ledger.write(*MODE, mode.to_body(), expect=ledger.read(*MODE))
