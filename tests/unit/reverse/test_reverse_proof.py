"""Which of the acknowledged writes MongoDB is proved to hold."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from docferry.errors import (
    NotApplied,
)
from docferry.flows.reverse.proof import Write, unapplied
from support.reverse.fakes import ANN, BOB, back
from support.reverse.rig import TABLE, Back

__all__ = ["back"]


# --- proof -----------------------------------------------------------------------------------------------------------


def test_writes_are_proved_once_mongodb_holds_them_and_not_before(back: Back) -> None:
    writes = back.put("users", ANN)
    with pytest.raises(NotApplied, match="users ~i1"):
        back.prove(writes)
    back.follow()
    back.prove(writes)
    gone = back.remove("users", 1)
    with pytest.raises(NotApplied):
        back.prove(gone)
    back.follow()
    back.prove([*writes, *gone])


def test_write_that_dynamodb_does_not_show_is_not_proved(back: Back) -> None:
    (write,) = back.put("users", BOB)
    back.follow()
    with pytest.raises(NotApplied):
        back.prove([write._replace(version=write.version + 1)])
    with pytest.raises(NotApplied):
        back.prove([Write(TABLE, ("USER#nobody", "PROFILE"), 1)])


def test_rename_is_proved_only_when_old_and_new_key_are(back: Back) -> None:
    back.put("users", BOB)
    back.follow()
    writes = back.put("users", BOB | {"name": "eve"})
    assert len(writes) == 2
    with pytest.raises(NotApplied):
        back.prove(writes)
    back.follow()
    back.prove(writes)


def test_proof_waits_for_a_follower(back: Back) -> None:
    writes = back.put("users", ANN)
    follower = threading.Thread(target=lambda: back.follow(for_s=1.0), daemon=True)
    follower.start()
    back.prove(writes, within_s=20)
    back.stop.set()
    follower.join(20)
    assert back.users() == [ANN]


def test_one_look_names_only_the_writes_that_are_not_applied(back: Back) -> None:
    """A document that is written all the time must not hide that the others are there."""
    done = back.put("users", ANN)
    back.follow()
    open_writes = back.put("users", BOB)
    found = asyncio.run(unapplied(back.job(), back.target, [*done, *open_writes]))
    assert {write for write, _ in found} == set(open_writes)


def test_look_reads_each_document_once_however_many_of_its_items_were_written(
    back: Back, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes = back.put("users", ANN)
    assert len(writes) > 2
    back.follow()
    asked: list[str] = []
    ask = back.target._request

    async def counted(operation: str, table: str) -> Any:
        asked.append(operation)
        return await ask(operation, table)

    monkeypatch.setattr(back.target, "_request", counted)
    back.prove(writes)
    assert asked == ["BatchGetItem", "Query"]
