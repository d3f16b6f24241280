"""The journal's rules: what a slot decides, and what a lane's entries prove."""

from __future__ import annotations

import pytest
from docferry.core.cutover.journal import (
    Answer,
    Entry,
    EntryKind,
    Lane,
    LaneName,
    Wrote,
    entry_in,
    entry_item,
    missing,
    read_lane,
    slot_key,
)

NAME = LaneName("one", 0)


def entry(nonce: str, kind: EntryKind = EntryKind.WRITE) -> Entry:
    return Entry(kind=kind, nonce=nonce)


def test_write_that_is_answered_leaves_no_doubt() -> None:
    lane = Lane(NAME)
    lane.send("a")
    assert lane.in_doubt
    lane.take()
    assert (lane.last, lane.next, lane.in_doubt) == (1, 2, False)


def test_write_without_an_answer_leaves_its_slot_to_the_next_one() -> None:
    lane = Lane(NAME)
    lane.send("a")
    assert lane.next == 1
    lane.send("b")
    assert lane.meet(entry("a"), "b") is Answer.BEHIND
    assert (lane.next, lane.in_doubt) == (2, False)


def test_own_entry_means_that_the_write_has_happened() -> None:
    lane = Lane(NAME)
    lane.send("a")
    assert lane.meet(entry("a"), "a") is Answer.HAPPENED
    assert lane.next == 2


@pytest.mark.parametrize(
    ("found", "answer"),
    [(entry("seal", EntryKind.SEAL), Answer.SEALED), (entry("somebody's"), Answer.FOREIGN)],
    ids=["seal", "entry of a copy"],
)
def test_seal_and_foreign_entry_end_the_lane_for_this_process(found: Entry, answer: Answer) -> None:
    lane = Lane(NAME)
    lane.send("a")
    assert lane.meet(found, "a") is answer
    assert lane.in_doubt, "it is not the process's to say what has happened"


def test_entry_is_read_as_it_was_written() -> None:
    wrote = Wrote(table="T", key=("A#1", "ROOT"), version="0" * 22, expires_s=7)
    one = Entry(kind=EntryKind.WRITE, nonce="n", wrote=(wrote, wrote))
    item = entry_item(NAME.partition("shop"), 12, one, 1000)
    assert entry_in(item) == (12, one)
    assert item["_ttl"] == {"N": str(1000 + 72 * 3600)}
    assert item["PK"] == {"S": "shop#one#0"}


def test_text_order_of_slots_is_their_order() -> None:
    assert sorted(map(slot_key, (1, 9, 10, 99, 100, 10**9))) == [*map(slot_key, (1, 9, 10, 99, 100, 10**9))]


@pytest.mark.parametrize(
    ("slots", "at", "why"),
    [
        ((4, 5), 5, ""),
        ((4, 5), 4, ""),
        ((), 3, ""),
        ((4,), 5, "ends with entry 4, and its process says 5"),
        ((), 4, "ends with entry 3, and its process says 4"),
        ((4, 6), 4, "has no entry 5, and entries behind it"),
        ((5,), 3, "has no entry 4, and entries behind it"),
    ],
    ids=str,
)
def test_lane_that_lacks_entries_is_never_taken_for_a_short_one(slots: tuple[int, ...], at: int, why: str) -> None:
    assert missing(read_lane(3, [(slot, entry(str(slot))) for slot in slots]), at) == why


def test_lane_ends_with_its_seal() -> None:
    read = read_lane(0, [(1, entry("a")), (2, entry("s", EntryKind.SEAL))])
    assert (read.last, read.sealed) == (2, True)
    assert not read_lane(0, [(1, entry("a"))]).sealed
