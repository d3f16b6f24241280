"""Keys that no document could have are refused by the file, each with one problem."""

# ruff: noqa: E501 - one case a line

from __future__ import annotations

import pytest
from docferry.config import parse_migration
from support.config import problems_of


@pytest.mark.parametrize(
    ("key", "children", "word"),
    [
        ('{PK: "C#{a}#{_id}", SK: "{a.b}"}', "{}", "a cannot be a single value and hold a.b at once"),
        ('{PK: "C#{_id}", SK: "S#{items}"}', '{items.list: {entity: L, key: {SK: "L#{index}"}}}', "{items} is no single value"),
        ('{PK: "C#{_id}", SK: "S#{items}"}', '{items: {entity: L, key: {SK: "L#{index}"}}}', "{items} is no single value"),
        ('{PK: "C#{_id}", SK: "S#{items.n}"}', '{items: {entity: L, key: {SK: "L#{index}"}}}', "{items.n} is no single value"),
        ('{PK: "C#{_id}", SK: R}', '{items: {entity: L, key: {SK: "L#{a}#{a.$id}"}}}', "a cannot be a single value"),
    ],
)  # fmt: skip
def test_table_key_that_no_document_can_have_is_one_problem(key: str, children: str, word: str) -> None:
    text = f"migration: m\nsource: {{database: d}}\ntables: {{Tab: {{}}}}\ncollections:\n  c: {{item: {{entity: C, key: {key}}}, children: {children}}}\n"
    (problem,) = problems_of(text)
    assert word in problem.what
    assert (problem.line, bool(problem.suggestion)) == (5, True)


@pytest.mark.parametrize(
    ("key", "children"),
    [
        ('{PK: "C#{_id}", SK: "S#{_id.x}"}', "{}"),  # the _id is known whole
        ('{PK: "C#{owner.$id}", SK: "S#{_id}"}', '{owners: {entity: L, key: {SK: "L#{index}#{index.x}"}}}'),
    ],
)
def test_keys_beside_each_other_are_fine(key: str, children: str) -> None:
    text = f"migration: m\nsource: {{database: d}}\ntables: {{Tab: {{}}}}\ncollections:\n  c: {{item: {{entity: C, key: {key}}}, children: {children}}}\n"
    assert parse_migration(text.encode()).mapping("c").key_fields.root
