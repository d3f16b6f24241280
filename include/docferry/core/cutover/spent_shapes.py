"""What DynamoDB has consumed for the application's calls, by their shape. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

MOST_KEPT: Final = 40
"""Shapes in one record of the ledger, which is written with each heartbeat."""
OTHER: Final = "other shapes"


@dataclass(slots=True)
class SpentBy:
    """Calls of one shape, and the capacity units of all of them."""

    calls: int = 0
    read_units: float = 0.0
    write_units: float = 0.0

    def add(self, calls: int, read_units: float, write_units: float) -> None:
        self.calls += calls
        self.read_units += read_units
        self.write_units += write_units

    @property
    def weight(self) -> float:
        """By which the dear ones are told: a write unit costs five times a read unit, on demand."""
        return self.read_units + 5 * self.write_units

    def to_body(self) -> list[int]:
        """For the ledger, in half units, the smallest that there are."""
        return [self.calls, round(2 * self.read_units), round(2 * self.write_units)]


def spent_in(body: Sequence[Any]) -> SpentBy:
    """The inverse of `to_body`."""
    return SpentBy(int(body[0]), int(body[1]) / 2, int(body[2]) / 2)


def added(several: Iterable[Mapping[str, SpentBy]]) -> dict[str, SpentBy]:
    found: dict[str, SpentBy] = {}
    for one in several:
        for shape, spent in one.items():
            found.setdefault(shape, SpentBy()).add(spent.calls, spent.read_units, spent.write_units)
    return found


def dearest(spent: Mapping[str, SpentBy], most: int = MOST_KEPT) -> dict[str, SpentBy]:
    """Copies of the dearest, in that order, and of all others as one."""
    ranked = sorted((shape for shape in spent if shape != OTHER), key=lambda shape: -spent[shape].weight)
    rest = [*ranked[most:], *([OTHER] if OTHER in spent else [])]
    found = added([{shape: spent[shape]} for shape in ranked[:most]])
    return found | ({OTHER: added([{OTHER: spent[shape]} for shape in rest])[OTHER]} if rest else {})
