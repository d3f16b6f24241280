"""The client in every mode, of both kinds, and what pymongo does in its place."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from docferry.sandbox import SandboxStack
from support.backfill.rig import Rig
from support.client.cases import CASES
from support.client.counted import COUNTED, COUNTED_OF_MANY
from support.client.delegated import DELEGATED
from support.client.many import MANY
from support.client.rig import MODES, Asynchronous, Blocking, Db, Plain, application, connected, set_mode
from support.shop_indexes import create_unique_indexes
from support.transactions.cases import TRANSACTIONS


@pytest.fixture(scope="module")
def expected(stack: SandboxStack) -> Callable[[str], list[Any]]:
    """What pymongo does, once for each case."""
    found: dict[str, list[Any]] = {}

    def of(case: str) -> list[Any]:
        if case not in found:
            plain = Plain(stack.env()["DOCFERRY_APP_MONGO_URI"], f"plain{uuid.uuid4().hex[:8]}")
            create_unique_indexes(plain.database)
            found[case] = (CASES | COUNTED | DELEGATED | MANY | COUNTED_OF_MANY | TRANSACTIONS)[case](plain)
            plain.close()
        return found[case]

    return of


@pytest.fixture(scope="module", params=[(mode, kind) for mode in MODES for kind in (Blocking, Asynchronous)], ids=str)
def served(
    request: pytest.FixtureRequest, stack: SandboxStack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Rig, Db]]:
    mode, kind = request.param
    rig = application(stack, tmp_path_factory.mktemp("served"), f"client{uuid.uuid4().hex[:8]}")
    with pytest.MonkeyPatch.context() as patch:
        connected(rig, patch, stack)
        set_mode(rig, MODES[mode])
        db = kind(rig)
        yield rig, db
        db.close()
    rig.mongo.drop_database(rig.migration.source.database)
    rig.close()
