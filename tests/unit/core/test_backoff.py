"""Waits between attempts: full jitter below a doubling bound, until the time is over."""

from __future__ import annotations

import pytest
from docferry.core.backoff import Backoff
from docferry.errors import RetryExhausted, Throttled

SLOW = Throttled("slow down", operation="Put")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def longest(low: float, high: float) -> float:
    assert low == 0.0
    return high


def test_longest_wait_doubles_up_to_the_cap() -> None:
    attempts = Backoff(first_s=0.1, cap_s=1.0, uniform=longest).attempts("write")
    assert [attempts.failed(SLOW) for _ in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert attempts.number == 6


def test_waits_are_spread_between_nothing_and_the_longest() -> None:
    waits = [Backoff(first_s=1.0, cap_s=1.0).wait_s(5) for _ in range(2_000)]
    assert all(0.0 <= wait <= 1.0 for wait in waits)
    assert min(waits) < 0.05
    assert max(waits) > 0.95
    assert 0.45 < sum(waits) / len(waits) < 0.55


def test_a_wait_after_very_many_attempts_is_the_cap() -> None:
    assert Backoff(cap_s=5.0, uniform=longest).wait_s(100_000) == 5.0


def test_error_after_the_time_is_over_ends_it_and_is_the_cause() -> None:
    clock = Clock()
    attempts = Backoff(for_s=10.0, clock=clock).attempts("write")
    clock.now += 10.0
    attempts.failed(SLOW)
    clock.now += 0.1
    with pytest.raises(RetryExhausted, match="write") as raised:
        attempts.failed(SLOW)
    assert (raised.value.attempts, raised.value.__cause__) == (2, SLOW)
    assert raised.value.elapsed_s == pytest.approx(10.1)


def test_time_that_is_excused_does_not_count() -> None:
    clock = Clock()
    attempts = Backoff(for_s=10.0, clock=clock).attempts("write")
    clock.now += 60.0
    attempts.excused()
    clock.now += 9.0
    attempts.failed(SLOW)
    clock.now += 2.0
    with pytest.raises(RetryExhausted):
        attempts.failed("items stay unprocessed")
