"""Clients that write to MongoDB while others change who leads: one of the library, which freezes and wakes, and strangers."""

from __future__ import annotations

from contextvars import copy_context
from dataclasses import replace
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from docferry.client.membership import Membership
from docferry.client.ticket import WriteTicket, Writing
from docferry.client.transport.sync_driver import run
from docferry.client.writes.confirm import Confirmation
from docferry.core.cutover.instances import INSTANCES
from docferry.core.cutover.marker import Marker
from docferry.errors import LeaderUnknown, RequestRefused, WriteUnconfirmed
from docferry.flows.ledger.modes import instance_in
from docferry.ports.flows import Identity, Record
from docferry.testing.fakes import FakeFence

if TYPE_CHECKING:
    from support.cutover.stalls import World

ENDLESS_S = 1e6
"""Nothing waits here until a lease is over: it is over when its process freezes."""


class _Driven(Membership):
    """Whose beats are steps of the world's."""

    def join(self) -> None: ...


class Connected:
    """A process of the application: the client's own membership and confirmation, in a world where `act` is its next step.

    `acknowledged` are the times of those of its writes to MongoDB that the application was told have happened.
    """

    def __init__(self, world: World, seed: str) -> None:
        self.world, self.random = world, Random(seed)
        self.acknowledged: list[int] = []
        self.frozen = self.killed = False
        me = Identity(name="shop", mark="shop", ended=lambda mark: False)
        self.member = _Driven(lambda: world.ledger, lambda: me, lease_s=ENDLESS_S)
        metrics = SimpleNamespace(count=lambda name: None)
        parts: Any = SimpleNamespace(membership=self.member, mongo=self, migration="m", metrics=metrics)
        self._confirmation = Confirmation(parts)
        self._context = copy_context()  # in whichever thread it is given a step, it is the same process
        self._write: list[Any] = []  # the ticket and its block; what it knows; when MongoDB had it
        self._context.run(self.member._register)

    def act(self) -> None:
        if self.killed:
            return
        if self.frozen:
            self.frozen = self.random.random() > self._wakes()
        elif self.random.random() < (0.3 if self._written else 0.04):
            self._freeze()
        else:
            self._context.run(self._step)

    @property
    def _written(self) -> bool:
        """MongoDB has its write, and it has not been told."""
        return len(self._write) == 4

    def _wakes(self) -> float:
        """When it would do most harm: where MongoDB is open, and it is about to send."""
        return 0.15 if self._write and not self._written and not self.world.mongo.blocked else 0.01

    def _freeze(self) -> None:
        """For longer than its lease lives: no other process waits for it from now on."""
        self.frozen, self.member._deadline = True, 0.0
        record = self.world.ledger.read(INSTANCES, self.member.id)
        assert record is not None
        self.world.over[self.member.id] = record.revision

    def _step(self) -> None:
        if self.random.random() < 0.3:
            self.member._beat()  # a thread's, whatever else is on its way
            return
        if not self._write:
            self._begin()
            return
        begun: WriteTicket = self._write[0]
        if len(self._write) == 2:
            self._look_before(begun)
        elif len(self._write) == 3:
            self._send()
        else:
            self._confirm(begun)

    def _begin(self) -> None:
        try:
            begun = self.member.begin_now()
        except LeaderUnknown:
            begun = None
        if begun is None or begun.state.mode.dynamodb_leads:
            self.member._beat()
            return
        block = Writing(begun, self.member.ended)
        block.__enter__()
        self._write = [begun, block]

    def _end(self) -> None:
        self._write[1].__exit__(None, None, None)
        self._write = []

    def close(self) -> None:
        """It is killed: what is on its way is never acknowledged."""
        self.killed = True
        if self._write:
            self._context.run(self._end)

    def _look_before(self, begun: WriteTicket) -> None:
        try:
            self._write.append(run(self._confirmation.before(begun)) if begun.alone else begun.revision)
        except LeaderUnknown:
            self._end()

    def _send(self) -> None:
        if self.world.mongo.blocked:
            self._end()
        else:
            self._write.append(self.world.time)

    def _confirm(self, begun: WriteTicket) -> None:
        _, _, known, at = self._write
        try:
            run(self._confirmation.behind(begun, known))
            self.acknowledged.append(at)
        except WriteUnconfirmed:
            pass
        self._end()

    # --- MongoDB, as the client reaches it

    async def leader(self, migration: str) -> Marker | None:
        return self.world.leader.stored

    def is_driver_error(self, error: Exception) -> bool:
        return False


def as_others_see(record: Record, over: dict[str, int]) -> Record:
    """The record of an instance: the lease of one that froze is over until it is renewed."""
    if over.get(record.key) != record.revision:
        return record
    body = replace(instance_in(record), until_ms=0).to_body()
    return Record(record.section, record.key, record.revision, body)


class Strangers:
    """Clients without the library, who write whenever MongoDB lets them; `wrote` says when it did."""

    def __init__(self) -> None:
        self.wrote: list[int] = []

    def act(self, mongo: FakeFence, time: int) -> None:
        try:
            mongo.write()
        except RequestRefused:
            return
        self.wrote.append(time)
