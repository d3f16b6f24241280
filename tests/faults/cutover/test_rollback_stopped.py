"""A real `docferry rollback` that is stopped just before it lifts the fence, while another operator makes DynamoDB the leader."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from docferry import wiring
from docferry.core.cutover.fence_plan import FenceState
from docferry.core.cutover.marker import Leads
from docferry.core.cutover.modes import Mode
from docferry.errors import PreflightFailed
from docferry.flows.fence.fence import fence
from docferry.flows.fence.ready import LATE_LIFT
from docferry.flows.fence.record import recorded_fence
from docferry.flows.fence.watch import misfit
from docferry.flows.ledger.modes import read_mode
from docferry.flows.ledger.rooms.fence import read_fence
from docferry.wiring import who
from support.backfill.rig import Rig, eventually
from support.client.rig import MODES, set_mode
from support.cutover.switching import approved, job_of, own_stack, ready, rig, switch

__all__ = ["own_stack", "rig"]
pytestmark = pytest.mark.cutover

STOPPED = """
import os, signal, sys
from docferry.adapters.mongodb.fence import MongoFence
lift_fence = MongoFence.lift_fence
def stopped(self, plan):
    MongoFence.lift_fence = lift_fence  # once
    print("about to lift", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
    return lift_fence(self, plan)
MongoFence.lift_fence = stopped
from docferry.cli.main import main
sys.argv = ["docferry", "rollback", sys.argv[1], "--json"]
main()
"""


def test_fence_that_a_stopped_rollback_lifts_late_is_up_again_and_its_exit_says_so(rig: Rig) -> None:
    with wiring.connect(rig.file):
        job = job_of(rig)
        set_mode(rig, MODES["MONGO_ONLY"])
        fence(job, 10.0)
        process = subprocess.Popen(
            [sys.executable, "-c", STOPPED, str(rig.file)],
            env=os.environ | rig.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "about to lift\n"
            eventually(
                lambda: read_fence(rig.ledger).holder.expired(who("other")), "the stopped one's lease to run out"
            )
            ready(rig)
            approved(rig)
            with pytest.raises(PreflightFailed, match="the fence on MongoDB: may be lifted yet by"):
                switch(rig)
            assert switch(rig, waived=[LATE_LIFT]).after == "DYNAMODB_ONLY"
        finally:
            os.kill(process.pid, signal.SIGCONT)
            _, said = process.communicate(timeout=60)
        assert process.returncode not in (0, 70), said
        plan = recorded_fence(rig.ledger)[1]
        assert plan is not None
        assert job.fence.fence_state(plan) is FenceState.UP
        assert read_mode(rig.ledger).mode is Mode.DYNAMODB_ONLY
        marker = job.leader.read()
        assert marker is not None
        assert marker.leader is Leads.DYNAMODB
        assert misfit(job) == ""
