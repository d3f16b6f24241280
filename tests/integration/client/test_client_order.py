"""Where the file says `order: keep`, an application gets every field in the place where MongoDB has it, in every mode."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import bson
import pytest
from docferry.sandbox import SandboxStack
from support.backfill.rig import Rig
from support.client.orders_of_fields import everything, kept_rig
from support.client.rig import MODES, Asynchronous, Blocking, Plain, connected, empty, set_mode


@pytest.fixture(scope="module")
def rig(stack: SandboxStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    rig = kept_rig(stack.env(), tmp_path_factory.mktemp("kept"), f"kept{uuid.uuid4().hex[:8]}")
    with pytest.MonkeyPatch.context() as patch:
        connected(rig, patch, stack)
        yield rig
    rig.mongo.drop_database(rig.migration.source.database)
    rig.close()


@pytest.fixture(scope="module")
def expected(stack: SandboxStack) -> Callable[[str, bool], list[bytes]]:
    """What pymongo gives, once for each collection."""
    found: dict[tuple[str, bool], list[bytes]] = {}

    def of(collection: str, led: bool) -> list[bytes]:
        if (collection, led) not in found:
            plain = Plain(stack.env()["DOCFERRY_MONGO_URI"], f"plain{uuid.uuid4().hex[:8]}")
            found[collection, led] = everything(plain, collection, led=led)
            plain.client.drop_database(plain.database.name)
            plain.close()
        return found[collection, led]

    return of


@pytest.mark.parametrize(
    ("mode", "collection"),
    [*((mode, "notes") for mode in MODES), *((mode, "scans") for mode in ("DYNAMODB_READS 100", "DYNAMODB_ONLY"))],
)
def test_documents_come_back_as_mongodb_gives_them_bit_by_bit(
    rig: Rig, expected: Callable[[str, bool], list[bytes]], mode: str, collection: str
) -> None:
    empty(rig)
    set_mode(rig, MODES[mode])
    led = mode == "DYNAMODB_ONLY"
    db = Asynchronous(rig) if mode == "DYNAMODB_READS 50" else Blocking(rig)
    try:
        found = everything(db, collection, led=led)
    finally:
        db.close()
    for at, (one, other) in enumerate(zip(found, expected(collection, led), strict=True)):
        assert one == other, (at, bson.decode(one), bson.decode(other))
