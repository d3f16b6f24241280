"""The command line as a person or a script meets it: real processes, real servers, every exit code for real."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bson
import pytest
import yaml
from bson import Binary, ObjectId, json_util
from bson.raw_bson import RawBSONDocument
from click.testing import CliRunner
from docferry.cli import load as cli_load
from docferry.cli import main as cli
from docferry.core.bson_codec.codec import BSON_OPTIONS
from docferry.sandbox import SandboxStack
from docferry.sandbox.stack import read_stack
from pymongo import MongoClient
from support.backfill.rig import SHOP_FILE, eventually, session_of
from support.validate.planting import MAKERS, SECRET

pytestmark = pytest.mark.xdist_group("cli")
COMMANDS = (
    "up",
    "env",
    "down",
    "drill",
    "check",
    "provision",
    "replicas",
    "backfill",
    "replicate",
    "reverse",
    "validate",
    "repair",
    "purge",
    "dead-letters",
    "status",
    "health",
    "mode",
    "clients",
    "approve",
    "dual-write",
    "flip-reads",
    "stop-mongo-writes",
    "rollback",
    "finalize",
    "points",
)
NEEDED = {
    "approve": ("flip_reads", "--why", "it is equal"),
    "flip-reads": ("--percent", "1"),
    "finalize": ("--confirm", "cli"),
}
"""What a command does not do without."""
WIDE = {"COLUMNS": "200"}
TRACEBACK = "Traceback (most recent call last)"


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on standard output."""
        return json.loads(self.out)


@dataclass(frozen=True)
class Shop:
    """A migration file with tables of its own, its databases, and the command line to work on them."""

    file: Path
    table: str
    ledger: str
    database: Any
    dynamodb: Any
    env: Mapping[str, str]

    def start(self, *words: str, **env: str) -> subprocess.Popen[str]:
        return start(self.env, *words, **env)

    def run(self, command: str, *words: str, **env: str) -> Ran:
        """In this process, which saves a second; `start` is for what needs one of its own."""
        ran = CliRunner().invoke(cli.main, [command, str(self.file), *words], env={**self.env, **WIDE, **env})
        return Ran(ran.exit_code, ran.stdout, ran.stderr)

    def dump(self, table: str = "") -> dict[Any, Any]:
        pages = self.dynamodb.get_paginator("scan").paginate(TableName=table or self.table, ConsistentRead=True)
        return {(item["PK"]["S"], item["SK"]["S"]): item for page in pages for item in page["Items"]}

    def change_file(self, **sections: Any) -> None:
        tree = yaml.safe_load(self.file.read_text())
        for name, section in sections.items():
            tree[name] = {**tree.get(name, {}), **section}
        self.file.write_text(yaml.safe_dump(tree, sort_keys=False))


def start(env: Mapping[str, str], *words: str, **more: str) -> subprocess.Popen[str]:
    everything = {**os.environ, **env, **WIDE, **more}
    words = (sys.executable, "-m", "docferry.cli", *words)
    return subprocess.Popen(words, env=everything, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str], timeout_s: float = 90.0) -> Ran:
    try:
        out, err = process.communicate(timeout=timeout_s)
    finally:
        process.kill()
    return Ran(process.returncode, out, err)


def new_shop(stack: SandboxStack, directory: Path) -> Shop:
    mark = str(ObjectId())
    tree = yaml.safe_load(SHOP_FILE.read_text())
    settings = {**tree["tables"]["Shop"], "deletion_protection": False}
    tree["tables"] = {f"Shop{mark}": settings}
    for collection in tree["collections"].values():
        collection["table"] = f"Shop{mark}"
    tree |= {"migration": "cli", "source": {"database": f"cli_{mark}"}, "ledger": {"table": f"Ledger{mark}"}}
    tree["target"] = {"region": "us-east-1"}
    tree["backfill"] = {"dead_letter_share": 0.9}
    file = directory / f"{mark}.yaml"
    file.write_text(yaml.safe_dump(tree, sort_keys=False))
    env = stack.env()
    database = MongoClient[Any](env["DOCFERRY_MONGO_URI"])[f"cli_{mark}"]
    database["users"].create_index("username", unique=True)
    client = session_of(env).client("dynamodb", endpoint_url=env["AWS_ENDPOINT_URL_DYNAMODB"])
    return Shop(file, f"Shop{mark}", f"Ledger{mark}", database, client, env)


def fill(shop: Shop) -> None:
    for name, make in MAKERS.items():
        shop.database[name].insert_many([make(f"{name}-{n}") for n in range(3)])
    shop.database["products"].insert_one({**MAKERS["products"]("large"), "scan": Binary(os.urandom(420_000))})


@pytest.fixture(scope="module")
def shop(stack: SandboxStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Provisioned and loaded by the command line itself; one document is a dead letter."""
    made = new_shop(stack, tmp_path_factory.mktemp("cli"))
    fill(made)
    for command in ("provision", "backfill"):
        ran = made.run(command)
        assert ran.code == 0, ran.err
    yield made
    made.database.client.close()


@pytest.fixture
def fresh(stack: SandboxStack, tmp_path: Path) -> Iterator[Shop]:
    """Nothing done yet."""
    made = new_shop(stack, tmp_path)
    yield made
    made.database.client.close()


# --- results ---------------------------------------------------------------------------------------------------------

EVERY: dict[str, tuple[str, ...]] = {
    "check": ("check",),
    "check offline": ("check", "--offline"),
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
    assert set(parts) == {"replica_set", "tables", "lag_reverse", "consistency", "letters", "application"}
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


# --- exit codes ------------------------------------------------------------------------------------------------------


def refused(ran: Ran, code: int, *words: str) -> None:
    assert ran.code == code, (ran.out, ran.err)
    assert TRACEBACK not in ran.err
    for word in words:
        assert word in ran.err
    assert SECRET not in ran.err + ran.out


def as_document(ran: Ran, error: str) -> Any:
    body = ran.json
    assert body["error"] == error
    assert body["message"]
    return body


def test_1_if_the_databases_differ_until_repaired(fresh: Shop) -> None:
    fill(fresh)
    assert fresh.run("provision").code == 0
    assert fresh.run("backfill").code == 0
    fresh.database["orders"].update_many({}, {"$set": {"currency": "CHF"}})
    ran = fresh.run("validate", "--json")
    refused(ran, 1)
    assert ran.json["ok"] is False
    assert {one["path"] for one in ran.json["differences"]} == {"currency"}
    assert "DIFFERENT" in fresh.run("status").out
    before = fresh.dump(), fresh.dump(fresh.ledger)
    refused(fresh.run("repair", "--dry-run"), 1)
    assert (fresh.dump(), fresh.dump(fresh.ledger)) == before
    assert fresh.run("repair").code == 0
    assert fresh.run("validate").code == 0


def test_1_if_repair_leaves_what_is_newer(fresh: Shop) -> None:
    fresh.database["categories"].insert_one(MAKERS["categories"]("one"))
    assert fresh.run("provision").code == 0
    assert fresh.run("backfill").code == 0
    (item,) = fresh.dump().values()
    fresh.dynamodb.put_item(TableName=fresh.table, Item={**item, "name": {"S": "x"}, "_v": {"S": "f" * 22}})
    ran = fresh.run("repair", "--json")
    refused(ran, 1)
    assert ran.json["superseded"] == 1


def test_1_while_a_replayed_letter_stays_dead_and_0_once_it_is_fixed(fresh: Shop) -> None:
    fill(fresh)
    assert fresh.run("provision").code == 0
    assert fresh.run("backfill").code == 0
    ran = fresh.run("dead-letters", "--replay", "--json")
    refused(ran, 1)
    assert ran.json["products"]["still_dead"] == 1
    fresh.database["products"].update_one({"sku": "SKU-large"}, {"$unset": {"scan": 1}})
    ran = fresh.run("dead-letters", "--replay", "--json")
    assert ran.code == 0
    assert ran.json["products"]["stored"] == 1
    assert fresh.run("dead-letters", "--json").json == []


def test_2_for_a_bad_file_with_every_problem_at_once(fresh: Shop) -> None:
    fresh.change_file(nonsense={"a": 1}, backfill={"chunk_documents": -1})
    for command in COMMANDS[4:]:  # those that are about a file
        ran = fresh.run(command, *NEEDED.get(command, ()), "--json")
        refused(ran, 2)
        problems = as_document(ran, "ConfigError")["problems"]
        assert {"nonsense", "backfill.chunk_documents"} <= {one["where"] for one in problems}
        assert all(one["line"] for one in problems)


def test_2_for_wrong_usage(shop: Shop, tmp_path: Path) -> None:
    refused(finish(shop.start("validate", str(tmp_path / "none.yaml"))), 2, "cannot be read")
    refused(shop.run("validate", "--sample", "0"), 2)
    refused(shop.run("validate", "--nonsense"), 2)
    refused(shop.run("validate", DOCFERRY_MONGO_URI=""), 2, "DOCFERRY_MONGO_URI", "is not set")
    refused(shop.run("status", AWS_PROFILE="no-such-profile"), 2, "no-such-profile")


@pytest.mark.parametrize("command", ["backfill", "validate", "repair", "dead-letters", "dead-letters --replay"])
def test_2_for_an_unknown_collection(shop: Shop, command: str) -> None:
    word, *more = command.split()
    ran = shop.run(word, *more, "--only", "nosuch", "--json")
    refused(ran, 2, "there is no nosuch", "users, orders, products, categories")
    as_document(ran, "ConfigError")


def test_a_dead_letter_whose_text_is_not_utf8_is_shown_and_names_its_field(fresh: Shop) -> None:
    broken = RawBSONDocument(bson.encode({"_id": 1, "slug": "x", "note": "abcd"}).replace(b"abcd", b"ab\xffd"))
    fresh.database["categories"].insert_one(broken)
    assert fresh.run("provision").code == 0
    assert fresh.run("backfill", "--only", "categories").code == 0
    (letter,) = fresh.run("dead-letters", "--json").json
    assert letter["path"] == "note"
    ran = fresh.run("dead-letters", "--show", letter["id"])
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["note"] == "ab\\xffd"
    assert "note: not valid UTF-8" in ran.err


def test_2_for_a_dead_letter_that_is_none(shop: Shop) -> None:
    refused(shop.run("dead-letters", "--show", "nobody"), 2, "nobody", "no dead letter")


def test_3_if_the_estate_has_drifted(fresh: Shop) -> None:
    assert fresh.run("provision").code == 0
    fresh.change_file(tables={fresh.table: {"indexes": ["GSI1", "GSI2"], "pitr": False, "tags": {"Project": "other"}}})
    ran = fresh.run("provision", "--json")
    refused(ran, 3, "differs")
    as_document(ran, "EstateDrift")


def test_3_if_a_preflight_check_says_no(fresh: Shop) -> None:
    assert fresh.run("provision").code == 0
    fresh.database["users"].drop_index("username_1")
    assert fresh.run("check", "--offline").code == 0
    ran = fresh.run("check", "--json")
    refused(ran, 3)
    assert [one["where"] for one in ran.json["problems"]] == ["collections.users.item.key"]
    refused(fresh.run("provision"), 3, "no unique index")
    refused(fresh.run("backfill"), 3, "no unique index")
    assert fresh.dump() == {}


def test_provision_tells_what_images_cost_before_it_switches_them_on(fresh: Shop) -> None:
    fresh.database.command("collMod", "users", changeStreamPreAndPostImages={"enabled": False})
    planned = fresh.run("provision", "--dry-run")
    assert "collection users: change stream images to be switched on" in planned.out
    assert "before compression" in planned.out
    assert not fresh.database["users"].options().get("changeStreamPreAndPostImages", {}).get("enabled")
    done = fresh.run("provision", "--json")
    assert done.json["images"]["collections"]["users"] == "switched on"
    assert "before compression" in done.err
    assert fresh.database["users"].options()["changeStreamPreAndPostImages"] == {"enabled": True}
    assert "images: on for every collection" in fresh.run("provision").out


def test_3_for_too_many_dead_letters(fresh: Shop) -> None:
    fill(fresh)
    fresh.change_file(backfill={"dead_letter_share": 0.0, "dead_letter_count": 0})
    assert fresh.run("provision").code == 0
    ran = fresh.run("backfill", "--only", "products", "--json")
    refused(ran, 3, "docferry dead-letters")
    as_document(ran, "TooManyDeadLetters")
    assert len(fresh.run("dead-letters", "--json").json) == 1


def test_3_for_a_purge_that_is_not_proved_safe_with_every_reason(shop: Shop) -> None:
    before = shop.dump()
    dry = shop.run("purge", "--dry-run", "--json")
    refused(dry, 3)
    assert (dry.json["safe"], dry.json["purged"], dry.json["scanned"]) == (False, 0, 0)
    shown = shop.run("purge", "--dry-run")
    refused(shown, 3)
    assert "[DOES NOT HOLD] replication goes on from a position of its own: it has never begun" in shown.out
    assert "Nothing was deleted." in shown.out
    ran = shop.run("purge", "--json")
    refused(ran, 3, "docferry replicate")
    problems = as_document(ran, "PreflightFailed")["problems"]
    assert [one["where"] for one in problems] == [one["condition"] for one in dry.json["proof"] if not one["holds"]]
    assert shop.dump() == before


def slow(shop: Shop) -> None:
    """So much to load, at so low a rate, that there is time to interfere."""
    shop.database["categories"].insert_many([MAKERS["categories"](f"c{n}") for n in range(1500)])
    shop.change_file(backfill={"budget_wcu": 300, "page_documents": 50})
    assert shop.run("provision").code == 0


def test_3_while_somebody_else_holds_the_lease_and_5_on_sigterm_and_0_when_continued(fresh: Shop) -> None:
    slow(fresh)
    first = fresh.start("backfill", str(fresh.file), "--only", "categories", "--json")
    try:
        eventually(lambda: first.poll() is not None or len(fresh.dump()) > 100, "something is loaded")
        second = fresh.run("backfill", "--only", "categories", "--json")
        refused(second, 3, "is being worked on by")
        as_document(second, "LeaseHeld")
        first.send_signal(signal.SIGTERM)
        stopped = finish(first, timeout_s=15)
    finally:
        first.kill()
    refused(stopped, 5, "stopping", "run again to continue")
    as_document(stopped, "Stopped")
    loaded = len(fresh.dump())
    assert 100 < loaded < 1500
    fresh.change_file(backfill={"budget_wcu": 0})
    ran = fresh.run("backfill", "--only", "categories", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["collections"][0]["read"] == ran.json["collections"][0]["written"] == 1500
    assert fresh.run("validate", "--only", "categories").code == 0


def test_4_if_a_server_cannot_be_reached_or_says_no(shop: Shop) -> None:
    uri = shop.env["DOCFERRY_MONGO_URI"]
    nobody = re.sub(r"@[^/]+", "@127.0.0.1:1", uri)
    wrong = re.sub(r"//docferry:[^@]+@", "//docferry:wrong@", uri)
    waiting = [
        shop.start(word, str(shop.file), "--json", DOCFERRY_MONGO_URI=nobody) for word in ("backfill", "validate")
    ]
    ran = shop.run("backfill", "--json", DOCFERRY_MONGO_URI=wrong)
    refused(ran, 4, "uthentication")
    as_document(ran, "AccessDenied")
    ran = shop.run("status", "--json", AWS_ENDPOINT_URL_DYNAMODB="http://127.0.0.1:1")
    refused(ran, 4, "127.0.0.1:1")
    for process in waiting:
        ran = finish(process)
        refused(ran, 4, "127.0.0.1:1")
        as_document(ran, "Unavailable")
        assert "password" not in ran.err
        assert uri.split(":")[2].split("@")[0] not in ran.err + ran.out


def test_4_without_tables_says_to_provision_first(fresh: Shop) -> None:
    for command in ("backfill", "validate", "purge", "status", "dead-letters"):
        ran = fresh.run(command, "--json")
        refused(ran, 4, "Run provision first")
        as_document(ran, "TableMissing")


def test_70_for_a_broken_invariant(fresh: Shop) -> None:
    assert fresh.run("provision").code == 0
    broken = {"PK": {"S": "cli#position"}, "SK": {"S": "stream"}, "rev": {"N": "1"}, "schema": {"N": "99"}}
    fresh.dynamodb.put_item(TableName=fresh.ledger, Item={**broken, "body": {"M": {}}})
    ran = fresh.run("status", "--json")
    refused(ran, 70, "schema 99")
    as_document(ran, "InvariantBroken")


def test_70_for_a_bug_with_the_place_and_without_what_it_choked_on(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_: Any) -> None:
        raise KeyError(f"{SECRET} of a document")

    monkeypatch.setattr(cli_load, "check_source", bug)
    ran = CliRunner().invoke(cli.main, ["check", str(shop.file), "--json"], env=dict(shop.env))
    assert ran.exit_code == 70
    assert json.loads(ran.stdout)["error"] == "KeyError"
    assert "in bug" in ran.stderr
    assert SECRET not in ran.stderr + ran.stdout


@pytest.mark.parametrize("words", [("status",), ("mode", "--json"), ("validate", "--sample", "0")], ids=" ".join)
def test_a_reader_that_has_closed_standard_output_is_no_error(shop: Shop, words: tuple[str, ...]) -> None:
    wanted = shop.run(*words)
    process = shop.start(*words[:1], str(shop.file), *words[1:])
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    said = process.stderr.read()
    assert process.wait(30) == wanted.code
    assert "BrokenPipe" not in said
    assert "bug" not in said


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
