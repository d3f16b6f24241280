"""A page that looks every few seconds asks for what can have changed, and misses nothing for long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from docferry.errors import ItemTooLarge
from docferry.flows.ledger.dead_letters import LIST_ALL_S, OPENINGS, close_letter, list_letters, open_letter
from docferry.flows.ledger.load_headers import Chunk, Counts, LoadHeader, LoadHeaders, chunk_in, create_chunk
from docferry.flows.reporting.memory import OTHERS_EVERY, RoomMemory
from docferry.ports.flows import Record
from docferry.testing.fakes import FakeLedger

NAMES = [f"c{number}" for number in range(40)]
EMPTY = b"\x05\x00\x00\x00\x00"


class Asked(FakeLedger):
    """Notes which sections were listed since `of_look` was called last."""

    def __init__(self) -> None:
        super().__init__()
        self.sections: list[str] = []

    def list(self, section: str, prefix: str = "") -> list[Record]:
        self.sections.append(section)
        return super().list(section, prefix)

    def of_look(self) -> Sequence[str]:
        found, self.sections = self.sections, []
        return found


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def ledger() -> Asked:
    return Asked()


def refuse(ledger: FakeLedger, collection: str, id_text: str) -> None:
    open_letter(ledger, collection, ItemTooLarge("too large", id=id_text, path="x"), EMPTY, 1)


# --- dead letters -----------------------------------------------------------------------------------------------------


def test_a_look_lists_the_letters_of_those_collections_only_that_have_some(ledger: Asked) -> None:
    refuse(ledger, "c3", "~i1")
    memory = RoomMemory()
    assert memory.letters(ledger, NAMES) == dict.fromkeys(NAMES, 0) | {"c3": 1}
    ledger.of_look()
    assert memory.letters(ledger, NAMES)["c3"] == 1
    assert ledger.of_look() == [OPENINGS, "dead:c3"]


def test_letters_that_were_opened_or_closed_since_are_seen_by_the_next_look(ledger: Asked) -> None:
    memory = RoomMemory()
    assert sum(memory.letters(ledger, NAMES).values()) == 0
    refuse(ledger, "c5", "~i1")
    refuse(ledger, "c5", "~i2")
    assert memory.letters(ledger, NAMES)["c5"] == 2
    for letter in list_letters(ledger, "c5"):
        close_letter(ledger, letter)
    assert memory.letters(ledger, NAMES)["c5"] == 0
    refuse(ledger, "c5", "~i3")
    assert memory.letters(ledger, NAMES)["c5"] == 1


def test_a_letter_whose_opening_was_not_noted_is_seen_when_all_are_listed_again(ledger: Asked) -> None:
    clock = Clock()
    memory = RoomMemory(monotonic=clock)
    memory.letters(ledger, NAMES)
    refuse(ledger, "c5", "~i1")
    (noted,) = FakeLedger.list(ledger, OPENINGS)
    ledger.delete(noted)
    assert memory.letters(ledger, NAMES)["c5"] == 0
    clock.now_s = LIST_ALL_S
    assert memory.letters(ledger, NAMES)["c5"] == 1


# --- loads ------------------------------------------------------------------------------------------------------------


def begin(ledger: FakeLedger, name: str, chunks: int) -> LoadHeader:
    header = LoadHeaders(ledger).write(LoadHeader(collection=name, mapping="m", run="r1", chunks=chunks))
    for number in range(chunks):
        create_chunk(ledger, name, Chunk(key=f"{number:05d}", expected=10))
    return header


def move(ledger: FakeLedger, name: str) -> None:
    """The first chunk has read one more."""
    record = FakeLedger.list(ledger, f"chunks:{name}")[0]
    read = chunk_in(record).counts.read + 1
    ledger.write(record.section, record.key, {**record.body, "read": read, "written": read}, expect=record)


def test_a_look_reads_a_bounded_number_of_chunks_and_a_few_looks_read_all(ledger: Asked) -> None:
    headers = [begin(ledger, name, 20) for name in NAMES[:5]]
    memory = RoomMemory(most_chunks=40)
    told = []
    for _ in range(3):
        told.append(memory.loads(ledger, headers))
        assert len(ledger.of_look()) <= 2
    assert [len(one) for one in told] == [2, 4, 5]
    assert {one.expected for one in told[-1].values()} == {200}


def test_loads_that_move_come_first_and_the_others_are_not_forgotten(ledger: Asked) -> None:
    headers = [begin(ledger, name, 20) for name in NAMES[:6]]
    memory = RoomMemory(most_chunks=40)
    for _ in range(3):
        memory.loads(ledger, headers)
    seen: list[Sequence[str]] = []
    told = {}
    for _ in range(6 * OTHERS_EVERY):
        move(ledger, "c4")
        ledger.of_look()
        told = memory.loads(ledger, headers)
        seen.append(ledger.of_look())
    looked = [sections for sections in seen if "chunks:c4" in sections]
    assert len(looked) > len(seen) // 2  # in turn with the others it would be a third
    assert {one for sections in seen for one in sections} == {f"chunks:{name}" for name in NAMES[:6]}
    assert told["c4"].counts.read > len(seen) // 2


def test_what_was_seen_of_an_earlier_load_is_not_told_of_the_next(ledger: Asked) -> None:
    header = begin(ledger, "c0", 20)
    others = [begin(ledger, name, 20) for name in NAMES[1:3]]
    memory = RoomMemory(most_chunks=20)
    assert set(memory.loads(ledger, [header])) == {"c0"}
    again = replace(header, run="r2")
    assert set(memory.loads(ledger, [*others, again])) == {"c1"}


def test_without_a_bound_every_load_is_told_at_once(ledger: Asked) -> None:
    headers = [begin(ledger, name, 3) for name in NAMES[:4]]
    assert {name: one.counts for name, one in RoomMemory().loads(ledger, headers).items()} == dict.fromkeys(
        NAMES[:4], Counts()
    )
