"""The records of the application's processes: the old ones go under a condition that is true, and what they counted stays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from docferry.core.cutover.instances import EXPIRES, INSTANCES, KEPT_S, Instance
from docferry.core.cutover.modes import CROWD, MODE, Mode, ModeState
from docferry.core.cutover.spent_shapes import MOST_KEPT, SpentBy, added
from docferry.errors import Unavailable
from docferry.flows.ledger.modes import crowd_in, list_instances
from docferry.flows.ledger.rooms.instances import (
    BATCH,
    CLEARED,
    ENDED_FOR_S,
    MOST_SHAPES,
    VANISHED_FOR_S,
    Housekeeping,
    clear_instances,
    let_expire,
    may_be_cleared,
    note_crowd,
)
from docferry.flows.ledger.times import now_ms
from docferry.ports.flows import Identity, Record
from docferry.testing.fakes import FakeLedger

DEAD = "mark of a dead one"
US = Identity(name="us", mark="mark", ended=lambda mark: mark == DEAD)
LONG_MS, VERY_LONG_MS = int((ENDED_FOR_S + 60) * 1000), int((VANISHED_FOR_S + 60) * 1000)


def instance(name: str, ago_ms: int, **changes: Any) -> Instance:
    at = now_ms() - ago_ms
    one = Instance(
        id=name, name=name, mark="m", epoch=1, registered_ms=at, beat_ms=at, until_ms=at, counts={"read.served": 2}
    )
    return replace(one, **changes)


def ledger_of(*instances: Instance, mode: Mode = Mode.DUAL_WRITE) -> FakeLedger:
    ledger = FakeLedger()
    ledger.write(*MODE, replace(ModeState(), mode=mode).to_body(), expect=None)
    for one in instances:
        ledger.write(INSTANCES, one.id, one.to_body(), expect=None)
    return ledger


def names(ledger: FakeLedger) -> set[str]:
    return {one.id for one in list_instances(ledger)} - {CLEARED}


CASES = {
    "ended long ago": (instance("a", LONG_MS, ended=True), True),
    "ended just now": (instance("a", 60_000, ended=True), False),
    "proved dead, long ago": (instance("a", LONG_MS, mark=DEAD), True),
    "proved dead just now": (instance("a", 60_000, mark=DEAD), False),
    "its lease ended long ago, and nobody knows": (instance("a", LONG_MS), False),
    "its lease ended very long ago": (instance("a", VERY_LONG_MS), True),
    "alive": (instance("a", -10_000), False),
}


@pytest.mark.parametrize(("one", "goes"), CASES.values(), ids=CASES)
def test_only_old_records_of_processes_that_are_over_are_cleared(one: Instance, goes: bool) -> None:
    assert may_be_cleared(one, US, now_ms()) is goes
    ledger = ledger_of(one)
    assert clear_instances(ledger, US) == int(goes)
    assert names(ledger) == (set() if goes else {"a"})


@pytest.mark.parametrize("mode", [Mode.DYNAMODB_ONLY, Mode.FINAL])
def test_none_is_cleared_while_dynamodb_leads(mode: Mode) -> None:
    assert clear_instances(ledger_of(instance("a", VERY_LONG_MS, ended=True), mode=mode), US) == 0


def test_in_final_records_of_processes_that_do_not_live_expire() -> None:
    """One that lives says so itself: its record may not change without it."""
    ledger = ledger_of(instance("ended", 0, ended=True), instance("gone", 60_000), instance("alive", -10_000))
    assert let_expire(ledger, US) == 2
    given = {record.key: record.body.get(EXPIRES, 0) for record in ledger.list(INSTANCES)}
    assert given["alive"] == 0
    assert all(abs(given[one] - now_ms() // 1000 - KEPT_S) < 60 for one in ("ended", "gone"))
    assert let_expire(ledger, US) == 0


def test_what_the_cleared_ones_counted_stays_part_of_every_sum() -> None:
    ended = [
        instance(f"e{number}", LONG_MS, ended=True, counts={"shadow.mismatch": 1}, unserved={"find users": 2})
        for number in range(2 * BATCH + 3)
    ]
    ledger = ledger_of(*ended, instance("alive", -10_000))
    before = sum(one.counts.get("shadow.mismatch", 0) for one in list_instances(ledger))
    assert clear_instances(ledger, US) == len(ended)
    after = list_instances(ledger)
    assert len(after) == 2
    assert sum(one.counts.get("shadow.mismatch", 0) for one in after) == before == len(ended)
    assert sum(sum(one.unserved.values()) for one in after) == 2 * len(ended)
    assert [one.id for one in after if one.is_live(now_ms())] == ["alive"]
    assert clear_instances(ledger, US) == 0


def test_shapes_of_calls_stay_bounded() -> None:
    ended = [instance(f"e{n}", LONG_MS, ended=True, unserved={f"find {n}": 1}) for n in range(3 * MOST_SHAPES)]
    ledger = ledger_of(*ended)
    clear_instances(ledger, US)
    (total,) = list_instances(ledger)
    assert len(total.unserved) <= MOST_SHAPES + 1
    assert sum(total.unserved.values()) == 3 * MOST_SHAPES


def test_what_calls_of_cleared_processes_have_cost_stays() -> None:
    ended = [
        instance(f"e{n}", LONG_MS, ended=True, spent={f"find {n % 60}": SpentBy(1, 0.5, 2.0)}, spent_since_ms=1_000 + n)
        for n in range(120)
    ]
    ledger = ledger_of(*ended)
    clear_instances(ledger, US)
    (total,) = list_instances(ledger)
    assert len(total.spent) == MOST_KEPT + 1
    assert added([{"all": one} for one in total.spent.values()]) == {"all": SpentBy(120, 60.0, 240.0)}
    assert total.spent_since_ms == 1_000


@pytest.mark.parametrize("dies_at", range(8))
def test_a_clearing_that_dies_at_any_step_counts_nothing_twice_and_loses_nothing(dies_at: int) -> None:
    class Dies(FakeLedger):
        left = 10**6

        def _step(self) -> None:
            self.left -= 1
            if self.left < 0:
                raise Unavailable("gone")

        def write(self, *arguments: Any, **options: Any) -> Record:
            self._step()
            return super().write(*arguments, **options)

        def delete(self, record: Record) -> None:
            self._step()
            super().delete(record)

    ledger = Dies()
    for number in range(6):
        one = instance(f"e{number}", LONG_MS, ended=True)
        ledger.write(INSTANCES, one.id, one.to_body(), expect=None)
    ledger.left = dies_at
    try:
        clear_instances(ledger, US)
    except Unavailable:
        ledger.left = 10**6
        clear_instances(ledger, US)
    (total,) = list_instances(ledger)
    assert total.counts == {"read.served": 12}


def test_two_that_clear_at_once_count_nothing_twice() -> None:
    class Meets(FakeLedger):
        met = False

        def write(self, section: str, key: str, *rest: Any, **options: Any) -> Record:
            if key == CLEARED and not self.met:
                self.met = True
                clear_instances(self, US)
            return super().write(section, key, *rest, **options)

    ledger = Meets()
    for number in range(3):
        one = instance(f"e{number}", LONG_MS, ended=True)
        ledger.write(INSTANCES, one.id, one.to_body(), expect=None)
    clear_instances(ledger, US)
    (total,) = list_instances(ledger)
    assert total.counts == {"read.served": 6}


def test_how_many_live_is_noted_when_it_has_changed_by_much() -> None:
    ledger = ledger_of(*(instance(f"i{number}", -10_000) for number in range(8)), instance("gone", 60_000))
    assert note_crowd(ledger, US) == 8
    first = ledger.read(*CROWD)
    assert crowd_in(first) == 8
    one = instance("i9", -10_000)
    ledger.write(INSTANCES, one.id, one.to_body(), expect=None)
    note_crowd(ledger, US)
    assert ledger.read(*CROWD) == first, "one more is not worth a write"


def test_whoever_replicates_counts_every_minute_and_clears_every_hour() -> None:
    class Clock:
        now = 0.0

    clock, ledger = Clock(), ledger_of(instance("a", LONG_MS, ended=True), instance("b", -10_000))
    kept = Housekeeping(lambda: clock.now)
    kept.look(ledger, US)
    assert names(ledger) == {"b"}
    again = instance("c", LONG_MS, ended=True)
    ledger.write(INSTANCES, again.id, again.to_body(), expect=None)
    clock.now += 3_000
    kept.look(ledger, US)
    assert names(ledger) == {"b", "c"}
    clock.now += 700
    kept.look(ledger, US)
    assert names(ledger) == {"b"}
