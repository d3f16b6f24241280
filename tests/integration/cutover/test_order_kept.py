"""With `order: keep` every field stays in its place there and back: loaded, replicated, and changed while DynamoDB leads."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docferry import wiring
from docferry.core.bson_codec.options import BSON_OPTIONS
from docferry.core.cutover.modes import Mode
from docferry.flows.cutover.hold import back_out
from docferry.flows.ledger.modes import read_mode
from docferry.sandbox import SandboxStack
from support.backfill.rig import Rig
from support.client.orders_of_fields import CHANGES, COLLECTIONS, bits, change, documents, kept_rig
from support.client.rig import Plain, connected
from support.cutover.switching import job_of, own_stack, ready, reversing, switch, switch_back
from support.cutover.unfence import unfence
from support.replicate.rig import Following, end
from support.validate.planting import require_equal

__all__ = ["own_stack"]
pytestmark = pytest.mark.cutover

REPLICATED, LED = CHANGES[::2], CHANGES[1::2]


@pytest.fixture
def rig(own_stack: SandboxStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    made = kept_rig(own_stack.env(), tmp_path, f"kept{uuid.uuid4().hex[:8]}")
    connected(made, monkeypatch, own_stack)
    yield made
    back_out(job_of(made), "the test is over")
    unfence(job_of(made))
    end(made)


class Client:
    """A manager, called as the other kinds are."""

    def __init__(self, manager: Any) -> None:
        self.manager = manager

    def call(self, collection: str, method: str, *arguments: Any) -> Any:
        return getattr(self.manager[collection], method)(*arguments)


def stored(database: Any) -> dict[str, list[bytes]]:
    options = BSON_OPTIONS
    return {
        name: [bits(one) for one in database.get_collection(name, options).find().sort("_id", 1)]
        for name in COLLECTIONS
    }


def fill(database: Any) -> None:
    for name in COLLECTIONS:
        database[name].insert_many(documents(name))


def outcomes(db: Any, changes: Any) -> list[bytes]:
    return [change(db, name, asked) for name in COLLECTIONS for asked in changes]


def test_every_field_stays_in_its_place_there_and_back(rig: Rig) -> None:
    beside, here = (
        Plain(rig.env["DOCFERRY_MONGO_URI"], name) for name in (f"beside{rig.database.name}", rig.database.name)
    )
    fill(beside.database)
    expected = [outcomes(beside, changes) for changes in (REPLICATED, LED)]
    in_the_end = stored(beside.database)
    beside.client.drop_database(beside.database.name)  # the write block is for a cluster that holds nothing else

    fill(rig.database)
    rig.load()
    with wiring.connect(rig.file) as manager:
        with Following(rig) as following:
            assert outcomes(here, REPLICATED) == expected[0]
            following.await_all()
        ready(rig)  # which validates in full
        switch(rig)
        assert read_mode(rig.ledger).mode is Mode.DYNAMODB_ONLY
        before = stored(rig.database)
        assert outcomes(Client(manager), LED) == expected[1]
        assert stored(rig.database) == before  # nobody follows back yet
        with reversing(rig):
            require_equal(rig)
        switch_back(rig, waived=())
        assert read_mode(rig.ledger).mode is Mode.MONGO_ONLY
    assert stored(rig.database) == in_the_end
    beside.close()
    here.close()
