"""No record of the ledger holds an unbounded text of a document: an `_id` has no limit of its own, a record has 400 KB.

The fake ledger refuses a record that DynamoDB would.
"""

from __future__ import annotations

from typing import Any

import bson
import pytest
from bson.timestamp import Timestamp
from docferry.core.mapping.key_templates import render_value
from docferry.core.mapping.raw import id_name, id_of
from docferry.errors import DocumentError, RefusedByStore
from docferry.flows.backfill import chunk_loader
from docferry.flows.ledger.dead_letters import (
    ID_BYTES,
    MOST_ID_BYTES,
    bounded,
    close_letter,
    letter_document,
    letter_id,
    letter_key,
    list_letters,
    open_letter,
    read_letter,
)
from docferry.flows.ledger.load_headers import NONE_LATE, Counts, chunk_checkpoint, list_chunks
from docferry.flows.ledger.positions import (
    REPLICATION,
    ReplicationState,
    read_replication,
    replication_checkpoint,
    replication_ended,
)
from docferry.flows.ledger.reports import SECTION, record_report
from docferry.flows.ledger.reverse_letters import list_reverse_letters, open_reverse_letter
from docferry.flows.validate.suspects import Suspect, Suspects, encode_suspects
from docferry.ports.flows import StreamPosition
from docferry.testing.fakes import FakeLedger
from hypothesis import given
from hypothesis import strategies as st
from support.replicate.fake_world import World

HUGE = "K" * 450_000


def refused(id_text: str, message: str = "no", path: str = "") -> DocumentError:
    error = RefusedByStore(message, path=path)
    error.namespace, error.id = "docs", id_text
    return error


def test_a_load_with_an_id_longer_than_a_record_ends_well_and_its_letter_is_found() -> None:
    world = World(3)
    world.source.put("docs", {"_id": HUGE, "x": 1})
    world.load()
    (letter,) = list_letters(world.ledger, "docs")
    assert len(letter.id) < 300
    for name in (HUGE, letter.id, letter.key):
        found = read_letter(world.ledger, "docs", name)
        assert found == letter
    assert bson.decode(letter_document(world.ledger, letter)) == {"_id": HUGE, "x": 1}
    close_letter(world.ledger, letter)
    assert list_letters(world.ledger, "docs") == []
    assert world.ledger.list("dead-parts:docs") == []


def test_a_load_goes_on_before_an_id_that_is_too_long_to_be_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk_loader, "CHECKPOINT_S", 0.0)
    world = World(3)
    for number in range(3):
        world.source.put("docs", {"_id": f"{number}{HUGE}"})
    world.load()
    (chunk,) = list_chunks(world.ledger, "docs")
    assert chunk.done
    assert (chunk.counts.read, chunk.counts.written, chunk.counts.dead) == (6, 3, 3)


def test_a_letter_of_a_replicated_change_with_such_an_id_is_closed_by_nothing_and_stays_one() -> None:
    world = World(1)
    world.load()
    for value in (1, 2):
        world.source.put("docs", {"_id": HUGE, "x": value})
        world.replicate()
    (letter,) = list_letters(world.ledger, "docs")
    assert bson.decode(letter_document(world.ledger, letter))["x"] == 2
    assert read_replication(world.ledger).counts["dead"] == 2


def test_a_place_that_fits_no_record_is_not_noted_and_neither_are_the_counts_behind_it() -> None:
    counts = Counts(read=2, written=2)
    assert chunk_checkpoint(b"x" * (MOST_ID_BYTES + 1), counts) == NONE_LATE.to_dict()
    whole = counts.to_dict() | NONE_LATE.to_dict()
    assert chunk_checkpoint(b"x", counts) == {"after": b"x", **whole}
    assert chunk_checkpoint(b"x" * (MOST_ID_BYTES + 1), counts, done=True) == {**whole, "state": "done"}


def test_a_resume_token_that_fits_no_record_leaves_the_earlier_position() -> None:
    ledger = FakeLedger()
    early = StreamPosition(time=Timestamp(1, 1), token={"_data": "00"}, scope="", n=0)
    record = ledger.write(*REPLICATION, replication_checkpoint(ReplicationState(position=early)), expect=None)
    late = StreamPosition(time=Timestamp(2, 1), token={"_data": HUGE}, scope="", n=0)
    later = replication_checkpoint(ReplicationState(position=late, at_ms=5)) | replication_ended("x" * 10**6)
    ledger.write(*REPLICATION, {**record.body, **later}, expect=record)
    state = read_replication(ledger)
    assert (state.position, state.at_ms) == (early, 5)
    assert len(state.ended) < 1_100


def test_paths_and_messages_of_letters_are_bounded_both_ways() -> None:
    ledger = FakeLedger()
    error = refused("a", message="m" * 10**6, path="p" * 10**6)
    open_letter(ledger, "docs", error, b"document", 1)
    open_reverse_letter(ledger, "T", ("p", "s"), b"x" * 500_000, error)
    (letter,), (reverse,) = list_letters(ledger, "docs"), list_reverse_letters(ledger)
    assert max(map(len, (letter.path, letter.message, reverse.path, reverse.message))) < 1_100
    assert bounded("a" * 2_000) != bounded("a" * 1_999 + "b"), "the digest tells them apart"


def test_differences_with_long_ids_are_reported_by_their_digest() -> None:
    from support.validate.world import World as Validated  # builds a world of its own

    world = Validated()
    report = world.validate()
    ledger = FakeLedger()
    long = {"kind": "different", "id": HUGE, "path": HUGE}

    class Report:
        differences = (long,) * 3
        at_ms, ok, full = report.at_ms, False, True

        @staticmethod
        def to_dict() -> dict[str, Any]:
            return report.to_dict() | {"differences": [dict(long) for _ in range(3)]}

    record_report(ledger, Report())  # type: ignore[arg-type]
    (latest, _) = ledger.list(SECTION)
    assert b"not_recorded" not in latest.body["report"]


def test_a_suspect_with_an_id_that_fits_no_record_is_counted_for_the_one_that_goes_on() -> None:
    suspects = Suspects()
    for data in (b"small", b"x" * (MOST_ID_BYTES + 1)):
        suspects.add(Suspect(table="T", collection="docs", id=data, first_seen_ms=0))
    assert suspects.too_long == 1
    assert [len(part) < 200 for part in encode_suspects(list(suspects))] == [True]


@given(st.text(max_size=50), st.sampled_from([1, 30, 2_000]))
def test_an_id_its_letter_and_its_key_name_the_same_letter(text: str, times: int) -> None:
    name = render_value(text * times)
    assert letter_key(letter_id(name)) == letter_key(name)
    assert letter_id(letter_id(name)) == letter_id(name)
    assert len(letter_key(name).encode()) <= ID_BYTES


@given(st.text(min_size=1, max_size=80))
def test_no_id_reads_like_the_digest_of_another(text: str) -> None:
    for value in (text, "~hash#" + text, "#ash#" + text):
        data = bson.encode({"_id": value})
        name = id_name(id_of(data))
        assert not name.startswith("~hash#")
