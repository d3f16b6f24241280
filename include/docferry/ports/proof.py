"""What the proof of a model asks of the outside world: scratch tables, a manifest of them, and the model's own reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from docferry.core.access.patterns import Pattern
from docferry.core.estate.values import TableSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAnswer:
    """What one question to DynamoDB gave and took. `units` by the sizes of what was read, `units_told` as the server says."""

    documents: Sequence[Mapping[str, Any]] = field(repr=False)
    count: int
    seconds: float
    requests: int
    items_read: int
    units: float
    units_told: float


class ModelReads(Protocol):
    """A model's access patterns, asked of its tables as docferry's client asks them, and measured."""

    def pattern(self, name: str) -> Pattern:
        """Raises CallRefused."""

    async def ask(self, name: str, parameters: Mapping[str, Any], limit: int) -> ModelAnswer:
        """At most `limit` documents, whole."""

    async def count(self, name: str, parameters: Mapping[str, Any]) -> ModelAnswer:
        """How many items there are, without reading the documents."""

    async def close(self) -> None: ...


class ScratchTables(Protocol):
    """Tables that a proof makes and removes. Raises StoreError; InvariantBroken for a table that is no scratch table."""

    def create(self, spec: TableSpec) -> None:
        """Ask for a table. Returns when that is accepted, which is not when the table can be used."""

    def status(self, name: str) -> str:
        """ACTIVE, CREATING, DELETING, ...; empty if there is no such table."""

    def until(self, name: str) -> float | None:
        """When any run may remove it, in seconds since 1970; None if there is no such table, or it does not say."""

    def delete(self, name: str) -> None:
        """Ask for its removal. A table that is not there is no error; one that does not say `until` is left alone."""

    def names(self) -> list[str]:
        """All tables that are called like scratch tables."""


class Manifest(Protocol):
    """Which tables were made or were about to be made, remembered by more than this process."""

    def held(self) -> AbstractContextManager[None]:
        """For one process at a time. Raises PreflightFailed while another one has it."""

    def names(self) -> dict[str, float]:
        """Table -> when it was asked for, in seconds since 1970."""

    def keep(self, names: dict[str, float]) -> None:
        """Replace what is remembered."""
