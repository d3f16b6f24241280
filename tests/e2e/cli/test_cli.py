"""The command line as a person or a script meets it: real processes, real servers, every exit code for real."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
from bson import json_util
from click.testing import CliRunner
from docferry.cli import main as cli
from docferry.core.bson_codec.options import BSON_OPTIONS
from docferry.sandbox.stack import read_stack
from pymongo import MongoClient
from support.backfill.rig import eventually
from support.cli.shop import COMMANDS, TRACEBACK, Shop, as_document, fill, finish, fresh, refused, shop, start
from support.validate.planting import SECRET

__all__ = ["fresh", "shop"]

pytestmark = pytest.mark.xdist_group("cli")
# --- results ---------------------------------------------------------------------------------------------------------

EVERY: dict[str, tuple[str, ...]] = {
    "check": ("check",),
    "check offline": ("check", "--offline"),
    "check permissions": ("check", "--permissions"),
    "provision, dry": ("provision", "--dry-run"),
    "provision": ("provision",),
    "replicas, dry": ("replicas", "--dry-run"),
    "backfill, dry": ("backfill", "--dry-run"),
    "backfill": ("backfill",),
    "backfill of one": ("backfill", "--only", "users"),
    "validate": ("validate",),
    "validate a sample": ("validate", "--sample", "2"),
    "repair, dry": ("repair", "--dry-run"),
    "repair": ("repair",),
    "dead letters": ("dead-letters",),
    "status": ("status",),
    "rollback points": ("points",),
}


@pytest.mark.parametrize("what", EVERY)
def test_every_command_answers_people_and_machines_and_shows_no_document(shop: Shop, what: str) -> None:
    command, *words = EVERY[what]
    if what in ("validate", "repair"):  # leased: one at a time
        plain, machine = (shop.run(command, *words, *more) for more in ((), ("--json",)))
    else:
        processes = [shop.start(command, str(shop.file), *words, *more) for more in ((), ("--json",))]
        plain, machine = map(finish, processes)
    for ran in (plain, machine):
        assert ran.code == 0, ran.err
        assert SECRET not in ran.out + ran.err
        assert TRACEBACK not in ran.err
    assert machine.json is not None
    assert plain.out.strip()


def test_run_again_changes_nothing_and_says_so(shop: Shop) -> None:
    before, tables = shop.dump(), shop.dynamodb.describe_table(TableName=shop.table)["Table"]
    provision = shop.run("provision")
    assert provision.code == 0
    assert "nothing to do" in provision.out.lower()
    backfill = shop.run("backfill")
    assert backfill.out.count("was complete: nothing changed") == 4
    validated = shop.run("validate")
    assert "EQUAL: every document and every item was compared" in validated.out
    repaired = shop.run("repair", "--json").json
    assert (repaired["documents"], repaired["tombstones"]) == (0, 0)
    assert shop.dump() == before
    assert shop.dynamodb.describe_table(TableName=shop.table)["Table"] == tables


def test_rollback_point_is_made_listed_verified_and_restored_by_commands(fresh: Shop, tmp_path: Path) -> None:
    fill(fresh)
    assert fresh.run("provision").code == 0
    refused(fresh.run("points", "--make"), 3, "has no section rollback_points", "s3://bucket/prefix")
    fresh.change_file(rollback_points={"to": str(tmp_path / "points")})
    planned = fresh.run("points", "--make", "--name", "one", "--dry-run")
    assert "Nothing was made." in planned.out
    assert fresh.run("points", "--json").json == {"points": [], "unfinished": [], "half": []}
    made = fresh.run("points", "--make", "--name", "one", "--json")
    assert (made.code, made.json["documents"], made.json["mode"]) == (0, 13, "MONGO_ONLY"), made.err
    refused(fresh.run("points", "--make", "--name", "one"), 3, "is there already")
    assert "one: 13 documents" in fresh.run("points").out
    assert "every document decoded" in fresh.run("points", "--verify", "one").out
    assert fresh.run("points", "--restore", "one", "--dry-run").code == 0
    restored = fresh.run("points", "--restore", "one", "--json")
    beside = fresh.database.client[restored.json["database"]]
    assert beside.command("dbStats")["objects"] == restored.json["documents"] == 13
    over = ("--restore", "one", "--over-live")
    refused(fresh.run("points", *over), 3, "is connected to MongoDB")
    fresh.change_file(cutover={"waived_readers": ["docferry"], "waived_writers": ["docferry"]})
    fresh.database["users"].delete_one({})
    planned = fresh.run("points", *over, "--dry-run", "--json")
    assert "of 12 documents 0 are lost and 0 go back" in planned.json["sentence"]
    assert f"--confirm '{planned.json['sentence']}'" in fresh.run("points", *over, "--dry-run").out
    refused(fresh.run("points", *over), 3, "nothing is overwritten without it")
    done = fresh.run("points", *over, "--confirm", planned.json["sentence"])
    assert (done.code, fresh.database["users"].count_documents({})) == (0, 3)
    file = next((tmp_path / "points").rglob("users.bson"))
    file.write_bytes(file.read_bytes()[:-1])
    broken = fresh.run("points", "--verify", "one", "--json")
    refused(broken, 1)
    assert "users.bson" in broken.json["faults"][0]
    assert "NOT WHAT WAS RECORDED" in fresh.run("points").out
    for ran in (made, restored, planned, done, broken):
        assert SECRET not in ran.out + ran.err


@pytest.mark.parametrize(
    "words",
    [
        ("--make", "--verify", "one"),
        ("--name", "one"),
        ("--snapshot", "snap-1", "--verify", "one"),
        ("--into", "elsewhere"),
        ("--over-live", "--make"),
        ("--restore", "one", "--confirm", "yes"),
    ],
)
def test_2_for_options_of_points_that_do_not_go_together(shop: Shop, words: tuple[str, ...]) -> None:
    as_document(shop.run("points", *words, "--json"), "ConfigError")
    refused(shop.run("points", *words), 2, "--")


def test_counts_of_a_backfill_add_up(shop: Shop) -> None:
    body = shop.run("backfill", "--json").json
    by_name = {one["collection"]: one for one in body["collections"]}
    assert {name: (one["read"], one["written"], one["dead"]) for name, one in by_name.items()} == {
        "users": (3, 3, 0), "orders": (3, 3, 0), "products": (4, 3, 1), "categories": (3, 3, 0),
    }  # fmt: skip
    assert sum(one["items"] for one in by_name.values()) == len(shop.dump())


def test_health_tells_each_part_and_ends_with_1_while_nobody_replicates(shop: Shop) -> None:
    shop.run("validate")
    plain, machine = shop.run("health"), shop.run("health", "--json")
    assert (plain.code, machine.code) == (1, 1)
    parts = {name: part["status"] for name, part in machine.json["parts"].items()}
    assert parts.pop("lag_forward") in ("unhealthy", "unknown")
    served = {"replica_set", "tables", "lag_reverse", "consistency", "letters", "watch", "application", "fence"}
    assert set(parts) == served | {"mapping", "switch"}
    assert parts["mapping"] == "healthy"
    assert (parts["replica_set"], parts["tables"], parts["consistency"]) == ("healthy", "healthy", "healthy")
    assert machine.json["status"] in plain.out.splitlines()[-1]


def test_health_of_servers_that_are_away_is_unknown_part_by_part(shop: Shop) -> None:
    away = shop.run("health", "--json", AWS_ENDPOINT_URL_DYNAMODB="http://127.0.0.1:1")
    assert away.code == 1
    assert away.json["parts"]["replica_set"]["status"] == "healthy"
    assert away.json["parts"]["letters"]["status"] == "unknown"
    assert "127.0.0.1:1" in away.json["parts"]["letters"]["why"]


def test_status_knows_the_last_validation_and_the_dead_letters(shop: Shop) -> None:
    assert shop.run("validate").code == 0
    body = shop.run("status", "--json").json
    assert body["validation"]["ok"] is True
    assert {one["collection"]: one["dead_letters_open"] for one in body["collections"]}["products"] == 1
    assert all(one["state"] == "complete" for one in body["collections"])


def test_dead_letter_is_shown_exactly(shop: Shop) -> None:
    (letter,) = shop.run("dead-letters", "--json").json
    ran = shop.run("dead-letters", "--show", letter["id"])
    assert SECRET in ran.out
    shown = json_util.loads(ran.out, json_options=json_util.CANONICAL_JSON_OPTIONS)
    stored = shop.database.get_collection("products", codec_options=BSON_OPTIONS).find_one({"sku": "SKU-large"})
    assert stored is not None
    assert {name: str(value) for name, value in shown.items() if name != "createdAt"} == {
        name: str(value) for name, value in stored.items() if name != "createdAt"
    }


# --- help ------------------------------------------------------------------------------------------------------------


def test_every_command_and_option_is_documented() -> None:
    top = CliRunner().invoke(cli.main, ["--help"])
    assert top.exit_code == 0
    assert set(cli.main.commands) == set(COMMANDS)
    for code in (0, 1, 2, 3, 4, 5, 70):
        assert re.search(rf"\b{code}\s", top.output), f"exit code {code} is not explained"
    for name, command in cli.main.commands.items():
        ran = CliRunner().invoke(cli.main, [name, "--help"])
        assert ran.exit_code == 0
        assert command.help
        undocumented = [one.name for one in command.params if one.param_type_name == "option" and not one.help]
        assert not undocumented, f"{name}: {undocumented}"
        assert "--json" in ran.output


# --- the embedded stack ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["exports", "json"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_up_starts_prints_its_variables_and_leaves_nothing_behind(
    tmp_path: Path, form: tuple[str, ...], number: signal.Signals
) -> None:
    with tempfile.TemporaryDirectory(prefix="df") as scratch:  # short: Unix sockets live below it
        kept = tmp_path / "build" / "stack"
        process = start({}, "up", "--keep-in", str(kept), "--shop", "20", *form, TMPDIR=scratch)
        try:
            eventually(lambda: process.poll() is not None or (kept / "stack.json").exists(), "the stack is up", 60)
            assert process.poll() is None
            stack = read_stack(kept)
            assert stack.is_alive()
            users = MongoClient[Any](stack.env()["DOCFERRY_MONGO_URI"])["myapp"]["users"]
            assert eventually(lambda: users.count_documents({}) == 20, "the shop is loaded")
            users.database.client.close()
            process.send_signal(number)
            ran = finish(process, timeout_s=30)
        finally:
            process.kill()
        assert ran.code == 0, ran.err
        if form:
            assert json.loads(ran.out) == stack.env()
        else:
            assert f"export DOCFERRY_MONGO_URI='{stack.env()['DOCFERRY_MONGO_URI']}'" in ran.out
        assert not any(one.is_alive() for one in stack.processes)
        assert list(Path(scratch).iterdir()) == []
        assert list(tmp_path.iterdir()) == []


def test_up_detach_leaves_a_stack_that_env_tells_and_down_ends(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="df") as scratch:
        kept = tmp_path / "build" / "stack"
        here = ("--keep-in", str(kept))
        ran = finish(start({}, "up", "--detach", *here, TMPDIR=scratch), timeout_s=90)
        try:
            assert ran.code == 0, ran.err
            stack = read_stack(kept)
            assert stack.is_alive()
            command = 'eval "$DOCFERRY_EXPORTS"; echo $DOCFERRY_MONGO_URI'
            told = subprocess.run(
                ["sh", "-c", command], env={"DOCFERRY_EXPORTS": ran.out}, capture_output=True, text=True
            )
            assert told.stdout.strip() == stack.env()["DOCFERRY_MONGO_URI"]
            assert finish(start({}, "env", *here)).out == ran.out
            assert finish(start({}, "env", *here, "--json")).json == stack.env()
            refused(finish(start({}, "up", "--detach", *here, TMPDIR=scratch)), 3, "is up already", "docferry down")
            ended = finish(start({}, "down", *here), timeout_s=30)
            assert (ended.code, ended.out) == (0, "stopped\n")
            assert not any(one.is_alive() for one in stack.processes)
            assert list(Path(scratch).iterdir()) == []
            assert finish(start({}, "down", *here)).out == "nothing was running\n"
            refused(finish(start({}, "env", *here)), 4, "no stack is up")
        finally:
            for one in read_stack(kept).processes if (kept / "stack.json").exists() else ():
                one.stop()
