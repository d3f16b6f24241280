"""Flipping the reads: what keeps them from being flipped, and a share that steps back by itself when what it sees is wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from docferry import wiring
from docferry.cli.main import main
from docferry.client import DualWriteManager
from docferry.core.cutover.modes import Mode
from docferry.errors import MoveRefused, PreflightFailed, SteppedBack
from docferry.flows.cutover import flip, flip_reasons, reasons
from docferry.flows.cutover.flip_evidence import FlipBounds
from docferry.flows.cutover.flip_reasons import unserved
from docferry.flows.cutover.refusals import Asked
from docferry.flows.kernel.job import Job
from docferry.flows.ledger import approvals
from docferry.flows.ledger.modes import read_mode
from docferry.sandbox import SandboxStack
from docferry.testing.jobs import make_job
from docferry.wiring import who
from support.backfill.rig import Rig, eventually
from support.client.rig import connected
from support.replicate.rig import Following, Said, end, live_shop
from support.validate.planting import require_equal

pytestmark = pytest.mark.cutover

USERS = 40
FEW = FlipBounds(reads=20, slower=0)
PLANTED = 2
"""Of 40: five percent."""


@pytest.fixture
def rig(stack: SandboxStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    made = live_shop(stack.env(), tmp_path, load=False)
    made.database["users"].insert_many([{"username": f"u{number}", "status": "active"} for number in range(USERS)])
    made.load()
    images = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
    made.dynamodb.update_table(TableName=made.table, StreamSpecification=images)
    connected(made, monkeypatch, stack)
    yield made
    end(made)


def job_of(rig: Rig) -> Job:
    return make_job(
        migration=rig.migration,
        source=rig.job().source,
        estate=rig.estate(),
        ledger=rig.ledger,
        identity=who("a flip"),
        progress=Said(),
        stop=threading.Event(),
    )


def equal_and_approved(rig: Rig) -> None:
    require_equal(rig)
    evidence = approvals.evidence_of(rig.ledger).digest
    approvals.approve(rig.ledger, approvals.FLIP_READS, evidence, "a manager", "all is equal")


def plant(rig: Rig) -> None:
    """Behind docferry's back: what replication never sees."""
    for number in range(PLANTED):
        rig.dynamodb.update_item(
            TableName=rig.table, Key={"PK": {"S": f"USER#u{number}"}, "SK": {"S": "PROFILE"}},
            UpdateExpression="SET #s = :x", ExpressionAttributeNames={"#s": "status"},
            ExpressionAttributeValues={":x": {"S": "s3cr3t"}},
        )  # fmt: skip


class Reads:
    """Reads all users, over and over, for as long as the block lasts."""

    def __init__(self, manager: DualWriteManager) -> None:
        self.manager, self.over = manager, threading.Event()
        self.failed: list[BaseException] = []
        self._thread = threading.Thread(target=self._read, daemon=True)

    def _read(self) -> None:
        while not self.over.is_set():
            for number in range(USERS):
                try:
                    assert self.manager["users"].find_one({"username": f"u{number}"}) is not None
                except BaseException as error:
                    self.failed.append(error)
                time.sleep(0.005)

    def __enter__(self) -> Reads:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.over.set()
        self._thread.join(timeout=10)


def test_share_that_sees_planted_differences_steps_back_by_itself_and_says_why(rig: Rig) -> None:
    with wiring.connect(rig.file) as manager, Following(rig):
        eventually(lambda: not list(reasons.lacking_replication(rig.ledger)), "replication to be close behind")
        flip.begin_dual_write(job_of(rig), compare=0)
        equal_and_approved(rig)
        plant(rig)
        began = time.monotonic()
        with Reads(manager) as reads, pytest.raises(SteppedBack) as stepped:
            flip.flip_reads(job_of(rig), 100, soak_s=60.0, bounds=FEW)
        assert time.monotonic() - began < 30
        assert reads.failed == []
    assert "compared reads differ" in stepped.value.why
    assert any("users" in one and "status" in one for one in stepped.value.examples)
    assert "s3cr3t" not in str(stepped.value)
    assert read_mode(rig.ledger).mode is Mode.DUAL_WRITE


def test_differences_that_dual_writes_have_seen_keep_the_reads_where_they_are(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flip_reasons, "COMPARED_WITHIN_S", 1.0)
    with wiring.connect(rig.file) as manager, Following(rig):
        eventually(lambda: not list(reasons.lacking_replication(rig.ledger)), "replication to be close behind")
        flip.begin_dual_write(job_of(rig))
        equal_and_approved(rig)
        with pytest.raises(PreflightFailed, match="none of the application's reads has been compared yet"):
            flip.flip_reads(job_of(rig), 1)
        plant(rig)
        with Reads(manager):
            eventually(lambda: flip._seen(job_of(rig)).mismatches, "a difference to be counted")
            with pytest.raises(PreflightFailed, match=r"of \d+ compared reads differ; users .*status") as refused:
                flip.flip_reads(job_of(rig), 1)
        assert "s3cr3t" not in str(refused.value)
    assert read_mode(rig.ledger).mode is Mode.DUAL_WRITE


def test_share_that_sees_nothing_wrong_stays(rig: Rig) -> None:
    with wiring.connect(rig.file) as manager, Following(rig):
        eventually(lambda: not list(reasons.lacking_replication(rig.ledger)), "replication to be close behind")
        flip.begin_dual_write(job_of(rig))
        equal_and_approved(rig)
        with Reads(manager) as reads:
            report = flip.flip_reads(job_of(rig), 50, soak_s=6.0, bounds=FEW)
        assert reads.failed == []
        assert report.seen.served > 0
        assert (report.seen.mismatches, report.seen.fell_back) == (0, 0)
        assert read_mode(rig.ledger).percent == 50
        assert flip.back_to(job_of(rig), Mode.DUAL_WRITE, "too soon").mode == "DUAL_WRITE"
        assert read_mode(rig.ledger).validate_writes
        assert flip.back_to(job_of(rig), Mode.MONGO_ONLY, "enough").mode == "MONGO_ONLY"


def test_mode_that_somebody_changes_while_it_soaks_is_his(rig: Rig) -> None:
    with wiring.connect(rig.file) as manager, Following(rig), Reads(manager):
        eventually(lambda: not list(reasons.lacking_replication(rig.ledger)), "replication to be close behind")
        flip.begin_dual_write(job_of(rig))
        equal_and_approved(rig)

        def go_back() -> None:
            eventually(lambda: read_mode(rig.ledger).mode is Mode.DYNAMODB_READS, "the flip")
            flip.back_to(job_of(rig), Mode.DUAL_WRITE, "an operator's")

        going = threading.Thread(target=go_back)
        going.start()
        with pytest.raises(MoveRefused, match=r"changed while DYNAMODB_READS \(50 %\) soaked: it is DUAL_WRITE"):
            flip.flip_reads(job_of(rig), 50, soak_s=60.0, bounds=FEW)
        going.join()
        assert read_mode(rig.ledger).mode is Mode.DUAL_WRITE


def test_what_is_missing_keeps_the_reads_where_they_are_and_all_of_it_is_said(rig: Rig) -> None:
    with pytest.raises(MoveRefused, match="MONGO_ONLY cannot become DYNAMODB_READS"):
        flip.flip_reads(job_of(rig), 10)
    with pytest.raises(PreflightFailed, match="replication: does not run"):
        flip.begin_dual_write(job_of(rig))
    with Following(rig):
        eventually(lambda: not list(reasons.lacking_replication(rig.ledger)), "replication to be close behind")
        flip.begin_dual_write(job_of(rig))
        with pytest.raises(PreflightFailed, match="full validation: none has been recorded"):
            flip.flip_reads(job_of(rig), 10)
        require_equal(rig)
        with pytest.raises(PreflightFailed, match="flip_reads: has no approval"):
            flip.flip_reads(job_of(rig), 10)
        equal_and_approved(rig)
        with pytest.raises(PreflightFailed, match="no instance is registered"):
            flip.flip_reads(job_of(rig), 10)
        with wiring.connect(rig.file) as manager:
            assert list(manager["users"].find({"status": "nobody's"})) == []
            eventually(lambda: list(unserved(Asked(job=job_of(rig)))), "the call to be counted")
            with pytest.raises(
                PreflightFailed, match=r"users\.find\(status\): was called 1 time\(s\), and DynamoDB cannot"
            ):
                flip.flip_reads(job_of(rig), 10)
        told = CliRunner().invoke(main, ["mode", str(rig.file)])
        assert "DynamoDB cannot answer users.find(status): called 1 time(s)" in told.stdout
        told = CliRunner().invoke(main, ["mode", str(rig.file), "--shapes"])
        assert "users.find(status): called 1 time(s)\n    pin username, or give users an index" in told.stdout
    assert read_mode(rig.ledger).mode is Mode.DUAL_WRITE
