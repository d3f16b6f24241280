"""Each exit code of the commands, in a situation that has it."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import bson
import pytest
import yaml
from bson.raw_bson import RawBSONDocument
from click.testing import CliRunner
from docferry.cli import load as cli_load
from docferry.cli import main as cli
from support.backfill.rig import eventually, table_names
from support.cli.shop import COMMANDS, Shop, as_document, fill, finish, fresh, refused, shop
from support.validate.planting import MAKERS, SECRET

__all__ = ["fresh", "shop"]

pytestmark = pytest.mark.xdist_group("cli")
NEEDED = {
    "approve": ("flip_reads", "--as", "maria", "--why", "it is equal"),
    "flip-reads": ("--percent", "1"),
    "finalize": ("--confirm", "cli"),
}
"""What a command does not do without."""


def test_1_if_the_databases_differ_until_repaired(fresh: Shop) -> None:
    fill(fresh)
    assert fresh.run("provision").code == 0
    assert fresh.run("backfill").code == 0
    for item in fresh.dump().values():
        if "currency" in item:
            fresh.dynamodb.put_item(TableName=fresh.table, Item={**item, "currency": {"S": "CHF"}})
    ran = fresh.run("validate", "--json")
    refused(ran, 1)
    assert ran.json["ok"] is False
    assert {one["path"] for one in ran.json["differences"]} == {"currency"}
    assert "DIFFERENT" in fresh.run("status").out
    before = fresh.dump(), records_of(fresh)
    refused(fresh.run("repair", "--dry-run"), 1)
    assert (fresh.dump(), records_of(fresh)) == before
    assert fresh.run("repair").code == 0
    assert fresh.run("validate").code == 0


def records_of(shop: Shop) -> dict[Any, Any]:
    """The ledger, but for the rates: a dry run, too, takes its share of the reads."""
    return {key: item for key, item in shop.dump(shop.ledger).items() if not key[0].endswith("#budget")}


def test_1_if_repair_leaves_what_is_newer(fresh: Shop) -> None:
    fresh.database["categories"].insert_one(MAKERS["categories"]("one"))
    assert fresh.run("provision").code == 0
    assert fresh.run("backfill").code == 0
    for item in fresh.dump().values():  # the document's, and its guard
        changed = {"name": {"S": "x"}} if "name" in item else {}
        fresh.dynamodb.put_item(TableName=fresh.table, Item={**item, **changed, "_v": {"S": "f" * 22}})
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
    for command in COMMANDS[5:]:  # those that are about a file
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
    fresh.database["categories"].insert_many([{"_id": n, "slug": f"slug-{n}"} for n in range(2, 12)])
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


def test_3_for_names_that_mongodb_has_not_before_anything_is_made(fresh: Shop) -> None:
    name = fresh.database.name
    fresh.change_file(source={"database": f"{name[:-1]}x"})
    for command in ("check", "provision"):
        ran = fresh.run(command)
        assert ran.code == 3
        assert f"did you mean {name}?" in ran.out + ran.err
    fresh.change_file(source={"database": name}, collections={"evens": {"table": fresh.table}})
    fresh.database.create_collection("events")
    refused(fresh.run("provision"), 3, "no collection evens", "did you mean events?")
    assert fresh.table not in table_names(fresh.dynamodb)
    fresh.change_file(collections={"evens": {"table": fresh.table, "create": True}})
    assert fresh.run("provision").code == 0
    assert "evens" in fresh.database.list_collection_names()


def test_commands_that_look_tell_of_a_mapping_that_has_changed(fresh: Shop) -> None:
    fill(fresh)
    assert fresh.run("provision").code == 0
    assert fresh.run("backfill", "--only", "categories").code == 0
    tree = yaml.safe_load(fresh.file.read_text())
    tree["collections"]["categories"]["unmapped"] = "refuse"
    fresh.file.write_text(yaml.safe_dump(tree, sort_keys=False))
    checked = fresh.run("check", "--json")
    assert checked.code == 3
    assert [one["where"] for one in checked.json["problems"]] == ["collections.categories"]
    for command in (("status",), ("provision",), ("backfill", "--dry-run"), ("health",)):
        assert "collections.categories: its mapping has changed" in fresh.run(*command).out


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
        refused(ran, 4, "Run `docferry provision` first")
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

    monkeypatch.setattr(cli_load, "check_migration", bug)
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
