"""Two documents may never have one key; with children they may not even share a partition, and the message says so."""

from __future__ import annotations

from docferry.config import parse_migration
from docferry.errors import Problem
from docferry.flows.preflight.mongodb import check_source
from docferry.testing.fakes import FakeSource

FILE = """
migration: m
source: {{database: d}}
tables: {{Items: {{}}}}
collections: {{docs: {{item: {{entity: DOC, key: {{PK: "{pk}", SK: "{sk}"}}}}, children: {children}}}}}
"""
CHILDREN = '{parts: {entity: PART, key: {SK: "PART#{index:d}"}}}'


def problems(pk: str, sk: str, children: str = "{}") -> list[Problem]:
    return check_source(
        parse_migration(FILE.format(pk=pk, sk=sk, children=children).encode()), FakeSource({"docs": []})
    )


def test_id_in_the_sort_key_is_enough_without_children() -> None:
    assert problems("A#{account_id}", "DOC#{_id}") == []


def test_id_in_the_sort_key_is_not_enough_with_children_and_the_message_says_why() -> None:
    (problem,) = problems("A#{account_id}", "DOC#{_id}", CHILDREN)
    assert "children live in the partition of their parent" in problem.what
    assert "account_id" in problem.what
    assert "_id in SK does not help" in problem.what
    assert "{_id} into PK" in problem.suggestion
    assert "leave the array in its document" in problem.suggestion


def test_key_without_id_and_unique_index_is_refused() -> None:
    (problem,) = problems("A#{account_id}", "DOC#{name}")
    assert "made of account_id, name" in problem.what
