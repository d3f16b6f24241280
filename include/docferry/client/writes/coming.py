"""What of one collection's writes DynamoDB could not do later: known while MongoDB leads, by the call alone."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any

from docferry.client.context import ClientContext, Plan, Sort, now
from docferry.client.reads.read_share import MOST_SHAPES, ReadShare, deciding_fields, plain_shape
from docferry.core.access.calls import BEYOND_FILTER, instead_of_options, unmapped
from docferry.core.access.read_plan import shape_of
from docferry.core.cutover.modes import ModeState
from docferry.core.mql.pipelines import update_pipeline
from docferry.core.mql.update_operators import OPERATORS
from docferry.errors import CallRefused

_KNOWN_OPTIONS = frozenset({
    "array_filters", "let", "sort", "hint", "comment", "bypass_document_validation",
    "bypassDocumentValidation", "max_time_ms", "maxTimeMS",
})  # fmt: skip
"""Options that DynamoDB takes, or need not know: they say who asks, for how long, by which of MongoDB's indexes."""
_KNOWN = frozenset(OPERATORS) | {"$rename"}


class ComingWrites:
    """Of one collection."""

    def __init__(self, parts: ClientContext, name: str) -> None:
        self._parts, self._name = parts, name
        self._mapping = parts.mapping(name)
        self._share = ReadShare(self._mapping) if self._mapping is not None else None
        self._decide = deciding_fields(self._mapping) if self._mapping is not None else frozenset()
        self._unserved: dict[Hashable, str] = {}

    def __repr__(self) -> str:
        return f"ComingWrites({self._name!r})"

    def note(
        self, state: ModeState, method: str, query: Mapping[str, Any], change: Any, options: Mapping[str, Any]
    ) -> None:
        """Count a write that is on its way, by its shape. Raises: CallRefused, of a strict client."""
        if self._parts.strict:
            self.require_known(method, change, options)
            self._plan(query)
        if not state.write_to_dynamodb:
            return
        shape = self._shape(method, query, change, options)
        unserved = self._unserved.get(shape)
        if unserved is None:
            unserved = self._unserved_shape(method, query, change, options)
            if shape is not None and len(self._unserved) < MOST_SHAPES:
                self._unserved[shape] = unserved
        if unserved:
            self._parts.membership.tally.count_unserved(unserved)

    def _shape(self, method: str, query: Mapping[str, Any], change: Any, options: Mapping[str, Any]) -> Hashable | None:
        """None where more than names and types tells whether DynamoDB can do it."""
        if not (change is None or type(change) is dict) or type(query) is not dict:
            return None
        plain = plain_shape(query, self._decide)
        if plain is None:
            return None
        named = tuple([name for name, value in options.items() if value is not None]) if options else ()
        return method, plain, tuple([name for name in change if name[:1] == "$"]) if change else (), named

    def _unserved_shape(self, method: str, query: Mapping[str, Any], change: Any, options: Mapping[str, Any]) -> str:
        """Empty if DynamoDB can do it."""
        needs = list(unknown(change, options))
        if not needs and self._is_beyond(query):
            needs = [BEYOND_FILTER]
        return shape_of(self._name, method, query, needs) if needs or not self._is_found(query) else ""

    def require_storable(self, storable: Callable[[], object]) -> None:
        """Of a strict client: an insert that DynamoDB could not hold. Raises: CallRefused, DocumentError."""
        if self._parts.strict:
            if self._mapping is None:
                raise unmapped(self._name)
            storable()

    def _is_beyond(self, query: Mapping[str, Any]) -> bool:
        """Whether it may be for documents, too, that the collection's filter leaves out."""
        if self._mapping is None or self._mapping.filter is None:
            return False
        plan = self._planned(query)
        return plan is not None and plan.partial

    def _is_found(self, query: Mapping[str, Any]) -> bool:
        if self._share is None:
            return False
        return self._share.of(query, lambda: self._planned(query)) is not None

    def _planned(self, query: Mapping[str, Any]) -> Plan | None:
        try:
            return self._plan(query)
        except CallRefused:
            return None

    def _plan(self, query: Mapping[str, Any], sort: Sort = ()) -> Plan:
        if self._mapping is None:
            raise unmapped(self._name)
        return self._parts.plan(self._mapping, query, sort)

    def require_known(self, method: str, change: Any, options: Mapping[str, Any]) -> None:
        """Raises: CallRefused, naming what DynamoDB does not know of an update and its options."""
        if needs := sorted(unknown(change, options)):
            raise CallRefused(
                what=f"{self._name}.{method} with {', '.join(needs)} cannot be done while DynamoDB leads",
                suggestion=instead_of_options(needs),
            )

    def take(self, method: str, change: Any, options: Mapping[str, Any]) -> None:
        """As `require_known`, of a write that DynamoDB is about to do: a hint is passed over, and counted."""
        self.require_known(method, change, options)
        if options.get("hint") is not None:
            self._parts.metrics.count("hint.passed_over")


def unknown(change: Any, options: Mapping[str, Any]) -> Iterator[str]:
    """What DynamoDB does not know of an update or a replacement, and of pymongo's options: by name."""
    for name, value in options.items():
        if value is not None and name not in _KNOWN_OPTIONS:
            yield name
    if isinstance(change, list | tuple):
        try:
            update_pipeline(change, now=now())
        except CallRefused as refused:
            yield refused.what
    elif isinstance(change, Mapping):
        yield from _operators(change)


def _operators(change: Mapping[str, Any]) -> Iterator[str]:
    return (name for name in change if name[:1] == "$" and name not in _KNOWN)
