"""A table that was designed elsewhere, all the way there and back: MongoDB leads in the end, with every write in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from bson.int64 import Int64
from docferry import wiring
from docferry.core.cutover.modes import Mode
from docferry.flows.cutover.hold import back_out
from docferry.flows.ledger.modes import read_mode
from docferry.sandbox import SandboxStack
from support.backfill.rig import Rig
from support.client.rig import connected
from support.cutover.switching import job_of, own_stack, ready, reversing, switch, switch_back
from support.cutover.unfence import unfence
from support.design.films import film, films_rig, person
from support.replicate.rig import Following, end
from support.validate.planting import require_equal

__all__ = ["own_stack"]
pytestmark = pytest.mark.cutover


@pytest.fixture
def rig(own_stack: SandboxStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    made = films_rig(own_stack.env(), tmp_path)
    made.load()
    connected(made, monkeypatch, own_stack)
    yield made
    back_out(job_of(made), "the test is over")
    unfence(job_of(made))
    end(made)


def test_there_and_back_again_loses_nothing(rig: Rig) -> None:
    with wiring.connect(rig.file) as manager:
        films, people = manager["films"], manager["people"]
        ready(rig)
        switch(rig)
        assert read_mode(rig.ledger).mode is Mode.DYNAMODB_ONLY
        films.insert_one(film(30))
        films.update_one({"studio": "s1", "number": 1}, {"$set": {"number": Int64(99), "imdb.rating": 9.75}})
        films.delete_one({"studio": "s2", "number": 2})
        people.update_one({"email": "p1@example.com"}, {"$set": {"email": "q1@example.com"}})
        people.insert_one(person(50))
        manager["threads"].update_one({"_id": 1}, {"$push": {"posts": {"votes": 7.5}}})
        with reversing(rig):
            require_equal(rig)
        switch_back(rig, waived=())
        assert read_mode(rig.ledger).mode is Mode.MONGO_ONLY
        people.update_one({"_id": "p50"}, {"$set": {"after": True}})
        with Following(rig) as following:
            following.await_all()
            require_equal(rig)
    database = rig.database
    assert database["films"].find_one({"_id": 1}) == film(1) | {"number": 99, "imdb": {"rating": 9.75}}
    assert sorted(one["_id"] for one in database["films"].find()) == [0, 1, 3, 4, 5, 6, 7, 8, 30]
    assert database["people"].find_one({"_id": "p1"})["email"] == "q1@example.com"
    assert database["people"].find_one({"_id": "p50"}) == person(50, after=True)
    assert [one["votes"] for one in database["threads"].find_one({"_id": 1})["posts"]][-1] == 7.5
