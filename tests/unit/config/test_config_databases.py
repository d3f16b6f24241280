"""Collections of several databases in one migration file."""

from __future__ import annotations

import pytest
from docferry.config import parse_migration
from docferry.errors import ConfigError
from docferry.flows.ledger.mapping_fingerprint import fingerprint_of

HEAD = "migration: two\nsource: {database: live}\ntables: {Two: {}}\ncollections:\n"


def problems_of(collections: str, tail: str = "") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_migration((HEAD + collections + tail).encode())
    return [str(one) for one in caught.value.problems]


def test_collection_says_where_it_is_under_a_name_of_its_own() -> None:
    found = parse_migration(
        (HEAD + "  orders:\n  past_orders: {database: past, collection: orders}\n  log: {database: past}\n").encode()
    )
    assert found.namespaces.elsewhere == {"past_orders": ("past", "orders"), "log": ("past", "log")}
    assert found.namespaces.databases == ("live", "past")
    assert [one.item.entity for one in found.collections] == ["ORDERS", "PAST_ORDERS", "LOG"]


def test_where_a_collection_is_belongs_to_its_fingerprint_and_no_other() -> None:
    def of(text: str) -> list[str]:
        return [fingerprint_of(one) for one in parse_migration((HEAD + text).encode()).collections]

    alone, both = of("  orders:\n"), of("  orders:\n  log: {database: past}\n")
    assert both[0] == alone[0]
    assert len({both[1], of("  log:\n")[0], of("  log: {database: old}\n")[0]}) == 3


CASES = {
    "a name without a database": ("  a: {collection: b}\n", "collections.a.collection: is only for one in another"),
    "the file's own": ("  a: {database: live}\n", "collections.a.database: is the one of source.database"),
    "MongoDB's own": ("  a: {database: admin}\n", "collections.a.database: is MongoDB's own"),
    "no database name": ("  a: {database: 'a.b'}\n", "collections.a.database: is no database name"),
    "a system collection": ("  a: {database: past, collection: system.x}\n", "system. begins the names"),
    "the same twice": (
        "  a: {database: past}\n  b: {database: past, collection: a}\n",
        "collections.b: is the same collection as a",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_could_not_be_carried_out_is_refused(case: str) -> None:
    text, word = CASES[case]
    (problem,) = problems_of(text)
    assert word in problem


def test_rollback_point_of_several_databases_is_a_snapshot_of_the_cluster() -> None:
    text = "  a: {database: past}\n"
    (problem,) = problems_of(text, "rollback_points: {method: dump, to: /points}\n")
    assert "dump makes a rollback point of one database" in problem
    assert "snapshot" in problem
    assert parse_migration((HEAD + text + "rollback_points: {method: snapshot}\n").encode()).rollback_points is not None
