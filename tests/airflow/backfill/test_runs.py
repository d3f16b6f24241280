"""The phases as DAG runs against the real stack, one process: load, load again, tamper, mend."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from docferry.sandbox import SandboxStack
from support.airflow.runs import Runs, opened_runs
from support.backfill.rig import table_names


@pytest.fixture(scope="module")
def runs(stack: SandboxStack, airflow_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    with opened_runs(stack, tmp_path_factory.mktemp("migrations"), "runs", users=120) as opened:
        yield opened


@pytest.mark.timeout(300)
def test_phases_carry_the_shop_and_a_second_run_changes_nothing(runs: Runs) -> None:
    state, states, _ = runs.run("provision", dry_run=True)
    assert state == "success"
    assert runs.table not in table_names(runs.client)

    _, _, first = runs.run("provision")
    assert first["switch_images_on"]["collections"]["users"] == "switched on"
    assert set(first["make_tables"]["resources"].values()) == {"created"}
    priced = first["say_what_it_costs"]
    assert priced["files"] == ["cost.html", "cost.json", "cost.md"]
    assert priced["once_usd"] > 0
    assert "no saving is claimed" in priced["sentence"]
    _, _, second = runs.run("provision")
    assert second["switch_images_on"]["changed_anything"] is False
    assert set(second["make_tables"]["resources"].values()) == {"unchanged"}

    state, states, plan = runs.run("backfill", dry_run=True)
    assert state == "success"
    assert {name for name, found in states.items() if found == "success"} == {"plan_the_load"}
    assert plan["plan_the_load"]["fits"] is True
    assert plan["plan_the_load"]["cost"]["load_usd"] > 0
    assert runs.items() == 0

    state, states, loaded = runs.run("backfill", collections=["users"])
    assert (state, states["users.finish"], states["orders.prepare"]) == ("success", "success", "skipped")
    assert runs.items() == runs.shop["users"].items

    state, states, loaded = runs.run("backfill")
    assert state == "success"
    assert len([name for name in states if name.startswith("orders.load[")]) == 4
    for collection in ("users", "orders", "products", "categories"):
        counts, expected = loaded[f"{collection}.finish"], runs.shop[collection]
        assert counts["read"] == expected.documents == counts["written"] + counts["superseded"] + counts["dead"]
        assert (counts["dead"], counts["items"]) == (expected.unstorable, expected.items)
    assert loaded["users.finish"]["already_complete"] is True
    assert runs.items() == runs.shop.items
    consumed = {row["what"]: row["write_units"] for row in loaded["report_totals"]["cost"]["rows"]}
    assert consumed == {f"load of {name}": loaded[f"{name}.finish"]["units"] for name in runs.shop.collections}

    state, states, again = runs.run("backfill")
    assert state == "success"
    assert all(again[f"{name}.finish"]["already_complete"] for name in ("users", "orders", "products", "categories"))

    state, states, compared = runs.run("validate")
    assert state == "success"
    assert compared["compare_every_document"]["ok"] is True
    assert "differences" not in compared["compare_every_document"]


@pytest.mark.timeout(300)
def test_a_planted_difference_fails_validate_and_repair_mends_it(runs: Runs) -> None:
    if runs.table not in table_names(runs.client):
        pytest.fail("the test above has to run first")
    found = runs.client.scan(
        TableName=runs.table, FilterExpression="entityType = :t", ExpressionAttributeValues={":t": {"S": "PRODUCT"}}
    )["Items"][0]
    runs.client.put_item(TableName=runs.table, Item=found | {"name": {"S": "planted"}})
    state, states, _ = runs.run("validate")
    assert (state, states["compare_every_document"]) == ("failed", "failed")
    state, states, told = runs.run("repair")
    assert (state, states["compare_every_document"]) == ("success", "skipped")
    assert [one["different"] for one in told["mend_differences"]["found"]["collections"]] == [0, 0, 1, 0]
    state, _, _ = runs.run("repair", dry_run=False, confirm="shop")
    assert state == "failed"
    assert runs.run("validate")[0] == "failed"
    state, states, _ = runs.run("repair", dry_run=False, confirm=runs.name)
    assert (state, states["mend_differences"], states["compare_every_document"]) == ("success",) * 3
