"""What mends without a shell, as DAG runs against the real stack: nothing is changed by a dry run or without the name typed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docferry.flows.ledger.dead_letters import list_letters
from docferry.flows.ledger.load_headers import LoadHeaders
from docferry.sandbox import SandboxStack
from support.airflow.runs import Runs, opened_runs

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def runs(stack: SandboxStack, airflow_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """Loaded, with rollback points in a directory."""
    to = tmp_path_factory.mktemp("points")
    name = "mended"
    directory = tmp_path_factory.mktemp("migrations")
    known = {"waived_writers": ["docferry"], "waived_readers": ["docferry"]}  # the tests' own connections
    with opened_runs(stack, directory, name, users=60, rollback_points={"to": str(to)}, cutover=known) as opened:
        for phase in ("provision", "backfill"):
            assert opened.run(phase)[0] == "success"
        yield opened


def test_dead_letters_are_listed_without_their_ids_and_replayed_once_their_documents_are_mended(
    runs: Runs, caplog: pytest.LogCaptureFixture
) -> None:
    open_ = list_letters(runs.rig.ledger, "users")
    assert open_
    state, states, told = runs.run("dead_letters")
    assert (state, states["list_letters"], states["replay_letters"]) == ("success", "success", "skipped")
    assert told["list_letters"]["letters"]["users"] == len(open_)
    assert not any(one.id in caplog.text for one in open_ if len(one.id) > 6)

    one = open_[0]
    asked: dict[str, Any] = {"action": "replay_letters", "letters": [one.handle]}
    _, _, told = runs.run("dead_letters", **asked)
    assert told["replay_letters"]["would_try"]["users"] == 1
    for wrong in ({"confirm": "shop"}, {"confirm": runs.name}, {"confirm": runs.name, "letters": ["0" * 16]}):
        # Not typed; still dead; not there.
        assert runs.run("dead_letters", **asked | {"dry_run": False} | wrong)[0] == "failed"
    assert len(list_letters(runs.rig.ledger, "users")) == len(open_)


def test_collection_is_made_ready_to_load_again_and_the_load_reads_it_once_more(runs: Runs) -> None:
    headers = LoadHeaders(runs.rig.ledger)
    asked: dict[str, Any] = {"collections": ["categories"]}
    state, states, told = runs.run("load_again", **asked)
    assert (state, states["load"], told["make_ready"]) == ("success", "skipped", {"would_load": ["categories"]})
    assert runs.run("load_again", **asked, dry_run=False)[0] == "failed"
    header = headers.read("categories")
    assert header is not None
    assert header.complete

    state, _, told = runs.run("load_again", skipping="load", **asked, dry_run=False, confirm=runs.name)
    assert (state, told["make_ready"]) == ("success", {"to_load": ["categories"]})
    _, _, loaded = runs.run("backfill", **asked)
    assert loaded["categories.finish"]["already_complete"] is False
    assert loaded["categories.finish"]["read"] == runs.shop["categories"].documents


def test_rollback_point_is_made_verified_restored_beside_and_over_live_data_with_the_sentence_typed(runs: Runs) -> None:
    assert runs.run("points", action="make_point", point="first")[0] == "success"
    assert runs.run("points")[2]["list_points"]["points"] == []
    assert runs.run("points", action="make_point", point="first", dry_run=False)[0] == "success"
    assert [one["name"] for one in runs.run("points")[2]["list_points"]["points"]] == ["first"]
    assert runs.run("points", action="verify_point", point="first")[0] == "success"
    assert runs.run("points", action="restore_beside", point="first")[0] == "success"
    beside = f"{runs.name}_restored_first"
    assert beside not in runs.rig.mongo.list_database_names()
    assert runs.run("points", action="restore_beside", point="first", dry_run=False)[0] == "success"

    runs.rig.database["categories"].delete_many({})
    over: dict[str, Any] = {"action": "restore_over_live", "point": "first"}
    assert runs.run("points", **over, dry_run=False, sentence="restore it")[0] == "failed"
    assert runs.rig.database["categories"].count_documents({}) == 0
    plan = runs.run("points", **over)[2]["restore_over_live"]
    assert runs.run("points", **over, dry_run=False, sentence=plan["sentence"])[0] == "success"
    assert runs.rig.database["categories"].count_documents({}) == runs.shop["categories"].documents


def test_health_fails_with_the_parts_that_are_not_well_and_clients_name_nobody(runs: Runs) -> None:
    assert runs.run("health")[0] == "failed"  # nothing has replicated yet
    state, _, told = runs.run("clients", seconds=0.5)
    assert (state, told["list_instances"]["mode"]) == ("success", "MONGO_ONLY")
