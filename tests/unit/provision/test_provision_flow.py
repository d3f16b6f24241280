"""Waiting and order, against an estate in memory that is as slow as AWS and as strict: one change at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest
from docferry.core.estate.plan import desired_estate
from docferry.core.estate.values import Action, DesiredEstate, TableState
from docferry.core.settings import LedgerSettings, TargetSettings
from docferry.errors import InvariantBroken, RetryExhausted
from docferry.flows.provision.run import add_replicas, provision
from support.provision.slow_estate import DESIRED, PATIENCE, SETTINGS, Quiet, SlowEstate


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
