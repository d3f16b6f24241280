"""An estate in memory that takes its time, as AWS does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from docferry.core.estate.dax_state import DaxState
from docferry.core.estate.plan import desired_estate
from docferry.core.estate.resources import AwsCall
from docferry.core.estate.tables import predict_table
from docferry.core.estate.values import Action, DaxSpec, EstateStep, TableSpec, TableState
from docferry.core.settings import LedgerSettings, TableSettings, TargetSettings
from docferry.errors import RequestRefused
from docferry.flows.provision.run import Patience

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

    def ask(self, call: AwsCall) -> Mapping[str, Any] | None:
        raise AssertionError("tables only here")

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
        """Progress that goes nowhere."""

    def advance(self, subject: str, done: int, total: int, note: str = "") -> None:
        """Progress that goes nowhere."""

    def is_set(self) -> bool:
        return False
