"""People register from a pool of fifty addresses, in every mode, there and back: an address is never two people's."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from docferry import wiring
from docferry.core.cutover.modes import Mode
from docferry.flows.ledger.modes import read_mode
from docferry.rehearsal.independent.aftermath import (
    compare_guards,
    compare_indexes,
    compare_with_dynamodb,
    compare_with_mongodb,
)
from docferry.rehearsal.independent.history import HistoryVerdict
from docferry.rehearsal.independent.judge import scan_table
from docferry.sandbox import SandboxStack
from pymongo.errors import DuplicateKeyError
from support.backfill.rig import Rig
from support.client.rig import MODES, connected, set_mode
from support.cutover.switching import READS, approved, own_stack, reversing, rig, switch, switch_back
from support.replicate.rig import Following, end
from support.unique.rig import LookingAtUsers, Registering, held_in_dynamodb, require_unique, unique_rig
from support.validate.planting import require_equal

__all__ = ["own_stack", "rig"]


def walk(rig: Rig, people: Registering, turns: int, requests: int) -> None:
    """Through every mode, there and back, so many times; each time a process is killed while either database leads."""
    for turn in range(turns):
        with Following(rig):
            people.more(requests)
            for mode in (MODES["DUAL_WRITE"], READS):
                set_mode(rig, replace(mode, epoch=read_mode(rig.ledger).epoch + 1))
                people.more(requests)
            people.kill()
            require_equal(rig)
        approved(rig)
        # After a way back DynamoDB would be watched for a quarter of an hour.
        switch(rig, waived=("watch",) if turn else ())
        assert read_mode(rig.ledger).mode is Mode.DYNAMODB_ONLY
        people.more(requests)
        people.kill()
        with reversing(rig):
            people.more(requests)
        switch_back(rig)
        assert read_mode(rig.ledger).mode is Mode.MONGO_ONLY
        found = HistoryVerdict()
        compare_indexes(found, rig.database)
        assert found.counts == (0, 0, 0, 0), found
        people.more(requests)


def judge(rig: Rig, people: Registering) -> HistoryVerdict:
    """At rest, MongoDB leads and DynamoDB has followed: what both hold, and what all were told."""
    replayed = people.replayed()
    compare_with_mongodb(replayed, rig.database)
    compare_with_dynamodb(replayed, rig.dynamodb, rig.table)
    compare_guards(replayed.verdict, scan_table(rig.dynamodb, rig.table))
    compare_indexes(replayed.verdict, rig.database)
    print(replayed.verdict)
    return replayed.verdict


@pytest.mark.parametrize(
    ("processes", "turns", "requests"),
    [pytest.param(3, 1, 15, id="short"), pytest.param(8, 2, 100, id="at length", marks=pytest.mark.cutover)],
)
def test_addresses_stay_unique_through_every_mode_there_and_back(
    rig: Rig, own_stack: SandboxStack, tmp_path: Path, processes: int, turns: int, requests: int
) -> None:
    application = {"DOCFERRY_MONGO_URI": own_stack.env()["DOCFERRY_APP_MONGO_URI"]}
    with Registering(rig, application, tmp_path, processes) as people, LookingAtUsers(rig) as watch:
        walk(rig, people, turns, requests)
        with Following(rig) as following:
            people.more(requests)
            following.await_all()
    with Following(rig):
        require_equal(rig)
    verdict = judge(rig, people)
    assert verdict.counts == (0, 0, 0, 0), verdict
    assert watch.looks
    assert watch.found == []
    assert len(verdict.killed) == 2 * turns
    assert min(verdict.unique[kind] for kind in ("taken", "refused", "exchanged")), verdict.unique


def test_of_many_who_register_at_once_while_dynamodb_leads_one_has_each_address(
    stack: SandboxStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = unique_rig(stack.env(), tmp_path, f"unique{uuid.uuid4().hex[:8]}")
    connected(rig, monkeypatch, stack)
    set_mode(rig, MODES["DYNAMODB_ONLY"])
    pool, each = 10, 8

    told: list[dict[str, Any]] = []

    def register(number: int) -> str:
        mail = f"m{number % pool}@example.org"
        document = {"_id": ObjectId(), "username": f"u{number}", "email": mail}
        try:
            manager["users"].insert_one(document)
        except DuplicateKeyError as error:
            told.append({**(error.details or {}), "mail": mail})
            return ""
        return mail

    with wiring.connect(rig.file) as manager, ThreadPoolExecutor(each) as threads:
        registered = [mail for mail in threads.map(register, range(pool * each)) if mail]
        users = manager["users"]
        with pytest.raises(DuplicateKeyError):
            users.update_one({"username": "u0"}, {"$set": {"email": "m1@example.org"}})
        one, other = (next(iter(users.find({"username": f"u{number}"})), None) for number in (0, 1))
        users.delete_many({"username": {"$in": [found["username"] for found in (one, other) if found]}})
    assert {(*one["keyPattern"].items(), *one["keyValue"].items()) for one in told} == {
        (("email", 1), ("email", one["mail"])) for one in told
    }
    assert sorted(registered) == [f"m{number}@example.org" for number in range(pool)]
    held = require_unique(rig)
    assert len(held) == pool - sum(found is not None for found in (one, other))
    assert held_in_dynamodb(rig)[1].keys() == set(held.values())
    end(rig)
