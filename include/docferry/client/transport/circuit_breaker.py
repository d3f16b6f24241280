"""DynamoDB beside a MongoDB that leads: asked in a hurry, and left alone for a while when it does not answer.

A request of a user waits behind each of these calls, and MongoDB has what was asked for. So a dual put, a read, or a comparison
that DynamoDB does not answer soon is given up; after some in a row nothing is asked of it for a moment.
Replication heals the puts.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from docferry.client.transport.through import ThroughCalls
from docferry.core.backoff import Backoff
from docferry.errors import RetryExhausted, TransientStoreError, Unavailable
from docferry.ports.client import DynamoCalls
from docferry.ports.flows import Guard

TIMEOUT_S = 1.0
"""For one answer."""
BACKOFF = Backoff(for_s=0.5, first_s=0.1, cap_s=5.0)
IN_A_ROW = 3
REST_S = 5.0


class CircuitBreaker(ThroughCalls):
    """Calls that stop asking for `REST_S` after `IN_A_ROW` that were not answered. `calls` must be in a hurry themselves."""

    def __init__(self, calls: DynamoCalls) -> None:
        super().__init__(calls)
        self._failed = 0
        self._rests_until = 0.0

    def __repr__(self) -> str:
        return f"CircuitBreaker({self._calls!r})"

    async def call(self, operation: str, request: Mapping[str, Any], guard: Guard | None = None) -> dict[str, Any]:
        """Raises Unavailable at once while it rests; the first call after that tries again."""
        if time.monotonic() < self._rests_until:
            raise Unavailable(
                f"DynamoDB did not answer {IN_A_ROW} times in a row: {operation} was not sent", operation=operation
            )
        try:
            reply = await self._calls.call(operation, request, guard)
        except (TransientStoreError, RetryExhausted):
            self._failed += 1
            if self._failed >= IN_A_ROW:
                self._rests_until = time.monotonic() + REST_S
            raise
        self._failed = 0
        return reply
