"""A document of more items than a transaction takes cannot be deleted once DynamoDB leads: check counts such documents."""

from __future__ import annotations

from docferry.config import parse_migration
from docferry.flows.preflight.check import check_migration
from docferry.flows.preflight.wide import COUNT_S, LOOK_S, too_wide
from docferry.testing.fakes import FakeSource

MIGRATION = parse_migration(b"""
migration: m
source: {database: d}
tables: {Items: {}}
collections:
  docs:
    item: {entity: DOC, key: {PK: "DOC#{_id}", SK: ROOT}}
    children:
      a: {entity: A, key: {SK: "A#{index:d}"}}
      b.c: {entity: C, key: {SK: "C#{index:d}"}}
""")


def source(*lengths: tuple[int, int]) -> FakeSource:
    made = [
        {"_id": number, "a": [{"x": 1}] * one, "b": {"c": [{"x": 1}] * other}}
        for number, (one, other) in enumerate(lengths)
    ]
    return FakeSource({"docs": [*made, {"_id": "no subdocuments", "a": [1] * 300}]})


def test_documents_with_more_than_99_children_are_counted_over_all_their_arrays() -> None:
    (problem,) = too_wide(MIGRATION, source((99, 0), (50, 50), (0, 100), (0, 99)))
    assert problem.what.startswith("2 document(s) have more than 99 children")
    (note,) = check_migration(MIGRATION, source((100, 0))).notes
    assert note.startswith("docs: 1 document(s) have more than 99 children")


def test_documents_that_a_transaction_takes_are_no_matter() -> None:
    assert list(too_wide(MIGRATION, source((99, 0), (49, 50)))) == []
    assert check_migration(MIGRATION, source((99, 0))).notes == []


def test_count_that_takes_too_long_is_told_by_check_and_refused_before_a_change_of_leader() -> None:
    slow = source((1, 1))
    slow.scan_s = LOOK_S + 1
    assert list(too_wide(MIGRATION, slow)) == []
    (note,) = check_migration(MIGRATION, slow).notes
    assert "could not be counted" in note
    slow.scan_s = COUNT_S + 1
    (problem,) = too_wide(MIGRATION, slow)
    assert "could not be counted" in problem.what
