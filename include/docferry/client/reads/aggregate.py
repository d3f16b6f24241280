"""Aggregations of one collection once DynamoDB leads: documents are found as by a filter, and the stages run here, in bounded
memory."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from docferry.client.context import DYNAMODB, ClientContext, Plan, now, timed
from docferry.client.reads.read_share import MOST_SHAPES, deciding_fields, plain_shape
from docferry.client.transport.spending import spending
from docferry.core.access.calls import shape_of_call, unknown_options, unmapped
from docferry.core.access.read_plan import BY
from docferry.core.cutover.modes import ModeState
from docferry.core.mapping.items import Document
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.mql.pipelines import Memory, Pipeline, compile_pipeline
from docferry.errors import CallRefused, ExpressionRefused

_HARMLESS = frozenset({
    "allowDiskUse", "batchSize", "maxTimeMS", "comment", "cursor", "hint", "bypassDocumentValidation", "let", "session",
})  # fmt: skip
"""What tells MongoDB how to work, and what is served."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregation:
    """What is asked, as pymongo takes it."""

    pipeline: Any = field(repr=False)
    session: Any = None
    let: Any = field(default=None, repr=False)
    options: Mapping[str, Any] = field(default_factory=dict)


class Aggregations:
    """Of one collection."""

    def __init__(self, parts: ClientContext, name: str) -> None:
        self._parts, self._name, self._mapping = parts, name, parts.mapping(name)
        self._decide = deciding_fields(self._mapping) if self._mapping is not None else frozenset()
        self._unserved: dict[Hashable, str] = {}

    def __repr__(self) -> str:
        return f"Aggregations({self._name!r})"

    def note(self, state: ModeState, asked: Aggregation) -> None:
        """Count what MongoDB is about to do, if DynamoDB could not. Raises: CallRefused, of a strict client."""
        if self._parts.strict:
            with suppress(ExpressionRefused):  # MongoDB refuses it, too
                self._planned(asked)
        if state.write_to_dynamodb and (unserved := self._unserved_shape(asked)):
            self._parts.membership.tally.count_unserved(unserved)

    def _unserved_shape(self, asked: Aggregation) -> str:
        """Empty if DynamoDB could answer it, or MongoDB refuses it, too. Found out once for pipelines that differ only in values
        which are looked for."""
        known = _shape(asked, self._decide)
        if known in self._unserved:
            return self._unserved[known]
        try:
            beyond = self._planned(asked)[2].partial
        except CallRefused:
            beyond = True
        except ExpressionRefused:
            beyond = False
        shape = shape_of_call(self._name, "aggregate", (asked.pipeline,), {}) if beyond else ""
        if known is not None and len(self._unserved) < MOST_SHAPES:
            self._unserved[known] = shape
        return shape

    async def documents(self, asked: Aggregation) -> list[Document]:
        """What comes out. Raises: CallRefused; what pymongo raises where MongoDB refuses."""
        try:
            with self._spending(asked), timed(self._parts.metrics, DYNAMODB, "aggregate"):
                found = await self._run(asked)
        except ExpressionRefused as error:
            raise self._parts.evaluation_refused(error) from error
        return [self._parts.border.to_application(one) for one in found]

    def _spending(self, asked: Aggregation) -> spending:
        def shape(way: str) -> str:
            return f"{shape_of_call(self._name, 'aggregate', (asked.pipeline,), {})} {BY}{way}"

        return spending(self._parts.membership.tally, shape)

    async def _run(self, asked: Aggregation) -> list[Document]:
        mapping, pipeline, plan = self._planned(asked)
        if asked.options.get("hint") is not None:
            self._parts.metrics.count("hint.passed_over")
        reader, memory = self._parts.within(asked.session).reader(mapping), Memory()
        found: list[Document] = []
        async for place in reader.find(plan.where, whole=True):
            document = reader.document(place)
            if document is not None and plan.filter.matches(document):
                memory.hold(document)
                found.append(document)
        return pipeline.run(found)

    def _planned(self, asked: Aggregation) -> tuple[DocumentMapping, Pipeline, Plan]:
        if not isinstance(asked.pipeline, list | tuple):
            raise TypeError(f"pipeline must be a list, not {type(asked.pipeline)}")
        if self._mapping is None:
            raise unmapped(self._name)
        options = sorted(name for name, one in asked.options.items() if one is not None and name not in _HARMLESS)
        if options:
            raise unknown_options(options)
        border = self._parts.border
        pipeline = compile_pipeline(
            [border.to_internal(one) for one in asked.pipeline],
            now=now(),  # one moment for all its documents
            let=border.to_internal(asked.let),
            ordered=self._mapping.keeps_order,
        )
        within = self._parts.within(asked.session)
        return self._mapping, pipeline, within.plan(self._mapping, pipeline.match, variables=pipeline.variables)


def _shape(asked: Aggregation, decide: Set[str]) -> Hashable | None:
    """None where only the plan tells how it is answered."""
    if not isinstance(asked.pipeline, list) or asked.session is not None or asked.let is not None:
        return None
    shape: list[Hashable] = [name for name, one in asked.options.items() if one is not None]
    for stage in asked.pipeline:
        if type(stage) is not dict or len(stage) != 1:
            return None
        ((name, value),) = stage.items()
        found = plain_shape(value, decide) if name == "$match" and type(value) is dict else _frozen(value, 3)
        if found is None:
            return None
        shape.append((name, found))
    return tuple(shape)


_SIMPLE = frozenset((str, int, float, bool))


def _frozen(value: Any, depth: int) -> Hashable | None:
    """A stage by its values, which are names of fields, mostly. A type beside each: 1, 1.0 and True are equal."""
    if type(value) in _SIMPLE:
        return type(value), value
    if type(value) is not dict or depth == 0:
        return None
    found: list[Hashable] = []
    for name, one in value.items():
        frozen = (type(one), one) if type(one) in _SIMPLE else _frozen(one, depth - 1)
        if frozen is None:
            return None
        found.append((name, frozen))
    return tuple(found)
