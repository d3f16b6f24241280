"""AWS's control plane in memory, as far as tables go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from docferry.core.estate.dax_state import DaxState
from docferry.core.estate.resources import AwsCall
from docferry.core.estate.tables import predict_table
from docferry.core.estate.values import DaxSpec, EstateStep, TableSpec, TableState
from docferry.errors import InvariantBroken


class FakeEstate:
    """Tables of one region. Each step is done at once."""

    def __init__(self) -> None:
        self.tables: dict[str, TableState] = {}
        self.applied: list[EstateStep] = []

    def resolve_key(self, key: str) -> str:
        return key

    def fetch_table(self, name: str, region: str | None = None) -> TableState | None:
        return self.tables.get(name) if region is None else None

    def fetch_dax(self, spec: DaxSpec) -> DaxState:
        raise InvariantBroken("there is no DAX here")

    def check_dax(self, spec: DaxSpec) -> None:
        raise InvariantBroken("there is no DAX here")

    def ask(self, call: AwsCall) -> Mapping[str, Any] | None:
        raise InvariantBroken("there are tables only here")

    def apply(self, step: EstateStep) -> None:
        if not isinstance(step.spec, TableSpec) or step.region is not None:
            raise InvariantBroken(f"no way to apply '{step.action}' to {step.resource}")
        self.applied.append(step)
        self.tables[step.spec.name] = predict_table(self.tables.get(step.spec.name), step)
