"""A drill with faults: an application under traffic, brought to the mode in which something is to fail, and judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from docferry.config import parse_migration
from docferry.core.cutover.instances import Instance
from docferry.core.cutover.modes import Mode
from docferry.flows.cutover.flip import begin_dual_write, flip_reads
from docferry.flows.cutover.flip_evidence import FlipBounds
from docferry.flows.cutover.hold import back_out
from docferry.flows.fence.record import Recorded, recorded_fence
from docferry.flows.ledger import approvals, modes
from docferry.flows.ledger.modes import list_instances, read_mode
from docferry.rehearsal.application import COUNTERS
from docferry.rehearsal.independent.aftermath import compare_with_dynamodb, compare_with_mongodb
from docferry.rehearsal.independent.history import HistoryVerdict, Replayed, Request, read_history
from docferry.sandbox import SandboxStack

from support.backfill.rig import Rig, eventually
from support.client.drill import COMPARED, Processes, approve, cutover_of, flip_of, shop_for_drill
from support.cutover.unfence import unfence
from support.replicate.rig import Following, await_applied, end
from support.validate.planting import require_equal

SOON = {"hold_s": 6.0, "drain_s": 3.0}
"""A hold that is over soon, and still long enough for a machine with two cores."""
PATIENT = {"hold_s": 20.0, "drain_s": 14.0}
"""Where it is not the hold that is tried: on a busy machine, too, there is time to prove and compare."""
WOKE = frozenset({"LeaseLost", "LeaderUnknown", "WriteUnconfirmed", "WritesHeld"})
"""What a process that was frozen for longer than its lease may answer, once: it was the fault."""


@contextmanager
def faulty(
    stack: SandboxStack, directory: Path, processes: int = 3, cutover: Mapping[str, Any] | None = None
) -> Iterator[tuple[Rig, Processes]]:
    """A shop of its own under traffic, in MONGO_ONLY. MongoDB takes writes again afterwards, whatever has become of it."""
    rig = shop_for_drill(stack, directory)
    tree = yaml.safe_load(rig.file.read_text())
    tree["cutover"] = {**tree.get("cutover", {}), **(cutover or SOON)}
    rig.file.write_text(yaml.safe_dump(tree, sort_keys=False))
    rig.migration = parse_migration(rig.file.read_bytes(), str(rig.file))
    try:
        with Processes(rig, stack, directory, processes) as application:
            application.await_more()
            yield rig, application
    finally:
        back_out(cutover_of(rig), "the test is over")
        unfence(cutover_of(rig))
        end(rig)


FEW = FlipBounds(reads=1, slower=0)
"""Evidence enough for a test: its application reads some keys now and then, on an emulator."""


def ready_to_switch(rig: Rig, processes: Processes) -> None:
    """All reads come from DynamoDB, and the switch is approved. A process replicates meanwhile."""
    begin_dual_write(flip_of(rig), COMPARED)
    processes.await_more(3)
    approve_again(rig)
    flip_reads(flip_of(rig), 100, bounds=FEW)
    processes.await_more(3)


def approve_again(rig: Rig) -> None:
    """On the evidence of a validation of now."""
    require_equal(rig)
    approve(rig, approvals.FLIP_READS)
    approve(rig, approvals.STOP_MONGO_WRITES)


def instance_of(rig: Rig, processes: Processes, number: int) -> Instance:
    """A process as the ledger knows it."""
    pid = str(processes.pid(number))
    found = [one for one in list_instances(rig.ledger) if one.mark.split("/")[2] == pid]
    assert len(found) == 1, found
    return found[0]


def await_reads_again(rig: Rig, within_s: float) -> None:
    """Until a hold on the way to DynamoDB has been put back, whole: mode, fence, and room for who replicates."""

    def back() -> bool:
        mode = read_mode(rig.ledger)
        assert mode.mode in (Mode.HOLD, Mode.DYNAMODB_READS)
        return mode.mode is Mode.DYNAMODB_READS and modes.replication_yield_request(rig.ledger) is None

    eventually(back, "the hold to be put back", within_s, 0.1)
    assert read_mode(rig.ledger).percent == 100
    assert recorded_fence(rig.ledger)[0] is Recorded.DOWN


# --- judging ---------------------------------------------------------------------------------------------------------


def judge(rig: Rig, processes: Processes) -> Replayed:
    """End the application, replay what it wrote down, and compare with the database that leads."""
    replayed = Replayed([read_history(path) for path in processes.end()], dict.fromkeys(COUNTERS, 0))
    print(f"\n{replayed.verdict}")
    if read_mode(rig.ledger).mode.dynamodb_leads:
        compare_with_dynamodb(replayed, rig.dynamodb, rig.table)
    else:
        compare_with_mongodb(replayed, rig.database)
        with Following(rig) as following:
            await_applied(rig, following)
        compare_with_dynamodb(replayed, rig.dynamodb, rig.table)
    return replayed


def failures(replayed: Replayed) -> list[Request]:
    """The requests that failed and were not meant to."""
    return [
        one
        for history in replayed.histories
        for one in history.requests
        if one.error and not (one.about.get("refused") and one.error == "DuplicateKeyError")
    ]


def assert_nothing_lost(replayed: Replayed, killed: Sequence[int] = ()) -> None:
    """No acknowledged write is gone, nothing that was deleted is back, and no process was told what is not so."""
    verdict: HistoryVerdict = replayed.verdict
    assert (verdict.lost, verdict.resurrected, verdict.contradicted) == ([], [], []), verdict
    assert sorted(verdict.killed) == sorted(killed)


def assert_nothing_failed(replayed: Replayed) -> None:
    assert replayed.verdict.failed == [], replayed.verdict
