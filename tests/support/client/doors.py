"""One process of an application without servers: a ledger in memory, and a door that stands for MongoDB."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from docferry.client.context import ClientContext
from docferry.client.membership import Membership
from docferry.client.metrics.metered import Metered, default_metrics
from docferry.client.transport.sync_driver import run
from docferry.client.writes.delegated import DelegatedCalls
from docferry.client.writes.gate import WriteGate
from docferry.client.writes.route import CollectionCalls
from docferry.client.writes.transactions import Transactions
from docferry.core.access.calls import SERVED_CALLS
from docferry.core.cutover.marker import Leads, Marker
from docferry.core.cutover.modes import MODE, Mode, ModeState
from docferry.errors import TimedOut
from docferry.ports.client import MongoResult
from docferry.ports.flows import Identity
from docferry.testing.fakes import FakeLedger

from support.backfill.rig import eventually

LEASE_S = 0.4
MANY = SERVED_CALLS["delete_many"]
MONGO = ModeState(mode=Mode.MONGO_ONLY, epoch=3)


class DriverError(Exception):
    """What pymongo might raise."""


class TransientError(DriverError):
    """A transaction that may be begun anew."""


class Door:
    """MongoDB with a marker. `meanwhile` happens between its look at a write and its answer."""

    def __init__(self) -> None:
        self.marker: Marker | None = Marker(revision=1, epoch=3, leader=Leads.MONGODB)
        self.meanwhile: Callable[[], None] = lambda: None
        self.wrote: list[Mapping[str, Any]] = []
        self.asked = 0
        self.error: Exception | None = None
        self.left_out: frozenset[int] | None = None

    async def run(self, collection: str, method: str, document: Any, **options: Any) -> MongoResult:
        self.wrote.append(document)
        self.meanwhile()
        if self.left_out is not None:
            raise DriverError("some were not inserted")
        return MongoResult(value="written")

    def raw(self, name: str) -> Any:
        return SimpleNamespace(delete_many=self._delete_many)

    def _delete_many(self, query: Any) -> str:
        self.wrote.append(query)
        self.meanwhile()
        return "written"

    async def answer(self, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        return call(*arguments, **options)

    write = answer

    def session_of(self, arguments: Any, options: Mapping[str, Any]) -> Any:
        return options.get("session")

    def transaction_refused(self, message: str) -> Exception:
        return TransientError(message)

    write_conflict = transaction_refused

    async def leader(self, migration: str) -> Marker | None:
        assert migration == "shop"
        self.asked += 1
        if self.error is not None:
            raise self.error
        return self.marker

    def is_driver_error(self, error: Exception) -> bool:
        return isinstance(error, DriverError)

    def not_inserted(self, error: Exception, documents: int, ordered: bool) -> frozenset[int] | None:
        return self.left_out

    def listed(self, documents: Any) -> Any:
        return documents

    def seen_time(self) -> None: ...


class Waits:
    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251


class Client:
    def __init__(self) -> None:
        self.ledger, self.door = FakeLedger(), Door()
        self.ledger.write(*MODE, MONGO.to_body(), expect=None)
        me = Identity(name="shop", mark="a", ended=lambda mark: False)
        self.member = Membership(lambda: self.ledger, lambda: me, lease_s=LEASE_S)
        nothing: Any = None
        door: Any = self.door
        calls: Any = Waits()
        parts = ClientContext(
            journal="", mappings={}, patterns=(), mongo=door, calls=calls, beside=nothing, membership=self.member,
            migration="shop", metrics=Metered(default_metrics(), self.member),
        )  # fmt: skip
        gate = WriteGate(parts)
        self.transactions = Transactions(parts, gate)
        self.delegated = DelegatedCalls(parts, gate, self.transactions)
        self.calls = CollectionCalls(parts, "users", self.delegated)

    def write(self) -> Any:
        """A call that MongoDB alone does."""
        return run(self.delegated.collection("users", "delete_many", MANY, ({"n": 1},), {}))

    def cut_off(self) -> None:
        self.ledger.faults.fail_always(TimedOut("no ledger"))
        eventually(lambda: run(self.member.begin(Waits())).alone, "a process without the ledger")  # type: ignore[arg-type]

    def lose_the_lease(self) -> None:
        """As one that is frozen for longer than it lives, and comes back under another leader."""
        self.ledger.faults.fail_always(TimedOut("no ledger"))
        time.sleep(2 * LEASE_S)
