"""How a write goes: under the mode of now, counted as in flight until it has ended, and acknowledged only if its database led."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from docferry.client.context import DYNAMODB, ClientContext, timed
from docferry.client.ticket import WriteTicket, Writing
from docferry.client.writes.confirm import Confirmation
from docferry.core.cutover.modes import ModeState
from docferry.errors import InstanceStruck, WritesFenced

T = TypeVar("T")

FENCED_WAIT_S = 5.0
"""How long a fenced process waits to hear who leads now, or for the fence to be lifted behind the mode."""
MOST_PAUSE_S = 0.5
STEP_S = 0.01


class FenceWait:
    """For how long MongoDB's fence has refused one write, under one epoch."""

    def __init__(self) -> None:
        self.epoch, self.since, self.pause_s = -1, 0.0, 0.0

    def goes_on(self, epoch: int) -> bool:
        """Whether it is tried again, `pause_s` from now."""
        now = time.monotonic()
        if epoch != self.epoch:
            self.epoch, self.since, self.pause_s = epoch, now, STEP_S
        self.pause_s = min(2 * self.pause_s, MOST_PAUSE_S)
        return now - self.since < FENCED_WAIT_S


class WriteGate:
    """Where each write of one client goes through."""

    def __init__(self, parts: ClientContext) -> None:
        self._parts, self._members, self._mongo, self._metrics = parts, parts.membership, parts.mongo, parts.metrics
        self._confirmation = Confirmation(parts)

    async def write(
        self,
        method: str,
        mongo: Callable[[ModeState], Awaitable[T]],
        dynamodb: Callable[[ModeState], Awaitable[T]],
    ) -> T:
        """Carry out a write under the mode of now. What MongoDB's fence refused has not happened: it goes by the next mode, or,
        if MongoDB leads and the fence is on its way down, once more by this one."""
        members, refused = self._members, None
        while True:
            begun = members.begin_now() or await members.begin(self._parts.calls)
            try:
                with Writing(begun, members.ended) as state:
                    if state.mode.dynamodb_leads:
                        with timed(self._metrics, DYNAMODB, method):
                            return await dynamodb(state)
                    return await self._to_mongodb(begun, mongo)
            except InstanceStruck:
                continue  # it has not happened, and never will; this process registers anew, and by whichever mode that is
            except WritesFenced as fenced:
                refused = refused or FenceWait()
                if not refused.goes_on(begun.state.epoch):
                    raise (fenced.__cause__ or fenced) from None
                await self._await_another_epoch(begun, refused.pause_s)

    async def _to_mongodb(self, begun: WriteTicket, mongo: Callable[[ModeState], Awaitable[T]]) -> T:
        known = await self._confirmation.before(begun) if begun.alone else begun.revision
        try:
            result = await mongo(_alone(begun.state) if begun.alone else begun.state)
        except Exception as error:
            if self._mongo.not_inserted(error, 0, ordered=False) is not None:  # it tells what was written, too
                await self._confirmation.behind(begun, known)
            raise
        await self._confirmation.behind(begun, known)
        return result

    async def _await_another_epoch(self, begun: WriteTicket, for_s: float) -> None:
        for _ in range(max(1, int(for_s / STEP_S))):
            if self._members.state.epoch != begun.state.epoch:
                return
            await self._parts.calls.sleep(STEP_S)


def _alone(state: ModeState) -> ModeState:
    """MongoDB alone: what a process does that cannot reach the ledger while MongoDB leads."""
    return ModeState(epoch=state.epoch)
