"""A small world on fakes that is loaded and replicated, and how to find documents in it."""

from __future__ import annotations

from typing import Any

import pytest
from docferry.core.mapping.items import ItemKey
from docferry.flows.validate import recheck as generations

from support.validate.planting import MAKERS
from support.validate.world import World


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generations, "POLL_S", 0.005)


@pytest.fixture
def world() -> World:
    made = World()
    for name in ("one", "two"):
        for collection in ("users", "orders", "products"):
            made.write(collection, MAKERS[collection](name))
    made.load()
    made.replicate()
    return made


def some(world: World, collection: str) -> dict[str, Any]:
    return dict(next(document for (name, _), document in world.now.items() if name == collection))


def root(world: World, document: dict[str, Any]) -> ItemKey:
    return next(key for key in world.items if key[1] == "METADATA" and key[0].endswith(str(document["_id"])))
