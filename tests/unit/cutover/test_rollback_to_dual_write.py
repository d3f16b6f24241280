"""Rolling back as far as dual writes: what they need is asked before the leader is changed, and what fails behind it is said."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from docferry.core.cutover.modes import Mode, ModeState
from docferry.errors import HoldFailed, PreflightFailed
from docferry.flows.cutover import rollback
from docferry.flows.cutover.hold import SwitchReport
from docferry.testing.fakes import FakeFence, FakeLedger
from support.cutover.jobs import NOT_ASKED, job_of, set_mode

LEADS = ModeState(mode=Mode.DYNAMODB_ONLY, epoch=9, floor=9)


def test_collection_that_dual_writes_would_miss_refuses_it_before_anything_is_touched() -> None:
    mongo, ledger = FakeFence(), FakeLedger()
    set_mode(ledger, LEADS)
    with pytest.raises(PreflightFailed, match="is not loaded"):
        asyncio.run(rollback.roll_back(job_of(mongo, ledger), NOT_ASKED, Mode.DUAL_WRITE))


def test_dual_writes_that_do_not_begin_behind_the_change_of_leader_leave_a_true_word() -> None:
    mongo, ledger = FakeFence(), FakeLedger()
    set_mode(ledger, ModeState(mode=Mode.MONGO_ONLY, epoch=11))
    report: Any = SwitchReport(
        before="DYNAMODB_ONLY", after="MONGO_ONLY", epoch=11, instances=0, compared=0, held_s=0.1
    )
    with pytest.raises(
        HoldFailed, match="the leader was changed, the mode is MONGO_ONLY; but then: dual writes have not begun"
    ):
        asyncio.run(rollback._begin_dual_write(job_of(mongo, ledger), NOT_ASKED, report))
