"""The golden vectors, read by what shares no code with docferry: the page and the files are enough to go by."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import zstandard
from docferry.rehearsal.independent import protocol
from docferry.rehearsal.independent.compressed import whole, without_parts
from support.place import ROOT

VECTORS = ROOT / "docs" / "vectors"


def read(name: str) -> Any:
    return json.loads((VECTORS / f"{name}.json").read_text())


def test_reader_does_not_import_docferry() -> None:
    text = Path(protocol.__file__).read_text()
    assert not [line for line in text.splitlines() if line.strip().startswith(("import doc", "from doc"))]


def test_share_that_a_key_belongs_to() -> None:
    for one in read("modes")["percent"]:
        assert protocol.bucket(one["share_key"]) == one["bucket"], one


def test_versions() -> None:
    said = read("versions")
    for one in said["events"]:
        assert protocol.version(one["seconds"], one["increment"], one["n"]) == one["version"], one
    for one in said["next"]:
        assert protocol.next_version(one["stored"], one["floor"]) == one["next"], one


def test_keys() -> None:
    for one in read("keys"):
        if one["table_key"] is None:
            continue
        if "type" in one:
            assert protocol.typed_key(one["type"], one["template"], one["document"]) == one["table_key"], one
        else:
            assert protocol.key(one["template"], one["document"]) == one["table_key"], one


def test_digests_and_what_fits_together() -> None:
    said = read("documents")
    assert protocol.digest(said["digest"]["children"]) == said["digest"]["digest"]
    assert protocol.digest(said["digest"]["same"]) == said["digest"]["digest"]
    assert protocol.digest(said["digest"]["other"]) == said["digest"]["other_digest"]
    for one in said["together"]:
        assert protocol.is_whole(one["items"]) == one["whole"], one
    for one in said["cases"]:
        assert protocol.is_whole(one["items"]), one


def test_items_of_a_table_that_names_its_keys_itself() -> None:
    said = read("documents")["designed"]
    assert len(said["cases"]) == 3
    for one in said["cases"]:
        table = said["tables"][said["collections"][one["collection"]]["table"]]
        found = [protocol.ours(item, table) for item in one["items"]]
        assert found == one["ours"], one
        assert protocol.is_whole(found), one
        assert [protocol.ours(item, table)["PK"] for item in one["tombstones"]] == [item["PK"] for item in found]


def in_boto3(item: dict[str, Any]) -> dict[str, Any]:
    return {**item, "_z": {"B": base64.b64decode(item["_z"]["B"] + "==")}}


def test_compressed_items() -> None:
    said = read("documents")["compressed"]
    assert whole(in_boto3(said["stored"])) == said["item"]
    for one in said["unreadable"]:
        with pytest.raises((ValueError, zstandard.ZstdError)):
            whole(in_boto3(one))


def test_items_in_parts() -> None:
    said = read("documents")["split"]
    (found,) = without_parts([said["stored"], *map(in_boto3, said["parts"])])
    assert whole(found) == said["item"]
    missing, swapped = said["unreadable"]
    assert without_parts([said["stored"], *map(in_boto3, missing)]) == [said["stored"]]
    with pytest.raises((ValueError, zstandard.ZstdError)):
        whole(*without_parts([said["stored"], *map(in_boto3, swapped)]))


def test_items_in_s3() -> None:
    said = read("documents")["s3"]
    found = base64.b64decode(said["object"])
    (item,) = without_parts([said["stored"]], {said["stored"]["_p"]["L"][0]["M"]["name"]["S"]: found}.get)
    assert whole(item) == said["item"]
    assert without_parts([said["stored"]], lambda name: found[:-1]) == [said["stored"]]


def test_flags_of_a_mode() -> None:
    for one in read("modes")["states"]:
        body, leads = one["body"], one["leader"] in ("DYNAMODB_ONLY", "FINAL")
        assert one["leader"] == (body["behind"] or body["mode"])
        assert one["write_to_mongo"] == (body["mode"] in ("MONGO_ONLY", "DUAL_WRITE", "DYNAMODB_READS"))
        assert one["write_to_dynamodb"] == (body["mode"] not in ("MONGO_ONLY", "HOLD"))
        assert one["read_from_dynamodb"] == (leads or (one["leader"] == "DYNAMODB_READS" and body["percent"] > 0))
        assert one["validate_writes"] == (one["leader"] == "DUAL_WRITE" and body["percent"] > 0)


def test_ledger_writes_are_conditional_on_what_was_read_and_count_on() -> None:
    stored: dict[tuple[str, str], int] = {("shop#mode", "all"): 0}
    for step in read("ledger")["steps"]:
        stored["shop#mode", "all"] = 100 + step["epoch"]
        request = step["request"]
        puts = request["TransactItems"] if step["operation"] == "TransactWriteItems" else [{"Put": request}]
        for one in puts[1:]:
            check = one["ConditionCheck"]
            place = (check["Key"]["PK"]["S"], check["Key"]["SK"]["S"])
            assert check["ExpressionAttributeValues"][":rev"] == {"N": str(stored[place])}
        put, item = puts[0]["Put"], puts[0]["Put"]["Item"]
        place = (item["PK"]["S"], item["SK"]["S"])
        if put["ConditionExpression"] == "attribute_not_exists(PK)":
            assert item["rev"] == {"N": "NOW_US"}
            stored[place] = 200
        else:
            assert put["ConditionExpression"] == "#rev = :rev"
            assert put["ExpressionAttributeValues"] == {":rev": {"N": str(stored[place])}}
            stored[place] += 1
            assert item["rev"] == {"N": str(stored[place])}


def test_writes_beside_mongodb_yield_to_whatever_is_newer() -> None:
    for one in read("writes")["beside"]:
        alone = one["operation"] == "PutItem"
        puts = [one["request"]] if alone else [each["Put"] for each in one["request"]["TransactItems"]]
        assert alone == (len(puts) == 1), "a transaction costs twice its items"
        for put in puts:
            assert put["ConditionExpression"] == "attribute_not_exists(#v) OR #v < :v"
            assert put["ExpressionAttributeValues"][":v"] == put["Item"]["_v"] == {"S": one["version"]}
            assert ("_deleted" in put["Item"]) == (one["what"] == "bury")


def test_write_with_a_journal_has_its_entry_last_and_only_in_an_empty_slot() -> None:
    for one in read("writes")["journaled"]:
        *puts, last = (each["Put"] for each in one["request"]["TransactItems"])
        assert last["ConditionExpression"] == "attribute_not_exists(PK)"
        assert last["TableName"] == "DocferryLedgerJournal"
        assert last["Item"]["SK"] == {"S": "000000000003"}
        assert last["Item"]["PK"]["S"].split("#") == ["shop", "0123456789abcdef0123456789abcdef", "0"]
        named = [[next(iter(text.values())) for text in wrote["L"]] for wrote in last["Item"]["wrote"]["L"]]
        roots = [put for put in puts if put["Item"]["SK"] == {"S": "PROFILE"}]
        assert [wrote[1:4] for wrote in named] == [
            [put["Item"]["PK"]["S"], put["Item"]["SK"]["S"], put["Item"]["_v"]["S"]] for put in roots
        ], "the roots, and no other item"


def test_journal_entries_say_what_they_stand_for() -> None:
    for one in read("journal")["entries"]:
        item = one["item"]
        assert item["PK"]["S"] == f"{one['migration']}#{one['instance']}#{one['lane']}"
        assert item["SK"]["S"] == f"{one['slot']:012d}"
        assert (item["kind"]["S"], item["_ttl"]["N"]) == (one["kind"], "NOW_S+259200")
        assert [[next(iter(part.values())) for part in wrote["L"]] for wrote in item["wrote"]["L"]] == [
            [*wrote[:4], str(wrote[4])] for wrote in one["wrote"]
        ]


def test_slot_that_is_taken_is_ones_own_an_earlier_one_or_the_end() -> None:
    for one in read("journal")["meetings"]:
        sent, there = one["sent"], one["there"]
        if there["kind"] == "seal":
            wanted = ("sealed", 1)
        elif there["nonce"] not in sent:
            wanted = ("foreign", 1)
        else:
            wanted = ("happened" if there["nonce"] == sent[-1] else "behind", 2)
        assert (one["answer"], one["next"]) == wanted


def test_writes_of_a_leading_dynamodb_lock_on_what_was_read_and_leave_a_document_that_fits_together() -> None:
    for one in read("writes")["leading"]:
        table = {(item["PK"]["S"], item["SK"]["S"]): item for item in one["there"]}
        newest = max((item["_v"]["S"] for item in table.values()), default=None)
        for put in (each["Put"] for each in one["request"]["TransactItems"]):
            place = (put["Item"]["PK"]["S"], put["Item"]["SK"]["S"])
            if place in table:
                assert put["ConditionExpression"] == "#v = :v"
                assert put["ExpressionAttributeValues"] == {":v": table[place]["_v"]}
            else:
                assert put["ConditionExpression"] == "attribute_not_exists(PK)"
            assert put["Item"]["_v"]["S"] == protocol.next_version(newest, one["floor"])
            table[place] = put["Item"]
        live = {place: item for place, item in table.items() if "_deleted" not in item}
        roots = [item for item in live.values() if item["SK"]["S"] == "PROFILE"]
        assert len(roots) == (one["after"] is not None), one["what"]
        for root in roots:
            others = [item for item in live.values() if item["PK"] == root["PK"] and item is not root]
            assert protocol.is_whole([root, *others]), one["what"]
            assert len(others) == len(one["after"]["addresses"])
