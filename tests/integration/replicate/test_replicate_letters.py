"""Documents that cannot be stored become dead letters, and come back once they are good."""

from __future__ import annotations

from typing import Any

import bson
import pytest
from bson.raw_bson import RawBSONDocument
from docferry.flows.ledger.dead_letters import letter_document, list_letters, read_letter
from support.backfill.rig import Rig
from support.replicate.rig import (
    assert_equal,
    follow,
    graves,
    large,
)
from support.replicate.shop import Document, a_user, impatient, insert, keys_of, rig, shared
from support.validate.planting import MAKERS, order, user

__all__ = ["impatient", "rig", "shared"]

pytestmark = pytest.mark.xdist_group("replicate")


def letters(rig: Rig, collection: str = "users") -> list[tuple[str, str]]:
    return [(one.id, one.reason) for one in list_letters(rig.ledger, collection)]


# --- documents that cannot be stored ---------------------------------------------------------------------------------

BREAKING: dict[str, tuple[Any, str, Any]] = {
    "too large": ({"$set": {"scan": large(420_000)}}, "ItemTooLarge", {"$unset": {"scan": ""}}),
    "no key": ({"$unset": {"username": ""}}, "KeyNotRepresentable", {"$set": {"username": "no key"}}),
    "empty key": ({"$set": {"username": ""}}, "KeyNotRepresentable", {"$set": {"username": "empty key"}}),
    "a child without its key": (
        {"$unset": {"addresses.0.type": ""}},
        "KeyNotRepresentable",
        {"$set": {"addresses.0.type": "x"}},
    ),
}


@pytest.mark.parametrize("what", BREAKING)
def test_document_that_becomes_unstorable_is_a_dead_letter_and_comes_back_whole(shared: Rig, what: str) -> None:
    harm, reason, cure = BREAKING[what]
    key = a_user(shared, what)
    users = shared.database["users"]
    users.update_one({"_id": key}, harm)
    users.update_one({"_id": key}, {"$set": {"note": "again"}})
    insert(shared, "categories", MAKERS["categories"](what))
    report = follow(shared)
    assert (report.events, report.written, report.dead) == (3, 1, 2)
    assert letters(shared) == [(str(key), reason)]
    assert keys_of(shared, f"USER#{what}") == set()
    assert_equal(shared)
    users.update_one({"_id": key}, cure)
    report = follow(shared)
    assert (report.written, report.dead) == (1, 0)
    assert letters(shared) == []
    assert len(keys_of(shared, f"USER#{what}")) == 3, "children, too, though the update did not touch them"
    assert_equal(shared)


def test_letter_is_closed_by_what_makes_the_document_good_in_the_same_run(shared: Rig) -> None:
    key = a_user(shared, "quick")
    users = shared.database["users"]
    for change in (BREAKING["too large"][0], {"$set": {"username": "quicker"}}, {"$unset": {"scan": ""}}):
        users.update_one({"_id": key}, change)
    report = follow(shared)
    assert (report.written, report.dead) == (1, 2)
    assert letters(shared) == []
    assert (len(keys_of(shared, "USER#quick")), len(keys_of(shared, "USER#quicker"))) == (0, 3)
    assert_equal(shared)


def test_letter_goes_with_the_document(shared: Rig) -> None:
    key = a_user(shared, "doomed")
    shared.database["users"].update_one({"_id": key}, BREAKING["too large"][0])
    shared.database["users"].delete_one({"_id": key})
    follow(shared)
    assert letters(shared) == []
    assert_equal(shared)


def test_document_that_is_unstorable_from_the_first_is_a_letter_that_shows_it(shared: Rig) -> None:
    key = insert(shared, "users", user("born large") | {"scan": large(420_000)})
    report = follow(shared)
    assert (report.dead, report.written) == (1, 0)
    record = read_letter(shared.ledger, "users", str(key))
    assert record is not None
    assert bson.decode(letter_document(shared.ledger, record))["scan"] == bytes(large(420_000))
    assert_equal(shared)
    shared.database["users"].delete_one({"_id": key})
    follow(shared)
    assert letters(shared) == []


def damaged(document: Document) -> RawBSONDocument:
    """With WXYZ as bytes that are no UTF-8."""
    return RawBSONDocument(bson.encode(document).replace(b"WXYZ", b"W\xff\xfeZ"))


def test_document_that_cannot_be_decoded_is_a_letter_and_good_once_it_is_mended(shared: Rig) -> None:
    raw = shared.database["users"]
    key = a_user(shared, "decoding")
    before = len(graves(shared))
    raw.update_one({"_id": key}, damaged({"$set": {"note": "WXYZ"}}))
    report = follow(shared)
    assert (report.dead, letters(shared)) == (1, [(str(key), "UnsupportedType")])
    assert len(graves(shared)) == before + 5  # its root, two addresses, two guards
    raw.update_one({"_id": key}, damaged({"$set": {"note": "good", "username": "WXYZ"}}))
    follow(shared)
    assert letters(shared) == [(str(key), "UnsupportedType")], "its key is not known at all"
    raw.update_one({"_id": key}, {"$set": {"username": "decoded"}})
    report = follow(shared)
    assert (report.written, report.dead, letters(shared)) == (1, 0, [])
    assert len(keys_of(shared, "USER#decoded")) == 3
    assert_equal(shared)


def test_id_and_field_name_that_cannot_be_decoded_are_letters_and_their_lane_goes_on(shared: Rig) -> None:
    orders = shared.database["orders"]
    orders.insert_one(damaged({"_id": "WXYZ", "status": "new"}))
    key = insert(shared, "orders", order("x"))
    orders.update_one({"_id": key}, damaged({"$set": {"WXYZ": 1}}))
    report = follow(shared)
    assert (report.written, report.dead) == (1, 2)
    assert {reason for _, reason in letters(shared, "orders")} == {"UnsupportedType"}
    orders.delete_one(damaged({"_id": "WXYZ"}))
    orders.replace_one({"_id": key}, {"status": "good"})
    follow(shared)
    assert letters(shared, "orders") == []
    assert_equal(shared)
