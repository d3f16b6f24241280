"""The table that remembers what must survive a crash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of the ledger. `revision` is what a change must have read; `body` holds str, int, bytes, bool, lists."""

    section: str
    key: str
    revision: int
    body: Mapping[str, Any] = field(repr=False)


class Ledger(Protocol):
    """The table that remembers. Every change is conditional on what was read. Keys sort as strings."""

    def read(self, section: str, key: str) -> Record | None: ...

    def glance(self, section: str, key: str) -> Record | None:
        """As `read`, for half the price: what it gives may be a moment old, or older than what was seen before."""

    def list(self, section: str, prefix: str = "") -> list[Record]:
        """All records of a section whose key begins with `prefix`, in key order."""

    def write(
        self,
        section: str,
        key: str,
        body: Mapping[str, Any],
        *,
        expect: Record | None,
        unchanged: Sequence[Record] = (),
        beside: Sequence[Record] = (),
    ) -> Record:
        """Create (`expect=None`) or replace the record that was read, if all of `unchanged` are as they were read, too.
        `beside` are new records that are made in the same transaction: all of it happens, or nothing.

        Raises: ConditionFailed if one of them is not as expected; one of `beside` is there already.
        """

    def of_table(self, table: str) -> Ledger:
        """The records of a DynamoDB table: one partition for all the migrations of this ledger."""

    def delete(self, record: Record) -> None:
        """Remove the record that was read. Raises ConditionFailed if it has changed."""
