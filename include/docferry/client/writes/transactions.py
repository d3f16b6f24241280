"""Transactions of MongoDB while that leads: pymongo's own, and none is committed across a change of the mode.

Each write of one, and its commit, begins and ends as a write of its own: counted as in flight, under the mode of then. Between
them nothing is in flight, so that no change of the leader waits for an application that thinks. If the mode has changed
since the transaction's first operation, the next one ends it, and says so as MongoDB does for a transaction that is gone
(TransientTransactionError): `with_transaction` begins it anew, and its first write waits for the end of the hold.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from docferry.client.context import ClientContext
from docferry.client.writes.gate import FenceWait, WriteGate
from docferry.core.access.calls import SESSIONS
from docferry.core.cutover.modes import Mode, ModeState
from docferry.errors import CallRefused, WritesFenced, WriteUnconfirmed

T = TypeVar("T")
_ENDED = "the mode has changed since this transaction began: nothing of it was written"


@dataclass(slots=True)
class _Transaction:
    """`epoch` is that of its first operation here; None before that. `sent`: its commit may have happened."""

    epoch: int | None = None
    sent: bool = False
    fenced: FenceWait = field(default_factory=FenceWait)


class Transactions:
    """Of one client."""

    def __init__(self, parts: ClientContext, gate: WriteGate) -> None:
        self._mongo, self._members, self._gate = parts.mongo, parts.membership, gate
        self._open: MutableMapping[Any, _Transaction] = WeakKeyDictionary()

    def begun(self, session: Any) -> None:
        self._open[session] = _Transaction()

    def read(self, session: Any) -> None:
        """An operation that writes nothing: it does not wait, but what it has read must not be written by later."""
        if session is not None and session.in_transaction:
            known = self._of(session)
            known.epoch = self._members.state.epoch if known.epoch is None else known.epoch

    async def write(
        self,
        session: Any,
        method: str,
        mongo: Callable[[ModeState], Awaitable[T]],
        dynamodb: Callable[[ModeState], Awaitable[T]],
    ) -> T:
        """A write by this session, or by none."""
        if session is None or not session.in_transaction:
            return await self._gate.write(method, mongo, dynamodb)
        known = self._of(session)
        await self._end_if_held(session, known)

        async def once(state: ModeState) -> T:
            await self._require_same(session, known, state)
            try:
                return await mongo(state)
            except WritesFenced as fenced:  # MongoDB has ended the transaction: this write alone is not made again
                if not known.fenced.goes_on(state.epoch):
                    raise (fenced.__cause__ or fenced) from None
                raise self._mongo.transaction_refused(str(fenced)) from fenced

        return await self._gate.write(method, once, dynamodb)

    async def commit(self, session: Any, commit: Callable[[], Any]) -> None:
        """Raises: WriteUnconfirmed, if DynamoDB leads and an earlier attempt may have committed; CallRefused, if it leads."""
        known = self._open.get(session)
        if known is None or known.epoch is None:  # nothing of this migration was written
            await self._mongo.answer(commit)
            return
        if not known.sent:
            await self._end_if_held(session, known)

        async def mongo(state: ModeState) -> None:
            if not known.sent:
                await self._require_same(session, known, state)
            known.sent = True
            await self._mongo.write(commit)

        async def dynamodb(state: ModeState) -> None:
            if known.sent:
                raise WriteUnconfirmed(
                    "the commit's answer was lost, and DynamoDB leads now: look, before it is done again"
                )
            await self._mongo.answer(session.abort_transaction)
            raise CallRefused(what="a transaction of MongoDB, and DynamoDB leads", suggestion=SESSIONS.instead)

        await self._gate.write("commit_transaction", mongo, dynamodb)

    def _of(self, session: Any) -> _Transaction:
        return self._open.setdefault(session, _Transaction())

    async def _end_if_held(self, session: Any, known: _Transaction) -> None:
        """What is open in MongoDB does not wait there for the end of a hold: the fence would wait for it."""
        if known.epoch is not None and self._members.state.mode is Mode.HOLD:
            await self._end(session)

    async def _require_same(self, session: Any, known: _Transaction, state: ModeState) -> None:
        if known.epoch is None:
            known.epoch = state.epoch
        elif known.epoch != state.epoch:
            await self._end(session)

    async def _end(self, session: Any) -> None:
        await self._mongo.answer(session.abort_transaction)
        raise self._mongo.transaction_refused(_ENDED)
