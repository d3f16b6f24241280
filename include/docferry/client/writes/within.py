"""A call with a session, once DynamoDB leads: as any other call, in the session's transaction, and begun already."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from docferry.client.context import ClientContext
from docferry.client.writes.delegated import DelegatedCalls
from docferry.client.writes.gate import WriteGate
from docferry.client.writes.transactions import Transactions
from docferry.core.cutover.modes import ModeState

T = TypeVar("T")


class _Begun(WriteGate):
    """Of a write that is counted as in flight already."""

    def __init__(self, state: ModeState) -> None:
        self._state = state

    async def write(
        self,
        method: str,
        mongo: Callable[[ModeState], Awaitable[T]],
        dynamodb: Callable[[ModeState], Awaitable[T]],
    ) -> T:
        return await dynamodb(self._state)


def within(parts: ClientContext, session: Any, state: ModeState) -> tuple[ClientContext, DelegatedCalls]:
    """By what the call goes on, without its session."""
    parts, gate = parts.within(session), _Begun(state)
    return parts, DelegatedCalls(parts, gate, Transactions(parts, gate))
