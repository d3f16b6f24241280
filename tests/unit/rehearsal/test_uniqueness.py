"""What the judge finds in histories of people who contend for addresses: one that two had, and a refusal without a reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from docferry.rehearsal.independent.history import HistoryVerdict, Replayed, read_history
from support.rehearsal.told import ANN, BOB, CONTRADICTED, FAILED, NOTHING, Told, user

MAIL = "pool-1@drill.example"
OTHER = "pool-2@drill.example"


class Two:
    """Two processes on one clock, of which each tells its own history."""

    def __init__(self, directory: Path) -> None:
        self.ann, self.bob = Told(directory / "ann.jsonl"), Told(directory / "bob.jsonl", 1)

    def at(self, now: float) -> None:
        self.ann.now = self.bob.now = now

    def verdict(self) -> HistoryVerdict:
        return Replayed([read_history(one.path) for one in (self.ann, self.bob)]).verdict


@pytest.fixture
def two(tmp_path: Path) -> Two:
    return Two(tmp_path)


def register(who: Told, name: str, identity: Any, email: str, error: str = "") -> None:
    document = {**user(name, identity), "email": email}
    about = {"_id": identity, "query": {}, "argument": document, "contested": "email"}
    number = who.begin("write", "insert_one", **about)
    who.end(number, **({"outcome": "failed", "error": error} if error else {"result": {"inserted": 1}}))


def move(who: Told, name: str, identity: Any, email: str) -> None:
    change = {"$set": {"email": email}}
    number = who.begin(
        "write", "update_one", _id=identity, query={"username": name}, argument=change, contested="email"
    )
    who.end(number, result={"matched": 1, "modified": 1})


def exchange(who: Told, ok: bool = True) -> None:
    writes = [
        {"method": "update_one", "_id": one, "query": {"username": name}, "argument": {"$set": {"email": email}}}
        for one, name, email in ((ANN, "ann", OTHER), (BOB, "bob", MAIL))
    ]
    number = who.begin("exchange", "with_transaction", writes=writes)
    done = {"matched": 1, "modified": 1}
    who.end(
        number, **({"result": {"writes": [done, done]}} if ok else {"outcome": "failed", "error": "OperationFailure"})
    )


def test_address_that_passes_from_one_to_the_other_is_no_finding(two: Two) -> None:
    register(two.ann, "ann", ANN, MAIL)
    two.at(0.5)
    register(two.bob, "bob", BOB, MAIL, error="DuplicateKeyError")
    two.at(5)
    move(two.ann, "ann", ANN, OTHER)
    two.at(5.5)  # while it is given up
    register(two.bob, "bob", BOB, MAIL)
    verdict = two.verdict()
    assert (verdict.counts, verdict.unique) == (NOTHING, {"taken": 3, "refused": 1})


def test_address_that_two_had_at_once_is_found(two: Two) -> None:
    register(two.ann, "ann", ANN, MAIL)
    two.at(3)
    register(two.bob, "bob", BOB, MAIL)
    two.at(9)
    move(two.ann, "ann", ANN, OTHER)
    verdict = two.verdict()
    assert verdict.counts == CONTRADICTED
    assert "both had it" in verdict.contradicted[0]


def test_refusal_of_an_address_that_was_free_is_found(two: Two) -> None:
    register(two.ann, "ann", ANN, MAIL)
    move(two.ann, "ann", ANN, OTHER)
    two.at(5)
    register(two.bob, "bob", BOB, MAIL, error="DuplicateKeyError")
    assert two.verdict().counts == CONTRADICTED


def test_write_of_unknown_outcome_may_have_taken_its_address_or_not(two: Two) -> None:
    document = {**user(), "email": MAIL}
    two.ann.begin("write", "insert_one", _id=ANN, query={}, argument=document, contested="email")
    two.at(5)
    register(two.bob, "bob", BOB, MAIL, error="DuplicateKeyError")
    two.at(9)
    register(two.bob, "bob", BOB, MAIL)
    assert two.verdict().counts == NOTHING


def test_documents_that_exchange_their_addresses_have_each_other_s(two: Two) -> None:
    register(two.ann, "ann", ANN, MAIL)
    register(two.ann, "bob", BOB, OTHER)
    exchange(two.ann)
    replayed = Replayed([read_history(two.ann.path)])
    assert (replayed.verdict.counts, replayed.verdict.unique["exchanged"]) == (NOTHING, 1)
    mails = {story.id: [(state or {})["email"] for state in story.states] for story in replayed.stories.values()}
    assert mails == {ANN: [OTHER], BOB: [MAIL]}


def test_failed_exchange_leaves_both_as_they_may_be(two: Two) -> None:
    register(two.ann, "ann", ANN, MAIL)
    register(two.ann, "bob", BOB, OTHER)
    exchange(two.ann, ok=False)
    replayed = Replayed([read_history(two.ann.path)])
    assert replayed.verdict.counts == FAILED
    assert {len(story.states) for story in replayed.stories.values()} == {2}
