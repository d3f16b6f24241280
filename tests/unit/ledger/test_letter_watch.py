"""Flows that look for dead letters every few seconds read one small record; they list when a letter has been opened."""

from __future__ import annotations

import pytest
from docferry.errors import ConditionFailed, RefusedByStore, Unavailable
from docferry.flows.ledger.dead_letters import LIST_ALL_S, LetterWatch, close_letter, list_letters, open_letter
from docferry.ports.flows import Record
from docferry.testing.fakes import FakeLedger
from support.replicate.fake_world import World

LETTERS = 300


class CountingLedger(FakeLedger):
    """Counts the records that are read, one by one or in lists."""

    def __init__(self) -> None:
        super().__init__()
        self.records_read = 0

    def read(self, section: str, key: str) -> Record | None:
        self.records_read += 1
        return super().read(section, key)

    def list(self, section: str, prefix: str = "") -> list[Record]:
        found = super().list(section, prefix)
        self.records_read += len(found)
        return found


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def open_one(ledger: FakeLedger, number: int, version: int = 1) -> None:
    error = RefusedByStore("no")
    error.namespace, error.id = "docs", f"~i{number}"
    open_letter(ledger, "docs", error, b"document", version)


@pytest.fixture
def ledger() -> CountingLedger:
    found = CountingLedger()
    for number in range(LETTERS):
        open_one(found, number)
    found.records_read = 0
    return found


def test_letters_are_listed_once_and_a_look_is_one_read_while_nobody_opens_one(ledger: CountingLedger) -> None:
    clock = Clock()
    watch = LetterWatch(ledger, "docs", clock)
    assert len(watch.look() or ()) == LETTERS
    for _ in range(50):
        clock.now += 10.0
        assert watch.look() is None
    assert ledger.records_read == LETTERS + 51


def test_one_that_is_opened_or_opened_anew_is_seen_at_the_next_look(ledger: CountingLedger) -> None:
    watch = LetterWatch(ledger, "docs")
    watch.look()
    for number, version in ((LETTERS, 1), (0, 2)):
        open_one(ledger, number, version)
        found = {letter.id: letter.version for letter in watch.look() or ()}
        assert found[f"~i{number}"] == version


def test_one_that_is_opened_while_another_is_noted_is_seen() -> None:
    """The note of the first finds that the second has noted itself in between, and leaves it at that."""

    class Busy(CountingLedger):
        meets = True

        def write(self, *arguments: object, **options: object) -> Record:
            if arguments[0] == "letters" and self.meets:
                self.meets = False
                open_one(self, 2)
            return super().write(*arguments, **options)  # type: ignore[arg-type]

    ledger = Busy()
    watch = LetterWatch(ledger, "docs")
    assert watch.look() == []
    open_one(ledger, 1)
    assert {letter.id for letter in watch.look() or ()} == {"~i1", "~i2"}


def test_one_that_was_never_noted_is_seen_within_ten_minutes() -> None:
    class Dies(CountingLedger):
        def write(self, *arguments: object, **options: object) -> Record:
            if arguments[0] == "letters":
                raise Unavailable("gone")
            return super().write(*arguments, **options)  # type: ignore[arg-type]

    ledger, clock = Dies(), Clock()
    watch = LetterWatch(ledger, "docs", clock)
    watch.look()
    with pytest.raises(Unavailable):
        open_one(ledger, 1)
    assert watch.look() is None
    clock.now += LIST_ALL_S
    assert [letter.id for letter in watch.look() or ()] == ["~i1"]


def test_a_list_that_fails_is_made_at_the_next_look(ledger: CountingLedger) -> None:
    watch = LetterWatch(ledger, "docs")
    original = ledger.list
    ledger.list = lambda *_: (_ for _ in ()).throw(Unavailable("gone"))  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        watch.look()
    ledger.list = original  # type: ignore[method-assign]
    assert len(watch.look() or ()) == LETTERS


def test_a_letter_that_is_closed_costs_a_watch_nothing(ledger: CountingLedger) -> None:
    watch = LetterWatch(ledger, "docs")
    found = watch.look()
    assert found
    first = found[0]
    close_letter(ledger, first)
    assert watch.look() is None
    with pytest.raises(ConditionFailed):
        close_letter(ledger, first)
    assert len(list_letters(ledger, "docs")) == LETTERS - 1


def test_replication_lists_letters_only_when_one_was_opened() -> None:
    world = World(1)
    world.ledger = world.common["ledger"] = ledger = CountingLedger()
    world.load()
    for number in range(LETTERS):
        open_one(ledger, number + 10)
    from docferry.flows.ledger.positions import recorded_position
    from docferry.flows.replicate.lanes import Applying, Lanes
    from docferry.flows.replicate.report import ReplicationReport

    position = recorded_position(ledger)
    assert position is not None
    common = {name: world.common[name] for name in ("migration", "source", "ledger", "stop")}
    work = Applying(target=world.target, budget=None, guard=lambda: None, **common)  # type: ignore[arg-type]
    lanes = Lanes(work, position, ReplicationReport().books)
    ledger.records_read = 0
    for _ in range(20):
        lanes.look_for_letters()
    assert ledger.records_read == LETTERS + 20
