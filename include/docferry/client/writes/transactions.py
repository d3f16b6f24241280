"""Transactions: pymongo's own while MongoDB leads, ours (`items.optimistic`) once DynamoDB does.

None is committed across a change of the mode.

Each write of one, and its commit, begins and ends as a write of its own: counted as in flight, under the mode of then. Between
them nothing is in flight, so that no change of the leader waits for an application that thinks. If the mode has changed
since the transaction's first operation, the next one ends it, and says so as MongoDB does for a transaction that is gone
(TransientTransactionError): `with_transaction` begins it anew, and its first write waits for the end of the hold.

Once DynamoDB leads, pymongo's session sends nothing to MongoDB: its own transaction stays one that has not begun.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from docferry.client.context import ClientContext
from docferry.client.items.optimistic import OptimisticTransaction
from docferry.client.journal.write import CommitTicket
from docferry.client.transport.spending import spending
from docferry.client.writes.gate import FenceWait, WriteGate
from docferry.core.cutover.modes import Mode, ModeState
from docferry.errors import (
    ConditionFailed,
    KeyTaken,
    LeaseLost,
    RetryExhausted,
    TransientStoreError,
    WritesFenced,
    WriteUnconfirmed,
)

T = TypeVar("T")
MAY_HAVE_HAPPENED = (TransientStoreError, RetryExhausted, LeaseLost)
"""Errors of a request of which an attempt may have got through."""
_NOTHING = "nothing of this transaction was written"
_ENDED = f"the mode has changed since it began: {_NOTHING}"


@dataclass(slots=True)
class _Transaction:
    """`epoch` is that of its first operation here; None before that. `sent`: its commit may have happened.

    Of one of DynamoDB's: `optimistic` until it is committed, and the `ticket` of its commit.
    """

    epoch: int | None = None
    sent: bool = False
    fenced: FenceWait = field(default_factory=FenceWait)
    optimistic: OptimisticTransaction | None = None
    ticket: CommitTicket = field(default_factory=CommitTicket)
    committed: bool = False


class Transactions:
    """Of one client."""

    def __init__(self, parts: ClientContext, gate: WriteGate) -> None:
        self._parts, self._mongo, self._members, self._gate = parts, parts.mongo, parts.membership, gate
        self._open: MutableMapping[Any, _Transaction] = WeakKeyDictionary()

    def begun(self, session: Any) -> None:
        self._open[session] = _Transaction()
        self._parts.sessions.pop(session, None)

    def read(self, session: Any) -> None:
        """An operation that writes nothing: it does not wait, but what it has read must not be written by later.

        Raises what `transaction_refused` makes, if DynamoDB leads, and did not when the transaction began.
        """
        if session is None or not session.in_transaction:
            return
        known, state = self._of(session), self._members.follow()
        known.epoch = state.epoch if known.epoch is None else known.epoch
        if state.leader.dynamodb_leads:
            if known.epoch != state.epoch:
                raise self._mongo.transaction_refused(_ENDED)
            self._optimistic(session, known)

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

        async def leading(state: ModeState) -> T:
            await self._require_same(session, known, state)
            transaction = self._optimistic(session, known)
            try:
                return await dynamodb(state)
            except Exception as error:  # as in MongoDB, an error ends the transaction
                transaction.end(type(error).__name__)
                raise

        async def once(state: ModeState) -> T:
            await self._require_same(session, known, state)
            try:
                return await mongo(state)
            except WritesFenced as fenced:  # MongoDB has ended the transaction: this write alone is not made again
                if not known.fenced.goes_on(state.epoch):
                    raise (fenced.__cause__ or fenced) from None
                raise self._mongo.transaction_refused(str(fenced)) from fenced

        return await self._gate.write(method, once, leading)

    async def commit(self, session: Any, commit: Callable[[], Any]) -> None:
        """Raises: WriteUnconfirmed, if another database leads by now than the one that may have committed it; as pymongo does."""
        known = self._open.get(session)
        if known is not None and known.optimistic is not None:
            await self._commit_optimistic(session, known, known.optimistic, commit)
            return
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
            await self._end(session)

        await self._gate.write("commit_transaction", mongo, dynamodb)

    # --- of DynamoDB -------------------------------------------------------------------------------------------------

    def _optimistic(self, session: Any, known: _Transaction) -> OptimisticTransaction:
        if known.optimistic is None:
            known.optimistic = OptimisticTransaction(
                self._parts.calls,
                lambda: self._members.state.epoch == known.epoch,
                self._conflict,
                self._mongo.transaction_refused,
            )
            self._parts.sessions[session] = known.optimistic
        return known.optimistic

    def _conflict(self, message: str) -> Exception:
        self._parts.metrics.count("transaction.conflict")
        return self._mongo.write_conflict(message)

    async def _commit_optimistic(
        self, session: Any, known: _Transaction, transaction: OptimisticTransaction, commit: Callable[[], Any]
    ) -> None:
        await self._mongo.answer(commit)  # pymongo's own checks: it sends nothing
        if known.committed:
            return
        if not known.sent and self._members.state.mode is Mode.HOLD:
            raise self._mongo.transaction_refused(_ENDED)

        async def dynamodb(state: ModeState) -> None:
            with spending(self._members.tally, lambda way: "commit_transaction"):
                await (self._settle(known) if known.sent else self._try(known, transaction, state))

        async def mongo(state: ModeState) -> None:
            if not known.sent:
                raise self._mongo.transaction_refused(_ENDED)
            await self._settle(known)

        await self._gate.write("commit_transaction", mongo, dynamodb)

    async def _try(self, known: _Transaction, transaction: OptimisticTransaction, state: ModeState) -> None:
        if known.epoch != state.epoch:
            raise self._mongo.transaction_refused(_ENDED)
        known.ticket = CommitTicket()
        try:
            await transaction.commit(self._parts.putter, state.floor, known.ticket)
        except ConditionFailed as error:
            raise self._conflict(f"a document was changed by others meanwhile: {_NOTHING}") from error
        except KeyTaken as error:
            raise self._mongo.duplicate_key(error) from error
        except (*MAY_HAVE_HAPPENED, KeyboardInterrupt, CancelledError) as error:
            known.sent = known.ticket.sent
            if not known.sent or not isinstance(error, MAY_HAVE_HAPPENED):
                raise
            raise self._mongo.commit_unknown(f"the commit's answer is missing ({error})") from error
        known.committed = True

    async def _settle(self, known: _Transaction) -> None:
        """Find out whether an earlier attempt has committed; if not, it never will. Raises: WriteUnconfirmed."""
        if known.ticket.lane is None and self._members.state.epoch != known.epoch:
            raise WriteUnconfirmed(
                "the commit's answer was lost, and the mode has changed: look, before it is done again"
            )
        journal = self._parts.journal_of(self._members.own_lanes)
        try:
            known.committed = await journal.happened(self._parts.calls, self._members.check, known.ticket)
        except MAY_HAVE_HAPPENED as error:
            raise self._mongo.commit_unknown(f"whether it was committed is not known yet ({error})") from error
        if not known.committed:
            raise self._conflict(f"the commit has not happened: {_NOTHING}")

    # --- what holds for both -----------------------------------------------------------------------------------------

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
