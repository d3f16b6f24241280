"""How a call is tried again: which waits, and for how long. Nothing here sleeps or calls: the caller does, blocking or not."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from docferry.errors import RetryExhausted


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """The policy of one kind of call.

    for_s:   seconds from the first attempt until a further error ends it
    first_s: the longest wait before the second attempt; it doubles with each attempt
    cap_s:   the longest wait of all

    Why: a wait is uniform between nothing and its longest ("full jitter"), so that many processes which failed together do
         not come back together.
    Source: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/, read 2026-11-29.
    """

    for_s: float = 120.0
    first_s: float = 0.2
    cap_s: float = 5.0
    clock: Callable[[], float] = time.monotonic
    uniform: Callable[[float, float], float] = random.uniform

    def attempts(self, operation: str) -> Attempts:
        """The attempts at one call, of which the first begins now."""
        return Attempts(self, operation)

    def wait_s(self, number: int) -> float:
        """Seconds to wait after attempt `number` has failed; the first attempt is 1."""
        return self.uniform(0.0, min(self.cap_s, self.first_s * 2 ** min(number - 1, 32)))


class Attempts:
    """Attempts at one call: `number` have failed."""

    def __init__(self, policy: Backoff, operation: str) -> None:
        self._policy, self._operation = policy, operation
        self.number = 0
        self._began = policy.clock()

    @property
    def elapsed_s(self) -> float:
        """Seconds that count, since the first attempt began."""
        return self._policy.clock() - self._began

    def failed(self, error: Exception | str) -> float:
        """An attempt has failed: seconds to wait before the next one. Raises RetryExhausted, caused by `error`, if it was the
        last."""
        self.number += 1
        if self.elapsed_s > self._policy.for_s:
            cause = error if isinstance(error, Exception) else None
            raise RetryExhausted(self._operation, self.number, self.elapsed_s, str(error)) from cause
        return self._policy.wait_s(self.number)

    def discount(self, seconds: float) -> None:
        """So much of the time until now does not count: something else was waited for."""
        self._began += seconds

    def excused(self) -> float:
        """An attempt has failed for a reason that is known and out-waited, so no time counts yet: seconds to wait."""
        self.number += 1
        self._began = self._policy.clock()
        return self._policy.wait_s(self.number)
