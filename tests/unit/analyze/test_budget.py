"""What an analysis may read, and when it makes room for the application."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Iterator

import pytest
from docferry.errors import Stopped
from docferry.flows.analyze.budget import ReadBudget, Spent


def spent(pings: Iterable[float] = (1.0,), **budget: float) -> tuple[Spent, list[str], list[float]]:
    """A budget that is looked at each time; what it says, and for how long it waits."""
    said: list[str] = []
    waited: list[float] = []
    answers: Iterator[float] = itertools.chain(pings, itertools.repeat(1.0))
    one = Spent(ReadBudget(**budget), lambda: next(answers), threading.Event(), said.append, wait=waited.append)  # type: ignore[arg-type]
    return one, said, waited


def look(one: Spent) -> None:
    one._looked = -1e9  # a second has passed
    one.pace()


def test_what_the_server_counts_is_spent_as_what_is_read() -> None:
    one, _, _ = spent(total_bytes=1_000)
    one.add(3, 400)
    one.server_bytes += 500
    assert one.ended == ""
    assert one.room(100)
    assert not one.room(101)
    one.add(1, 100)
    assert "were read" in one.ended


def test_time_of_an_earlier_run_is_spent() -> None:
    one, _, _ = spent(seconds=60.0)
    assert one.ended == ""
    one.before_s = 61.0
    assert "minutes were over" in one.ended


def test_it_waits_while_the_server_is_slow_and_says_so_once() -> None:
    one, said, waited = spent([2.0, 2.0, 2.0, 80.0, 90.0, 70.0, 2.0])
    look(one)
    assert (said, waited) == ([], [])
    look(one)
    assert len(waited) == 3
    assert one.yielded_s == sum(waited)
    assert len(said) == 1
    assert "80 ms" in said[0]
    look(one)
    assert len(waited) == 3


def test_a_little_slower_is_not_busy() -> None:
    one, _, waited = spent([0.2, 0.2, 0.2, 3.0, 3.0])
    look(one)
    look(one)
    assert waited == []


def test_stop_ends_it_at_once() -> None:
    one, _, _ = spent()
    one.stop.set()  # type: ignore[attr-defined]
    with pytest.raises(Stopped):
        one.pace()
