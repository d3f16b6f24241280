"""What is measured of a migration, who publishes, and that nothing of it decides what becomes of a flow."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from docferry.core.cutover.modes import MODE, Mode, ModeState
from docferry.core.metric_data import Measurement
from docferry.errors import TableMissing, Unavailable
from docferry.flows.kernel.job import Job
from docferry.flows.ledger.positions import REPLICATION
from docferry.flows.ledger.rooms.monitor import MONITOR, Totals, take_turn
from docferry.flows.ledger.times import now_ms
from docferry.flows.reporting.measure import measure
from docferry.flows.reporting.monitor import monitored
from docferry.ports.flows import Identity, Record
from docferry.testing.fakes import FakeLedger
from docferry.testing.jobs import change_job, make_job
from support.replicate.fake_world import World


class Sink:
    """Keeps what it is told, or loses it."""

    def __init__(self, why_lost: str = "") -> None:
        self.lost, self.why_lost = 0, ""
        self._why = why_lost
        self.told: list[Sequence[Measurement]] = []
        self.was_told = threading.Event()

    def publish(self, migration: str, measurements: Sequence[Measurement], at_ms: int) -> None:
        if self._why:
            self.lost += len(measurements)
            self.why_lost = self._why
        self.told.append(measurements)
        self.was_told.set()

    def hurry(self) -> None: ...


class Told:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def advance(self, subject: str, done: int, total: int, note: str = "") -> None: ...


def loaded(documents: int = 10) -> tuple[World, Job]:
    world = World(documents)
    world.load()
    return world, make_job(**world.common)


def values_of(job: Job, before: Totals | None = None) -> dict[tuple[str, str], float]:
    look = measure(job, lambda totals: before or Totals())
    assert look is not None
    assert look.untold == ()
    return {(one.metric.name, one.label): one.latest for one in look.measurements}


def test_a_migration_that_is_loaded_and_followed_is_told_by_metric_and_label() -> None:
    world, job = loaded()
    world.replicate()
    found = values_of(job, Totals(at_ms=now_ms() - 60_000))
    assert found["MigrationProgress", "MongoDB-to-DynamoDB"] == 100
    assert found["DeadLetters", ""] == 0
    assert found["HoldOverdue", ""] == 0
    assert 0 <= found["ReplicationLag", "forward"] < 60
    assert 0 < found["WindowLeft", "oplog"] <= 100
    assert found["MonthlyCost", "DynamoDB"] > 0
    assert found["ValidationAge", ""] >= 0
    assert ("DataConsistency", "") not in found, "nothing was compared"
    assert ("ReplicationLag", "reverse") not in found


def test_the_lag_grows_while_no_process_replicates() -> None:
    world, job = loaded()
    world.replicate()
    record = world.ledger.read(*REPLICATION)
    assert record is not None
    world.ledger.write(*REPLICATION, {**record.body, "at": now_ms() - 600_000, "lag_s": 1, "rate": 5}, expect=record)
    found = values_of(job)
    assert found["ReplicationLag", "forward"] >= 601
    assert found["DocumentRate", "replicate"] == 0


def test_a_hold_behind_its_deadline_is_overdue() -> None:
    world, job = loaded()
    held = ModeState(
        mode=Mode.HOLD, epoch=1, behind=Mode.DUAL_WRITE, ahead=Mode.DYNAMODB_ONLY, deadline_ms=now_ms() - 30_000
    )
    record = world.ledger.read(*MODE)
    world.ledger.write(*MODE, held.to_body(), expect=record)
    assert values_of(job)["HoldOverdue", ""] >= 30


class NoTable(FakeLedger):
    def read(self, section: str, key: str) -> Record | None:
        raise TableMissing("there is no table Ledger")


def test_before_it_is_provisioned_nothing_is_measured_and_nothing_is_wrong() -> None:
    _, job = loaded()
    told, sink = Told(), Sink()
    with monitored(change_job(job, ledger=NoTable(), progress=told), local=[sink]):
        pass
    with monitored(change_job(job, ledger=NoTable(), progress=told), shared=sink):
        pass
    assert (sink.told, told.lines) == ([], [])


def test_of_many_processes_one_publishes_at_a_time() -> None:
    world, _ = loaded()
    turns = [
        take_turn(world.ledger, f"process {number}", 60.0, Totals(at_ms=now_ms(), loaded=3)) for number in range(5)
    ]
    assert [one is not None for one in turns] == [True, False, False, False, False]
    assert take_turn(world.ledger, "process 1", 60.0, Totals(), last=True) is None
    again = take_turn(world.ledger, "process 0", 60.0, Totals(at_ms=now_ms()), last=True)
    assert again is not None
    assert again.loaded == 3


def test_what_is_lost_is_counted_and_said_and_the_flow_goes_on() -> None:
    world, job = loaded()
    told, sink = Told(), Sink("CloudWatch said no")
    with monitored(change_job(job, progress=told), shared=sink):
        world.replicate()
    assert sink.lost > 5
    assert any(f"{sink.lost} values of metrics were lost" in line and "said no" in line for line in told.lines)


class Broken:
    def collection_facts(self, name: str) -> Any:
        raise Unavailable("MongoDB is away")

    def oplog_reach(self) -> Any:
        raise KeyError("secret")


def test_what_cannot_be_measured_is_said_without_what_it_quotes_and_the_rest_is_published() -> None:
    world, job = loaded()
    world.replicate()
    told, sink = Told(), Sink()
    with monitored(change_job(job, progress=told, source=Broken()), shared=sink):
        pass
    assert any("could not be measured" in line and "KeyError, a bug of ours" in line for line in told.lines)
    assert not any("secret" in line for line in told.lines)


def test_metrics_are_published_at_the_begin_and_at_the_end() -> None:
    world, job = loaded()
    sink = Sink()
    with monitored(change_job(job, identity=Identity(name="me", mark="m", ended=lambda mark: False)), shared=sink):
        assert sink.was_told.wait(60)
    assert len(sink.told) == 2
    record = world.ledger.read(*MONITOR)
    assert record is not None
    assert record.body["by"] == "me"


def test_without_a_sink_nothing_is_read() -> None:
    world, job = loaded()
    with monitored(job):
        pass
    assert world.ledger.read(*MONITOR) is None
