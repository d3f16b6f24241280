"""The books of a stream, for both directions of replication: what was read, and what became of each.

An outcome is entered when the position moves behind it, so what a killed or ended run had done out of order is counted once, by
the run that reads it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Generic, TypeVar

from docferry.errors import InvariantBroken

O = TypeVar("O", bound=Enum)  # noqa: E741 - an outcome


class Books(Generic[O]):
    """read = the sum of all outcomes + what is on its way. `what` is read (events, records), and becomes one of `outcomes`."""

    def __init__(self, what: str, outcomes: type[O]) -> None:
        self.what, self.read = what, 0
        self._counts: dict[O, int] = dict.fromkeys(outcomes, 0)
        self._before: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"Books({self.read} {self.what}: {self.counted()})"

    def __getitem__(self, outcome: O) -> int:
        return self._counts[outcome]

    @property
    def settled(self) -> int:
        """How many are behind the position."""
        return sum(self._counts.values())

    def take(self) -> None:
        """One was read."""
        self.read += 1

    def enter(self, outcome: O) -> None:
        """One that was read is behind the position now."""
        self._counts[outcome] += 1

    def give_back(self, left: int) -> None:
        """The run ends with so many on their way: they will be read again."""
        self.read -= left

    def check(self) -> None:
        """Raises InvariantBroken if anything is unaccounted for. Asked at the end, when nothing is on its way."""
        if self.read != self.settled:
            raise InvariantBroken(f"{self.read} {self.what} were read, which do not add up to {self.counted()}")

    def counted(self) -> dict[str, int]:
        """What is settled, and each outcome, by name."""
        return {self.what: self.settled} | {str(one.name).lower(): count for one, count in self._counts.items()}

    def go_on_from(self, counts: Mapping[str, int]) -> None:
        """Earlier runs have told the ledger so many."""
        self._before = {name: counts.get(name, 0) for name in self.counted()}

    def totals(self) -> dict[str, int]:
        """The same as `counted`, those of earlier runs included: for the ledger."""
        return {name: self._before.get(name, 0) + count for name, count in self.counted().items()}


@dataclass(slots=True, kw_only=True)
class StreamReport(Generic[O]):
    """What every run over a stream tells; `lag_s` is None while it is not known."""

    books: Books[O] = field()
    seconds: float = 0.0
    lag_s: float | None = None

    def check(self) -> None:
        """Raises InvariantBroken if anything that was read is unaccounted for."""
        self.books.check()

    @property
    def rate(self) -> float:
        """Settled a second."""
        return self.books.settled / self.seconds if self.seconds > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        return {
            **self.books.counted(),
            "seconds": round(self.seconds, 3),
            "rate": round(self.rate, 1),
            "lag_s": self.lag_s,
        }
