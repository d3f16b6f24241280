"""AWS's control plane."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from docferry.core.estate.dax_state import DaxState
from docferry.core.estate.resources import AwsCall
from docferry.core.estate.values import DaxSpec, EstateStep, TableState


class Estate(Protocol):
    """AWS's control plane: what is there, and one change at a time. Waiting and order are the flow's affair.

    Every method raises StoreError (by type: TransientStoreError may work later).
    """

    def resolve_key(self, key: str) -> str:
        """The ARN of a KMS key given by id, alias or ARN."""

    def fetch_table(self, name: str, region: str | None = None) -> TableState | None:
        """The table as `region` (None: the target's own) has it; None if there is no such table."""

    def fetch_dax(self, spec: DaxSpec) -> DaxState:
        """The cluster that `spec` names, and its groups."""

    def check_dax(self, spec: DaxSpec) -> None:
        """Raises PreflightFailed, with every problem, if something that `spec` names must exist and does not."""

    def ask(self, call: AwsCall) -> Mapping[str, Any] | None:
        """The reply of a call that only reads; None if what it asks for does not exist."""

    def apply(self, step: EstateStep) -> None:
        """Ask AWS for one step. Returns when AWS has accepted it, which is not when it is done."""
