"""Calls that MongoDB alone does: pymongo's own, to the letter. What they write is left to replication, and counted by shape.

Once DynamoDB leads they are refused. A write begins and ends as every other does (`writes.gate`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from docferry.client.context import MONGO, ClientContext, timed
from docferry.client.transport.spending import spending
from docferry.client.writes.gate import WriteGate
from docferry.client.writes.transactions import Transactions
from docferry.core.access.calls import Call, shape_of_call, writes
from docferry.core.access.read_plan import BY
from docferry.core.cutover.modes import ModeState
from docferry.errors import CallRefused


@dataclass(frozen=True, slots=True)
class Later:
    """What DynamoDB does once it leads. Of a call that MongoDB does `note` counts beforehand what DynamoDB could not do, and
    `tell` looks afterwards at what pymongo gave, or raised."""

    note: Callable[[ModeState], None]
    dynamodb: Callable[[ModeState], Awaitable[Any]]
    tell: Callable[[Any], None] = lambda result: None


class DelegatedCalls:
    """Of one client, or of a view of it by other options."""

    def __init__(self, parts: ClientContext, gate: WriteGate, transactions: Transactions) -> None:
        self._parts, self.transactions, self.gate = parts, transactions, gate
        self._members, self._mongo, self._metrics = parts.membership, parts.mongo, parts.metrics

    async def collection(
        self, name: str, method: str, about: Call, arguments: Sequence[Any], options: Mapping[str, Any]
    ) -> Any:
        """A method of pymongo's collection."""
        call = getattr(self._mongo.raw(name), method)
        return await self.run(name, method, about, call, arguments, options)

    async def run(
        self,
        name: str,
        method: str,
        about: Call,
        call: Callable[..., Any],
        arguments: Sequence[Any],
        options: Mapping[str, Any],
        later: Later | None = None,
    ) -> Any:
        """`name` of the collection, empty for the database."""
        session, writing = self._mongo.session_of(arguments, options), writes(method, about, arguments)
        ask = self._mongo.write if writing else self._mongo.answer
        if later is None:
            self._require_served_later(name, method, about)

        async def mongo(state: ModeState) -> Any:
            if later is not None:
                later.note(state)
            elif state.write_to_dynamodb:
                self._count(name, method, arguments, options)
            tell = later.tell if later is not None else lambda result: None
            try:
                with timed(self._metrics, MONGO, method):
                    result = await ask(call, *arguments, **options)
            except Exception as error:
                tell(error)
                raise
            tell(result)
            return result

        def shape(way: str) -> str:
            told = shape_of_call(name, method, arguments, options)
            return f"{told} {BY}{way}" if way else told

        async def dynamodb(state: ModeState) -> Any:
            if later is None:
                raise self.refused(name, method, about)
            with spending(self._members.tally, shape):
                return await later.dynamodb(state)

        if writing:
            return await self.transactions.write(session, method, mongo, dynamodb)
        state = self.read(session)
        return await (dynamodb(state) if state.leader.dynamodb_leads else mongo(state))

    def read(self, session: Any) -> ModeState:
        """The mode by which a read goes that this session makes, or none. Raises what a transaction raises that has ended."""
        if session is not None:
            self.transactions.read(session)
        return self._members.follow()

    def lazily(self, name: str, method: str, about: Call, arguments: Sequence[Any], options: Mapping[str, Any]) -> Any:
        """A cursor of pymongo's that reads later."""
        state = self._members.follow()
        if state.leader.dynamodb_leads:
            raise self.refused(name, method, about)
        self._require_served_later(name, method, about)
        if state.write_to_dynamodb:
            self._count(name, method, arguments, options)
        self.transactions.read(self._mongo.session_of(arguments, options))
        return getattr(self._mongo.raw(name), method)(*arguments, **options)

    def refused(self, name: str, method: str, about: Call) -> CallRefused:
        where = name or "the database"
        return CallRefused(what=f"{where}.{method} cannot be done while DynamoDB leads", suggestion=about.instead)

    def _count(self, name: str, method: str, arguments: Sequence[Any], options: Mapping[str, Any]) -> None:
        self._members.tally.count_unserved(shape_of_call(name, method, arguments, options))

    def _require_served_later(self, name: str, method: str, about: Call) -> None:
        if self._parts.strict:
            raise self.refused(name, method, about)
