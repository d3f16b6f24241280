"""The drill's judge of unique values finds two documents that have one, and guards that are missing or not their document's."""

from __future__ import annotations

from typing import Any

import pytest
from docferry.rehearsal.independent.aftermath import compare_guards
from docferry.rehearsal.independent.history import HistoryVerdict

Item = dict[str, Any]


def user(name: str, email: str | None) -> list[Item]:
    """With what keeps the id unique."""
    mail = {"email": {"S": email}} if email is not None else {}
    root = {
        "PK": {"S": f"USER#{name}"},
        "SK": {"S": "PROFILE"},
        "entityType": {"S": "USER_PROFILE"},
        "_id": {"S": name},
    }
    return [root | mail, guard(name, name, index="users._id_")]


def guard(value: str, owner: str, index: str = "users.email_1", **more: Any) -> Item:
    key = {"PK": {"S": f"UNIQUE#{index}#{value}"}, "SK": {"S": "UNIQUE"}}
    return {**key, "entityType": {"S": f"UNIQUE#{index}"}, "_id": {"S": owner}, **more}


def product(sku: str) -> Item:
    key = {"PK": {"S": f"PRODUCT#{sku}"}, "SK": {"S": "METADATA"}}
    return {**key, "entityType": {"S": "PRODUCT"}, "_id": {"S": f"of {sku}"}, "sku": {"S": sku}}


def judged(*items: Item) -> tuple[int, int]:
    verdict = HistoryVerdict()
    compare_guards(verdict, items)
    return len(verdict.lost), len(verdict.resurrected)


GONE: Item = {"_deleted": {"BOOL": True}}


def test_guards_that_are_their_documents_are_no_finding() -> None:
    ann, bob, eve = user("a", "a@x"), user("b", None), user("e", "")
    lamp = guard("l~h1", "of l#1", index="products.sku_1")
    gone = guard("c@x", "c", **GONE)
    assert judged(*ann, guard("a@x", "a"), *bob, *eve, gone, product("l#1"), lamp) == (0, 0)


def test_documents_with_binary_ids_are_judged_like_others() -> None:
    ann = [{**one, "_id": {"B": b"\x00\xff"}} for one in (*user("a", "a@x"), guard("a@x", "a"))]
    before = judged(*user("a", "a@x"), guard("a@x", "a"))
    assert judged(*ann) == before


@pytest.mark.parametrize(
    ("items", "found"),
    [
        (user("a", "a@x"), (1, 0)),
        ([*user("a", "a@x"), guard("a@x", "b")], (1, 0)),
        ([*user("a", "a@x"), guard("a@x", "a", **GONE)], (1, 0)),
        (user("a", None)[:1], (1, 0)),
        ([product("l")], (1, 0)),
        ([guard("a@x", "a")], (0, 1)),
        ([*user("a", "a@x"), *user("b", "a@x"), guard("a@x", "a")], (0, 1)),
        ([product("l"), product("l"), guard("l", "of l", index="products.sku_1")], (0, 1)),
    ],
)
def test_what_is_wrong_is_found(items: list[Item], found: tuple[int, int]) -> None:
    assert judged(*items) == found
