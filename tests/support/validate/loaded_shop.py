"""A shop that is loaded, with documents for each way of planting a difference."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from docferry.rehearsal.shop import load_shop
from docferry.sandbox import SandboxStack

from support.backfill.rig import Rig, shop_rig
from support.validate.planting import (
    Item,
    forget_position,
    insert_hosts,
)

UNSTORABLE = 4


@pytest.fixture(scope="module")
def rig(stack: SandboxStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A database for each module: they share the stack if one process runs both."""
    name = f"validating{uuid.uuid4().hex[:8]}"
    load_shop(stack.env()["DOCFERRY_MONGO_URI"], name, users=40, awkward=40, unstorable=UNSTORABLE)
    made = shop_rig(stack.env(), tmp_path_factory.mktemp(name), name)
    yield made
    made.close()


@pytest.fixture(scope="module")
def hosts(rig: Rig) -> dict[str, dict[str, Any]]:
    made = insert_hosts(rig)
    rig.load()
    forget_position(rig)
    return made


@pytest.fixture(scope="module")
def table(rig: Rig, hosts: dict[str, dict[str, Any]]) -> dict[tuple[str, str], Item]:
    return rig.scan()
