"""What guards add: an item for each unique value in the load, and its read and write for an insert and a delete."""

from __future__ import annotations

import json
from typing import Any

from docferry.config import parse_migration
from docferry.core.cost import calls
from docferry.core.cost.sizes import CollectionSizes
from docferry.flows.backfill.plan import plan_backfill
from docferry.flows.cost.measured import measure_collections
from docferry.testing.fakes import FakeLedger, FakeSource
from docferry.testing.jobs import make_job

UNIQUE = {"_id_": ["_id"], "mail_1": {"key": ["mail"], "sparse": True}}
USERS = [{"_id": number, "name": f"n{number}", **({"mail": f"m{number}"} if number % 2 else {})} for number in range(4)]


def migration(**unique: Any) -> Any:
    users = {"item": {"entity": "USER", "key": {"PK": "USER#{name}", "SK": "P"}}, **unique}
    tree = {"migration": "u", "source": {"database": "d"}, "tables": {"Tab": {}}, "collections": {"users": users}}
    return parse_migration(json.dumps(tree).encode())


def sizes(**unique: Any) -> CollectionSizes:
    (found,) = measure_collections(migration(**unique), FakeSource({"users": USERS}))
    return found


def test_guards_are_items_of_the_load_and_not_of_a_read_or_a_dual_write() -> None:
    bare, guarded = sizes(), sizes(unique=UNIQUE)
    assert guarded.guards == 1.5
    assert guarded.items == bare.items + 1.5
    assert guarded.put_units == bare.put_units + 1.5
    assert (guarded.read_units, guarded.dual_units, guarded.root_units) == (
        bare.read_units, bare.dual_units, bare.root_units,
    )  # fmt: skip


def test_an_insert_and_a_delete_read_and_write_them_and_an_update_does_not() -> None:
    bare, guarded = sizes(), sizes(unique=UNIQUE)
    for call in (calls.insert, calls.delete):
        assert call(guarded).writes == call(bare).writes + 2 * 1.5
        assert call(guarded).write_reads == call(bare).write_reads + 1.5
    assert calls.update(guarded) == calls.update(bare)


def test_the_plan_of_a_load_counts_them() -> None:
    def planned(**unique: Any) -> int:
        source = FakeSource({"users": USERS})
        source.unique["users"] = (frozenset({"name"}),)
        source.indexes["users"] = (
            {"name": "_id_", "key": {"_id": 1}},
            {"name": "mail_1", "key": {"mail": 1}, "unique": True, "sparse": True},
        )
        job = make_job(migration=migration(**unique), source=source, ledger=FakeLedger())
        (one,) = plan_backfill(job).collections
        return one.items

    assert planned(unique=UNIQUE) == planned() + 6
