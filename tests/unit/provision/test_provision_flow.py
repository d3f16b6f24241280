"""Waiting and order, against an estate in memory that is as slow as AWS and as strict: one change at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest
from docferry.core.estate.plan import desired_estate
from docferry.core.estate.tables import predict_table
from docferry.core.estate.values import Action, DaxSpec, DaxState, DesiredEstate, EstateStep, TableSpec, TableState
from docferry.core.settings import LedgerSettings, TableSettings, TargetSettings
from docferry.errors import InvariantBroken, RequestRefused, RetryExhausted
from docferry.flows.provision.run import Patience, add_replicas, provision

PATIENCE = Patience(poll_s=0.01, settle_s=5, agree_s=0.2, trouble_s=1)
SETTINGS = TableSettings(name="Shop", indexes=("GSI1", "GSI2"), tags={"Project": "migration"})
DESIRED = desired_estate(
    [SETTINGS], LedgerSettings(table="Ledger"), TargetSettings(replicas=("eu-west-1", "eu-west-2"))
)
SLOW = {Action.CREATE_TABLE, Action.ADD_INDEX, Action.CREATE_REPLICA, Action.SET_BILLING, Action.SET_ENCRYPTION}


class SlowEstate:
    """Tables by region. A slow change shows as UPDATING for `looks` looks; a change during one is refused, as AWS does."""

    def __init__(self, looks: int = 3) -> None:
        self.looks, self.busy = looks, 0
        self.tables: dict[tuple[str, str], TableState] = {}
        self.applied: list[EstateStep] = []

    def resolve_key(self, key: str) -> str:
        return key

    def fetch_table(self, name: str, region: str | None = None) -> TableState | None:
        state = self.tables.get((name, region or "us-east-1"))
        if state is None or self.busy <= 0:
            return state
        self.busy -= 1
        return replace(state, status="UPDATING")

    def fetch_dax(self, spec: DaxSpec) -> DaxState:
        raise AssertionError("no DAX here")

    def check_dax(self, spec: DaxSpec) -> None:
        raise AssertionError("no DAX here")

    def apply(self, step: EstateStep) -> None:
        if self.busy > 0:
            raise RequestRefused("one change at a time", operation=step.action, code="x")
        assert isinstance(step.spec, TableSpec)
        where = (step.spec.name, step.region or "us-east-1")
        self.applied.append(step)
        self.tables[where] = predict_table(self.tables.get(where), step)
        if step.action is Action.CREATE_REPLICA:
            bare = replace(
                self.tables[where], tags={}, pitr=False, deletion_protection=False, replicas={"us-east-1": "ACTIVE"}
            )
            self.tables[step.spec.name, step.detail] = bare
        self.busy = self.looks if step.action in SLOW else 0


class Quiet:
    def say(self, text: str) -> None:
        """Nobody listens."""

    def advance(self, subject: str, done: int, total: int, note: str = "") -> None:
        """Nobody listens."""

    def is_set(self) -> bool:
        return False


def run(estate: SlowEstate, desired: DesiredEstate = DESIRED, *, allow_changes: bool = False) -> list[str]:
    report = provision(desired, estate, allow_changes=allow_changes, progress=Quiet(), stop=Quiet(), patience=PATIENCE)
    return [resource.outcome.value for resource in report.resources]


def test_provision_waits_for_each_change_before_the_next() -> None:
    estate = SlowEstate()
    assert run(estate) == ["created", "created"]
    assert run(estate) == ["unchanged", "unchanged"]
    more = desired_estate(
        [replace(SETTINGS, indexes=("GSI1", "GSI2", "GSI3", "GSI4"))], LedgerSettings(table="Ledger"), TargetSettings()
    )
    assert run(estate, more, allow_changes=True) == ["unchanged", "changed"]
    added = [step.detail for step in estate.applied if step.action is Action.ADD_INDEX]
    assert added == ["GSI3", "GSI4"]


def test_add_replicas_makes_one_region_at_a_time() -> None:
    estate = SlowEstate()
    run(estate)
    report = add_replicas(DESIRED, estate, progress=Quiet(), stop=Quiet(), patience=PATIENCE)
    assert [r.outcome.value for r in report.resources] == ["created", "created"]
    made = [step.detail for step in estate.applied if step.action is Action.CREATE_REPLICA]
    assert made == ["eu-west-1", "eu-west-2"]
    again = add_replicas(DESIRED, estate, progress=Quiet(), stop=Quiet(), patience=PATIENCE)
    assert not again.changed_anything


def test_provision_when_aws_never_finishes_gives_up_by_its_deadline() -> None:
    with pytest.raises(RetryExhausted, match="AWS has not finished"):
        provision(
            DESIRED, SlowEstate(looks=10**9), progress=Quiet(), stop=Quiet(), patience=replace(PATIENCE, settle_s=0.2)
        )


def test_provision_when_somebody_undoes_a_step_meanwhile_does_not_report_success() -> None:
    class Undone(SlowEstate):
        def fetch_table(self, name: str, region: str | None = None) -> TableState | None:
            state = super().fetch_table(name, region)
            return replace(state, pitr=False) if state else None

    with pytest.raises(InvariantBroken, match="does not show it"):
        run(Undone())
