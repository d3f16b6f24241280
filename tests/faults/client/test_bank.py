"""Many processes move money in transactions while DynamoDB leads; one dies, one stands still: no penny is lost, and none is made.

What is in the table is read, and judged, by boto3 alone.
"""

from __future__ import annotations

import signal
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
from boto3.dynamodb.types import TypeDeserializer
from docferry import wiring
from docferry.core.cutover.modes import Mode, ModeState
from docferry.sandbox import SandboxStack
from support.backfill.rig import Rig, eventually, rig_of
from support.client.rig import connected, set_mode
from support.transactions.bank import ACCOUNTS, EACH, TREE, Clerks

CLERKS = 8
LED = ModeState(mode=Mode.DYNAMODB_ONLY, epoch=1, journal=True)


@pytest.fixture
def rig(stack: SandboxStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    mark = uuid.uuid4().hex[:8]
    tree = {
        **TREE,
        "tables": {f"Bank{mark}": {}},
        "collections": {name: {**one, "table": f"Bank{mark}"} for name, one in TREE["collections"].items()},  # type: ignore[attr-defined]
    }
    rig = rig_of(stack.env(), tmp_path, tree, f"bank{mark}")
    connected(rig, monkeypatch, stack)
    set_mode(rig, LED)
    with wiring.connect(rig.file) as db:
        db.accounts.insert_many([{"_id": number, "balance": EACH} for number in range(ACCOUNTS)])
    yield rig
    rig.mongo.drop_database(rig.database.name)
    rig.close()


@dataclass(frozen=True)
class Books:
    """As boto3 reads them."""

    balances: dict[int, int]
    transfers: dict[str, tuple[int, int, int]]


def books(rig: Rig) -> Books:
    client = boto3.client("dynamodb", endpoint_url=rig.env["AWS_ENDPOINT_URL_DYNAMODB"])
    plain, balances, transfers = TypeDeserializer().deserialize, {}, {}
    pages = client.get_paginator("scan").paginate(TableName=rig.table, ConsistentRead=True)
    for item in (item for page in pages for item in page["Items"]):
        found = {name: plain(value) for name, value in item.items()}
        if found["entityType"] == "ACCOUNT":
            balances[int(found["_id"])] = int(found["balance"])
        else:
            transfers[found["_id"]] = (int(found["source"]), int(found["target"]), int(found["amount"]))
    return Books(balances, transfers)


def judge(found: Books, clerks: Clerks) -> None:
    moved: Counter[int] = Counter()
    for source, target, amount in found.transfers.values():
        moved[source] -= amount
        moved[target] += amount
    assert found.balances == {number: EACH + moved[number] for number in range(ACCOUNTS)}, "an update was lost"
    assert sum(found.balances.values()) == ACCOUNTS * EACH
    assert clerks.told("skew") == []
    assert set(clerks.told("moved")) <= found.transfers.keys(), "a transfer that was acknowledged is not there"
    unknown = found.transfers.keys() - set(clerks.told("moved"))
    assert len(unknown) <= 1 + len(clerks.told("failed")), "transfers that were not acknowledged"


def at_work(rig: Rig, directory: Path, each: int, frozen_s: float) -> Clerks:
    """Until the others have made so many transfers each after one was killed and one has stood still."""
    clerks = Clerks(rig.file, {name: value for name, value in rig.env.items()}, directory, CLERKS)
    with clerks.at_work():
        everyone, others = range(CLERKS), range(2, CLERKS)
        eventually(lambda: all(clerks.told("moved", at) for at in everyone), "a transfer of each clerk", 120)
        clerks.signal(0, signal.SIGKILL)
        clerks.signal(1, signal.SIGSTOP)
        frozen = len(clerks.told("moved", 1))
        before = {at: len(clerks.told("moved", at)) for at in others}
        time.sleep(frozen_s)
        clerks.signal(1, signal.SIGCONT)
        eventually(lambda: len(clerks.told("moved", 1)) > frozen, "a transfer of the one that stood still", 120)
        eventually(
            lambda: all(len(clerks.told("moved", at)) >= before[at] + each for at in others), "their transfers", 300
        )
        assert clerks.told("audited")
    return clerks


def test_money_is_neither_lost_nor_made_while_one_dies_and_one_stands_still(rig: Rig, tmp_path: Path) -> None:
    judge_what(rig, at_work(rig, tmp_path, each=5, frozen_s=1.0))


@pytest.mark.cutover
def test_money_is_neither_lost_nor_made_when_one_stands_still_for_longer_than_its_lease(
    rig: Rig, tmp_path: Path
) -> None:
    judge_what(rig, at_work(rig, tmp_path, each=150, frozen_s=15.0))


def judge_what(rig: Rig, clerks: Clerks) -> None:
    judge(books(rig), clerks)
    failed = Counter(one.partition(":")[0] for one in clerks.told("failed"))
    print(f"\n{len(clerks.told('moved'))} transfers, {len(clerks.told('audited'))} audits, failed: {dict(failed)}")
