"""Dead letters: the document comes back exactly, a replay closes what it mends and only that, and nothing leaks."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import Binary, Code, Decimal128, Int64, ObjectId
from docferry.core.mapping.raw import decode_document
from docferry.core.versions import parse_version
from docferry.errors import InvariantBroken, RefusedByStore, Stopped
from docferry.flows.ledger.dead_letters import (
    DeadLetter,
    letter_document,
    letter_id,
    list_letters,
    open_letter,
    read_letter,
)
from docferry.sandbox import SandboxStack
from docferry.testing.jobs import change_job
from support.backfill.rig import Rig, unguarded_shop_rig
from support.validate.planting import MAKERS, SECRET, at_once, job_of, ledger_dump, replay, validate

__all__ = ["at_once"]
pytestmark = [pytest.mark.xdist_group("dead_letters"), pytest.mark.usefixtures("at_once")]


@pytest.fixture
def rig(stack: SandboxStack, tmp_path: Path) -> Iterator[Rig]:
    """A shop whose only product is over 400 KB, among others that are fine."""
    made = unguarded_shop_rig(stack.env(), tmp_path, f"letters_{ObjectId()}", dead_letter_share=1.0)
    made.database["users"].insert_one(MAKERS["users"]("fine"))
    made.database["products"].insert_many([MAKERS["products"]("fine"), large()])
    made.load()
    yield made
    made.mongo.drop_database(made.migration.source.database)
    made.close()


def large(size: int = 420_000, **fields: Any) -> dict[str, Any]:
    return {**MAKERS["products"]("large"), "scan": Binary(random.Random(1).randbytes(size)), **fields}


def letters(rig: Rig, collection: str = "products") -> list[DeadLetter]:
    return list_letters(rig.ledger, collection)


def only_letter(rig: Rig) -> DeadLetter:
    (letter,) = letters(rig)
    return letter


def document_in(rig: Rig, letter: DeadLetter) -> bytes:
    record = read_letter(rig.ledger, letter.collection, letter.id)
    assert record is not None
    return letter_document(rig.ledger, record)


def raw_of(rig: Rig, collection: str, id_value: Any) -> bytes:
    options = bson.CodecOptions(document_class=bson.raw_bson.RawBSONDocument)
    found = rig.database.get_collection(collection, codec_options=options).find_one({"_id": id_value})
    assert found is not None
    return bytes(found.raw)


def parts(rig: Rig) -> int:
    return len(rig.ledger.list("dead-parts:products"))


# --- listing and showing ---------------------------------------------------------------------------------------------


def test_letter_says_which_document_and_why(rig: Rig) -> None:
    stored = rig.database["products"].find_one({"sku": "SKU-large"})
    assert stored is not None
    letter = only_letter(rig)
    assert (letter.collection, letter.id, letter.reason) == ("products", str(stored["_id"]), "ItemTooLarge")
    assert letter.version == parse_version(next(iter(rig.scan().values()))["_v"]["S"])
    assert SECRET not in str(letter.to_dict()) + repr(letter)


def test_document_comes_back_byte_for_byte(rig: Rig) -> None:
    letter = only_letter(rig)
    assert document_in(rig, letter) == raw_of(rig, "products", ObjectId(letter.id))


ODD: dict[str, Any] = {
    "_id": {"b": 1, "a": "x" * 950},
    "types": [Int64(1), 1.0, Decimal128("1E-6176"), Code("x", {"a": 1}), Binary(b"\xff", 128), float("nan")],
    "deep": {"": {"a.b": {"$c": None}}},
}


def test_document_of_15_mb_with_a_long_id_comes_back_byte_for_byte(rig: Rig) -> None:
    rig.database["categories"].insert_one({**ODD, "scan": Binary(random.Random(2).randbytes(15_000_000))})
    rig.load("categories")  # was complete: the letter is written as replication would
    raw = raw_of(rig, "categories", ODD["_id"])
    name = rig.migration.mapping("categories").id_text(decode_document(raw))
    open_letter(rig.ledger, "categories", RefusedByStore("too large", id=name), raw, 7)
    (letter,) = letters(rig, "categories")
    assert letter.id == letter_id(name)
    assert read_letter(rig.ledger, "categories", name) == letter
    assert letter.parts > 45
    assert document_in(rig, letter) == raw


def test_letter_with_a_lost_part_says_so_instead_of_giving_half_a_document(rig: Rig) -> None:
    rig.ledger.delete(rig.ledger.list("dead-parts:products")[0])
    with pytest.raises(InvariantBroken, match="parts are there"):
        document_in(rig, only_letter(rig))


def test_older_letter_does_not_replace_a_newer_one(rig: Rig) -> None:
    before = only_letter(rig)
    older = RefusedByStore("an older reason", id=before.id)
    open_letter(rig.ledger, "products", older, bson.encode({"_id": 1}), before.version - 1)
    assert only_letter(rig) == before
    assert document_in(rig, before) == raw_of(rig, "products", ObjectId(before.id))


def test_newer_letter_replaces_an_older_one_with_its_parts(rig: Rig) -> None:
    before = only_letter(rig)
    assert parts(rig) == before.parts > 1
    newer = RefusedByStore("a newer reason", id=before.id)
    open_letter(rig.ledger, "products", newer, bson.encode({"_id": 1}), before.version + 1)
    letter = only_letter(rig)
    assert (letter.reason, letter.version) == ("RefusedByStore", before.version + 1)
    assert document_in(rig, letter) == bson.encode({"_id": 1})
    assert parts(rig) == 1


# --- replaying -------------------------------------------------------------------------------------------------------


def test_fixed_document_is_stored_and_its_letter_closed(rig: Rig) -> None:
    letter = only_letter(rig)
    rig.database["products"].update_one({"_id": ObjectId(letter.id)}, {"$unset": {"scan": 1}})
    assert replay(rig, "products").to_dict() == {
        "letters": 1, "stored": 1, "gone": 0, "still_dead": 0, "superseded": 0, "changed": 0, "outside": 0,
    }  # fmt: skip
    assert letters(rig) == []
    assert parts(rig) == 0
    item = rig.scan()[(f"PRODUCT#{letter.id}", "METADATA")]
    assert parse_version(item["_v"]["S"]) > letter.version
    assert validate(rig).ok
    assert replay(rig, "products").letters == 0


def test_document_that_is_still_bad_keeps_its_letter_with_the_new_reason(rig: Rig) -> None:
    letter = only_letter(rig)
    deep: Any = "bottom"
    for _ in range(40):
        deep = {"down": deep}
    rig.database["products"].update_one({"_id": ObjectId(letter.id)}, {"$unset": {"scan": 1}, "$set": {"deep": deep}})
    assert replay(rig, "products").still_dead == 1
    again = only_letter(rig)
    assert (again.reason, again.id) == ("TooDeep", letter.id)
    assert again.path.startswith("deep.down")
    assert again.version > letter.version
    assert document_in(rig, again) == raw_of(rig, "products", ObjectId(letter.id))
    assert validate(rig).ok


def test_unchanged_document_stays_dead_without_an_end(rig: Rig) -> None:
    before = only_letter(rig)
    for _ in range(2):
        assert replay(rig, "products").still_dead == 1
        assert (only_letter(rig).reason, only_letter(rig).id) == (before.reason, before.id)
    assert document_in(rig, only_letter(rig)) == raw_of(rig, "products", ObjectId(before.id))


def test_document_that_was_deleted_is_gone_and_its_letter_closed(rig: Rig) -> None:
    letter = only_letter(rig)
    rig.database["products"].delete_one({"_id": ObjectId(letter.id)})
    assert replay(rig, "products").gone == 1
    assert letters(rig) == []
    assert parts(rig) == 0
    assert validate(rig).ok


def test_letter_that_changed_meanwhile_is_not_closed(rig: Rig) -> None:
    letter = only_letter(rig)
    rig.database["products"].update_one({"_id": ObjectId(letter.id)}, {"$unset": {"scan": 1}})
    job = job_of(rig)

    class Meanwhile:
        """A source during whose read another process writes a newer letter of the document."""

        def __getattr__(self, name: str) -> Any:
            return getattr(job.source, name)

        def read_ids(self, *args: Any) -> Any:
            newer = RefusedByStore("meanwhile", id=letter.id)
            open_letter(rig.ledger, "products", newer, bson.encode({"_id": 2}), letter.version + 1)
            return job.source.read_ids(*args)

    report = replay(rig, "products", job=change_job(job, source=Meanwhile()))
    assert (report.changed, report.stored) == (1, 0)
    kept = only_letter(rig)
    assert kept.message == "meanwhile"
    assert document_in(rig, kept) == bson.encode({"_id": 2})


def test_only_the_named_documents_are_replayed(rig: Rig) -> None:
    letter = only_letter(rig)
    rig.database["products"].update_one({"_id": ObjectId(letter.id)}, {"$unset": {"scan": 1}})
    before = ledger_dump(rig)
    assert replay(rig, "products", "somebody else").letters == 0
    assert ledger_dump(rig) == before
    assert replay(rig, "products", letter.id).stored == 1


def test_newer_item_in_dynamodb_is_not_overwritten_by_a_replay(rig: Rig) -> None:
    letter = only_letter(rig)
    rig.database["products"].update_one({"_id": ObjectId(letter.id)}, {"$unset": {"scan": 1}})
    newer = {"PK": {"S": f"PRODUCT#{letter.id}"}, "SK": {"S": "METADATA"}, "_v": {"S": "f" * 22}}
    rig.dynamodb.put_item(TableName=rig.table, Item=newer)
    replay(rig, "products")
    assert rig.scan()[(f"PRODUCT#{letter.id}", "METADATA")] == newer


def test_replay_stops_when_asked_and_leaves_the_letter(rig: Rig) -> None:
    stop = threading.Event()
    stop.set()
    job = change_job(job_of(rig), stop=stop)
    before = ledger_dump(rig)
    with pytest.raises(Stopped):
        replay(rig, "products", job=job)
    assert ledger_dump(rig) == before


def test_summary_error_and_repr_carry_no_document(rig: Rig) -> None:
    report = replay(rig, "products")
    record = read_letter(rig.ledger, "products", only_letter(rig).id)
    shown = f"{report!r}{report.to_dict()}{only_letter(rig)!r}{record!r}"
    assert SECRET not in shown
    assert "ItemTooLarge" in shown
