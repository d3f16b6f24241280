"""Aggregations of one collection once DynamoDB leads: documents are found as by a filter, and the stages run here, in bounded
memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from docferry.client.context import DYNAMODB, ClientContext, Plan, timed
from docferry.core.access.calls import shape_of_call, unknown_options, unmapped
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
    """What is asked, as pymongo takes it; `now` is one moment for all its documents."""

    pipeline: Any = field(repr=False)
    session: Any = None
    let: Any = field(default=None, repr=False)
    options: Mapping[str, Any] = field(default_factory=dict)
    now: datetime


class Aggregations:
    """Of one collection."""

    def __init__(self, parts: ClientContext, name: str) -> None:
        self._parts, self._name, self._mapping = parts, name, parts.mapping(name)

    def __repr__(self) -> str:
        return f"Aggregations({self._name!r})"

    def note(self, state: ModeState, asked: Aggregation) -> None:
        """Count what MongoDB is about to do, if DynamoDB could not. Raises: CallRefused, of a strict client."""
        if not self._parts.strict and not state.write_to_dynamodb:
            return
        try:
            if not self._planned(asked)[2].partial:
                return
        except CallRefused:
            if self._parts.strict:
                raise
        except ExpressionRefused:
            return  # MongoDB refuses it, too
        shape = shape_of_call(self._name, "aggregate", (asked.pipeline,), {})
        self._parts.membership.tally.count_unserved(shape)

    async def documents(self, asked: Aggregation) -> list[Document]:
        """What comes out. Raises: CallRefused; what pymongo raises where MongoDB refuses."""
        try:
            with timed(self._parts.metrics, DYNAMODB, "aggregate"):
                found = await self._run(asked)
        except ExpressionRefused as error:
            raise self._parts.evaluation_refused(error) from error
        return [self._parts.border.to_application(one) for one in found]

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
            [border.to_internal(one) for one in asked.pipeline], now=asked.now, let=border.to_internal(asked.let)
        )
        within = self._parts.within(asked.session)
        return self._mapping, pipeline, within.plan(self._mapping, pipeline.match, variables=pipeline.variables)
