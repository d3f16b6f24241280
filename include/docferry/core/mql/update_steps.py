"""A plan's changes for one document, in MongoDB's order: names by their bytes, numbers by value.

Which elements `$`, `$[]` and `$[name]` stand for is looked up when their turn comes.

Source: MongoDB 6.0 manual, "Update Operators", read 2026-11-24; held against a real mongod by property tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cmp_to_key
from typing import Any

from docferry.core.bson_codec.order import ABSENT
from docferry.core.mql.array_filters import Element
from docferry.core.mql.update_errors import BAD_VALUE
from docferry.core.mql.update_plan import POSITION, Change, UpdatePlan, conflict
from docferry.core.mql.values import Document, Path, is_index
from docferry.errors import UpdateRefused


@dataclass(frozen=True, slots=True)
class PathEnd:
    """Where a path leads: the deepest value on it, what holds that, and how many parts were used."""

    holder: Any
    found: Any
    taken: int


def find(root: Document, path: Path) -> PathEnd:
    holder: Any = None
    found: Any = root
    for taken, part in enumerate(path):
        inner = _child(found, part)
        if inner is ABSENT:
            return PathEnd(holder, found, taken)
        holder, found = found, inner
    return PathEnd(holder, found, len(path))


def _child(value: Any, part: str) -> Any:
    if isinstance(value, dict):
        return value.get(part, ABSENT)
    if isinstance(value, list) and is_index(part) and int(part) < len(value):
        return value[int(part)]
    return ABSENT


@dataclass(frozen=True, slots=True)
class Steps:
    """Of one document, which is changed from step to step. `position`: by which element the query was met."""

    working: Document
    filters: Mapping[str, Element]
    position: Callable[[], int | None]

    def of(self, plan: UpdatePlan, above: Path = ()) -> Iterator[tuple[Path, Change]]:
        """Raises: UpdateRefused; CallRefused."""
        if plan.elements:
            yield from self._of_elements(plan, above)
            return
        children = dict(plan.children)
        if POSITION in children:
            part, child = self._position(), children.pop(POSITION)
            children[part] = _merged([children[part], child], (*above, part)) if part in children else child
        for part in sorted(children, key=cmp_to_key(_compare_parts)):
            yield from self._of_child(children[part], (*above, part))

    def _of_child(self, child: UpdatePlan | Change, path: Path) -> Iterator[tuple[Path, Change]]:
        if isinstance(child, UpdatePlan):
            yield from self.of(child, path)
        else:
            yield path, child

    def _position(self) -> str:
        found = self.position()
        if found is None:
            raise UpdateRefused(BAD_VALUE, "The positional operator did not find the match needed from the query.")
        return str(found)

    def _of_elements(self, plan: UpdatePlan, above: Path) -> Iterator[tuple[Path, Change]]:
        place, name = find(self.working, above), ".".join(above)
        if place.taken < len(above):
            raise UpdateRefused(
                BAD_VALUE, f"The path '{name}' must exist in the document in order to apply array updates."
            )
        if not isinstance(place.found, list):
            raise UpdateRefused(BAD_VALUE, f"Cannot apply array updates to non-array element '{name}'")
        for at in range(len(place.found)):
            path = (*above, str(at))
            meant = [child for part, child in plan.children.items() if self._means(part[2:-1], place.found[at])]
            if meant:
                yield from self._of_child(_merged(meant, path), path)

    def _means(self, name: str, element: Any) -> bool:
        return not name or self.filters[name](element)


def _merged(several: Sequence[UpdatePlan | Change], path: Path) -> UpdatePlan | Change:
    """Raises: UpdateRefused, if they conflict."""
    first, *others = several
    for one in others:
        first = _two(first, one, path)
    return first


def _two(one: UpdatePlan | Change, other: UpdatePlan | Change, path: Path) -> UpdatePlan:
    if not isinstance(one, UpdatePlan) or not isinstance(other, UpdatePlan) or one.elements != other.elements:
        raise conflict(path, path)
    children = dict(one.children)
    for part, child in other.children.items():
        children[part] = _two(children[part], child, (*path, part)) if part in children else child
    return UpdatePlan(children)


def _compare_parts(one: str, other: str) -> int:
    if is_index(one) and is_index(other) and int(one) != int(other):
        return int(one) - int(other)
    mine, theirs = one.encode(), other.encode()
    return (mine > theirs) - (mine < theirs)
