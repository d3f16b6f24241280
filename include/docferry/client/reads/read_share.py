"""By what a read belongs to a share of the reads, told without planning it: queries of one shape go the same way.

While MongoDB leads, each read is asked for its `share_key` (`core.access.read_plan.ReadPlan`), and most plans would be made for
that alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from typing import Any

from bson.objectid import ObjectId

from docferry.client.context import Plan
from docferry.core.mapping.key_templates import Template
from docferry.core.mapping.mapping import DocumentMapping

MOST_SHAPES = 500
_PLAIN = frozenset((str, int, ObjectId))
"""Types of which every value but '' goes the same way, and is the same in a query as in a document."""

Shape = tuple[tuple[str, type], ...]


def deciding_fields(mapping: DocumentMapping) -> Set[str]:
    """Fields whose values, too, tell how a query is answered."""
    found = {".".join(path) for index in mapping.root.indexes for path, _ in index.when}
    return found | set(mapping.filter.fields) if mapping.filter is not None else found


def plain_shape(query: Mapping[str, Any], decide: Set[str]) -> Shape | None:
    """None where more than names and types tells how a query is answered."""
    shape: list[tuple[str, type]] = []
    for name, value in query.items():
        if type(value) not in _PLAIN or value == "" or name[:1] == "$" or "." in name or name in decide:
            return None
        shape.append((name, type(value)))
    return tuple(shape)


class ReadShare:
    """The share_keys of one collection's queries."""

    def __init__(self, mapping: DocumentMapping) -> None:
        self._mapping = mapping
        self._decide = deciding_fields(mapping)
        self._templates: dict[Shape, Template | None] = {}

    def __repr__(self) -> str:
        return f"ReadShare({self._mapping!r}, {len(self._templates)} shapes)"

    def of(self, query: Mapping[str, Any], plan: Callable[[], Plan | None]) -> str | None:
        """The share_key of the plan that `plan` makes; None if it makes none: DynamoDB cannot answer this query."""
        shape = plain_shape(query, self._decide)
        if shape in self._templates:
            template = self._templates[shape]
            return template.render(query) if template is not None else None
        made = plan()
        if shape is not None and not (made and made.where.scan) and len(self._templates) < MOST_SHAPES:
            self._remember(shape, made)
        return made.share_key if made is not None else None

    def _remember(self, shape: Shape, plan: Plan | None) -> None:
        if plan is None:
            self._templates[shape] = None
        elif plan.where.keys:
            self._templates[shape] = self._mapping.root.pk
        elif plan.where.query is not None and not plan.where.query.others:
            name = f"{plan.where.query.index}PK"
            root = self._mapping.root
            self._templates[shape] = next((one.pk for one in root.indexes if one.pk_name == name), root.pk)
