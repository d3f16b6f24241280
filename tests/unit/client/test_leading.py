"""A write that meets others while DynamoDB leads: it waits at random and tries again, for a bounded time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from docferry.client.transport.sync_driver import run
from docferry.client.writes import leading as module
from docferry.client.writes.leading import until_taken
from docferry.core.backoff import Backoff
from docferry.errors import ConditionFailed, Unavailable


class Waits:
    """How long each wait was to be."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


def parts(waits: Waits) -> Any:
    return SimpleNamespace(mongo=None, metrics=SimpleNamespace(count=lambda name: None), calls=waits)


def met(times: int) -> Callable[[], Awaitable[str]]:
    """An attempt that another writer beats so many times."""
    left = [times]

    async def attempt() -> str:
        if left[0]:
            left[0] -= 1
            raise ConditionFailed("another writer was quicker", operation="TransactWriteItems")
        return "written"

    return attempt


def test_write_that_is_beaten_many_times_is_written_in_the_end() -> None:
    waits = Waits()
    assert run(until_taken(parts(waits), "users", met(40))) == "written"
    assert len(waits.slept) == 40


def test_waits_differ_so_that_writers_do_not_meet_again_and_are_bounded() -> None:
    waits = Waits()
    run(until_taken(parts(waits), "users", met(40)))
    assert len(set(waits.slept)) == 40
    assert max(waits.slept) <= module.BACKOFF.cap_s


def test_write_that_is_beaten_for_too_long_fails_and_says_so() -> None:
    with pytest.raises(Unavailable, match="users: the document was changed by others 1 times in a row"):
        run(until_taken(parts(Waits()), "users", met(1), Backoff(for_s=-1.0)))
