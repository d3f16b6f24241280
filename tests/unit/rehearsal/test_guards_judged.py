"""The drill's judge of unique addresses: it finds two who have one, and guards that are missing, another's or nobody's."""

from __future__ import annotations

from typing import Any

import pytest
from docferry.rehearsal.independent.aftermath import compare_guards
from docferry.rehearsal.independent.history import HistoryVerdict

Item = dict[str, Any]


def user(name: str, email: str | None) -> Item:
    mail = {"email": {"S": email}} if email is not None else {}
    return {
        "PK": {"S": f"USER#{name}"},
        "SK": {"S": "PROFILE"},
        "entityType": {"S": "USER_PROFILE"},
        "_id": {"S": name},
    } | mail


def guard(email: str, owner: str, **more: Any) -> Item:
    key = {"PK": {"S": f"UNIQUE#users.email_1#{email}"}, "SK": {"S": "UNIQUE"}}
    return {**key, "entityType": {"S": "UNIQUE#users.email_1"}, "_id": {"S": owner}, **more}


def judged(*items: Item) -> tuple[int, int]:
    verdict = HistoryVerdict()
    compare_guards(verdict, items)
    return len(verdict.lost), len(verdict.resurrected)


def test_guards_that_are_their_users_are_no_finding() -> None:
    gone = guard("c@x", "c", _deleted={"BOOL": True})
    assert judged(user("a", "a@x"), guard("a@x", "a"), user("b", None), user("e", ""), gone) == (0, 0)


@pytest.mark.parametrize(
    ("items", "found"),
    [
        ([user("a", "a@x")], (1, 0)),
        ([user("a", "a@x"), guard("a@x", "b")], (1, 0)),
        ([user("a", "a@x"), guard("a@x", "a", _deleted={"BOOL": True})], (1, 0)),
        ([guard("a@x", "a")], (0, 1)),
        ([user("a", "a@x"), user("b", "a@x"), guard("a@x", "a")], (0, 1)),
    ],
)
def test_what_is_wrong_is_found(items: list[Item], found: tuple[int, int]) -> None:
    assert judged(*items) == found
