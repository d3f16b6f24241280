"""What guards add: an item for each unique value in the load, and its read and write for an insert and a delete."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from docferry.config import parse_migration
from docferry.config.price_book import load_price_book
from docferry.core.analyze.design import design_of
from docferry.core.analyze.facts import CollectionFacts, DatabaseFacts, IndexFacts, PathFacts
from docferry.core.analyze.price import price_of
from docferry.core.cost import calls
from docferry.core.cost.forecast import Workload, forecast
from docferry.core.cost.sizes import CollectionSizes
from docferry.flows.backfill.plan import plan_backfill
from docferry.flows.cost.dry_run import dry_run_of
from docferry.flows.cost.forecasting import priced_design
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
    def planned(**unique: Any) -> tuple[int, int]:
        source = FakeSource({"users": USERS})
        source.unique["users"] = (frozenset({"name"}),)
        source.indexes["users"] = (
            {"name": "_id_", "key": {"_id": 1}},
            {"name": "mail_1", "key": {"mail": 1}, "unique": True, "sparse": True},
        )
        job = make_job(migration=migration(**unique), source=source, ledger=FakeLedger())
        (one,) = plan_backfill(job).collections
        return one.items, one.guards

    assert planned() == (4, 0)
    assert planned(unique=UNIQUE) == (10, 6)


def test_what_is_priced_says_what_guards_take_and_what_was_assumed() -> None:
    source, book = FakeSource({"users": USERS}), load_price_book()
    bare, guarded = (dry_run_of(migration(**unique), source, book) for unique in ({}, {"unique": UNIQUE}))
    assert bare.load_guards == 0
    assert guarded.load_guards == pytest.approx(6 * book.write_request_million / 1e6)
    assert guarded.load == pytest.approx(bare.load + guarded.load_guards)
    assert "and guards" in guarded.lines()[0]
    told = forecast(priced_design(migration(unique=UNIQUE)), [sizes(unique=UNIQUE)], Workload(), book).guessed
    assert any(one.startswith("users: no update changes a unique value") for one in told)


def test_the_analysis_prices_the_guards_that_it_proposes() -> None:
    mail = IndexFacts(name="mail_1", keys=(("mail", "1"),), unique=True)
    path = PathFacts(path="mail", present=0.5, types={"string": 1.0})
    users = CollectionFacts(name="users", kind="collection", documents=1_000_000, average_bytes=300.0, paths=(path,))
    lines = {}
    for name, indexes in (("bare", ()), ("guarded", (mail,))):
        facts = DatabaseFacts(
            database="d", server="MongoDB 6.0", began="2026-11-30", seconds=1.0, documents_read=1, bytes_read=1, yielded_s=0.0,
            collections=(replace(users, indexes=indexes),),
        )  # fmt: skip
        price = price_of(facts, design_of(facts), load_price_book())
        lines[name] = {one.what: one.quantity for one in price.once.lines}
    assert lines["guarded"]["users, guards of unique indexes: load"] == 0.5  # million units
    assert not any("guards" in one for one in lines["bare"])
