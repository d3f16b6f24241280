"""Whether a value of a unique index was ever two documents', and whether one was refused that no document had.

From histories alone: a document surely has a value from the answer of the write that gave it until the next write that takes it
away begins; it may have it from the beginning of the one until the end of the other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from docferry.rehearsal.independent.replay import State

FOREVER = float("inf")


class StatesBetween(Protocol):
    """What a document may be from somewhere between two moments on."""

    began: float
    ended: float
    states: list[State]


@dataclass(frozen=True)
class Holding:
    """A document has a value between two moments."""

    document: str
    since: float
    until: float


@dataclass(frozen=True)
class RefusedValue:
    """Between two moments a document was refused a value."""

    document: str
    request: str
    value: str
    began: float
    ended: float


def unique_problems(
    field: str, documents: Mapping[str, Sequence[StatesBetween]], refusals: Iterable[RefusedValue]
) -> Iterator[str]:
    """`documents` are all versions of each, in their order."""
    surely: dict[str, list[Holding]] = defaultdict(list)
    possibly: dict[str, list[Holding]] = defaultdict(list)
    for document, versions in documents.items():
        for value, since, until in _certain(field, versions):
            surely[value].append(Holding(document, since, until))
        for value, since, until in _possible(field, versions):
            possibly[value].append(Holding(document, since, until))
    for value, holdings in surely.items():
        for one, other in _overlaps(holdings):
            yield f"{field} {value}: {one.document} and {other.document} both had it"
    for refusal in refusals:
        if not any(_explains(one, refusal) for one in possibly[refusal.value]):
            yield f"{refusal.request}: {field} {refusal.value} was refused, and no other document had it"


def _explains(holding: Holding, refusal: RefusedValue) -> bool:
    at_once = holding.since <= refusal.ended and refusal.began <= holding.until
    return at_once and holding.document != refusal.document


def _overlaps(holdings: Iterable[Holding]) -> Iterator[tuple[Holding, Holding]]:
    last: Holding | None = None
    for one in sorted(holdings, key=lambda one: one.since):
        if last is not None and one.since < last.until and one.document != last.document:
            yield last, one
        last = one if last is None or one.until > last.until else last


def _certain(field: str, versions: Sequence[StatesBetween]) -> Iterator[tuple[str, float, float]]:
    """(value, since, until). A write that leaves the value does not interrupt."""
    held, since = "", 0.0
    for version in versions:
        values = _values(field, version)
        sole = next(iter(values)) if len(values) == 1 else ""
        if sole == held:
            continue
        if held and since < version.began:
            yield held, since, version.began
        held, since = sole, version.ended
    if held and since < FOREVER:
        yield held, since, FOREVER


def _possible(field: str, versions: Sequence[StatesBetween]) -> Iterator[tuple[str, float, float]]:
    for index, version in enumerate(versions):
        until = versions[index + 1].ended if index + 1 < len(versions) else FOREVER
        yield from ((value, version.began, until) for value in _values(field, version) if value)


def _values(field: str, version: StatesBetween) -> set[str]:
    """Empty text: it has none."""
    found = {state.get(field) if state is not None else None for state in version.states}
    return {value if isinstance(value, str) else "" for value in found}
