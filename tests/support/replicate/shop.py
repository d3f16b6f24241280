"""The shop under replication: a rig for the tests of a module, one of its own for a test, and what they put there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docferry.flows.replicate import follower as replicate
from docferry.sandbox import SandboxStack

from support.backfill.rig import Rig
from support.replicate.rig import (
    end,
    follow,
    live_keys,
    live_shop,
)
from support.validate.planting import user

Document = dict[str, Any]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for the next event waits a tenth of the time."""
    monkeypatch.setattr(replicate, "READ_WAIT_S", 0.1)


@pytest.fixture(scope="module")
def shared(stack: SandboxStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """For tests that each have documents of their own, and leave all applied."""
    made = live_shop(stack.env(), tmp_path_factory.mktemp("replicate"))
    yield made
    end(made)


@pytest.fixture
def rig(stack: SandboxStack, tmp_path: Path) -> Iterator[Rig]:
    made = live_shop(stack.env(), tmp_path)
    yield made
    end(made)


def insert(rig: Rig, collection: str, document: Document) -> Any:
    return rig.database[collection].insert_one(document).inserted_id


def a_user(rig: Rig, name: str, **more: Any) -> Any:
    """A user that is in both databases."""
    key = insert(rig, "users", user(name) | more)
    follow(rig)
    return key


def keys_of(rig: Rig, pk: str) -> set[str]:
    """The sort keys of what is alive in a partition."""
    return {key[1] for key in live_keys(rig) if key[0] == pk}
