"""One access pattern on MongoDB and on DynamoDB, call by call with the same values: what it gives, and what it takes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import bson

from docferry.config import Migration
from docferry.core.access.patterns import Pattern
from docferry.core.analyze.proof import PatternProof, latency
from docferry.core.mapping.key_templates import Placeholder
from docferry.errors import CallRefused, StoreError, TornRead
from docferry.flows.analyze.sampled import SampledCollection, at, parameters_of
from docferry.ports.analyze import AnalysisSource, Related
from docferry.ports.proof import ModelAnswer, ModelReads

ENOUGH = 0.5
"""Share of a field's values that must be ids of another collection for its documents to be counted there."""
TRIED = 50
PAGE = 100
"""Documents that one call asks for, on both sides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compared:
    """Of one call: documents (or counts) that MongoDB alone gives, and that DynamoDB alone gives."""

    missing: int
    more: int

    @property
    def equal(self) -> bool:
        return not self.missing and not self.more


@dataclass(slots=True, kw_only=True)
class Asking:
    """One pattern; with `counted`, for each of its documents how many of another pattern lead to it."""

    source: AnalysisSource
    reads: ModelReads
    samples: Mapping[str, SampledCollection]
    name: str
    collection: str
    calls: int
    pattern_s: float
    guard: Callable[[], None]
    counted: Pattern | None = None

    @property
    def title(self) -> str:
        return self.name if self.counted is None else f"{self.name} with counts of {self.counted.name}"

    async def run(self) -> PatternProof:
        try:
            pattern = self.reads.pattern(self.name)
            values = parameters_of(pattern, self.samples[self.collection].documents, self.calls)
            if not values:
                return self._told("", [], [], [], failed="no document of the sample has values for it")
            return await self._side_by_side(pattern, values)
        except (CallRefused, TornRead, StoreError) as error:
            return self._told("", [], [], [], failed=f"{type(error).__name__}: {error}")

    async def _side_by_side(self, pattern: Pattern, values: Sequence[Mapping[str, Any]]) -> PatternProof:
        mongodb: list[float] = []
        answers: list[ModelAnswer] = []
        compared: list[_Compared | None] = []
        documents: list[int] = []
        began = time.monotonic()
        await self._dynamodb(values[0])  # the first call opens connections, which later ones find open
        await self._mongodb(pattern, values[0])
        for number in range(self.calls):
            self.guard()
            given = values[number % len(values)]
            found, seconds = await self._mongodb(pattern, given)
            answer, counts = await self._dynamodb(given)
            mongodb.append(seconds)
            answers.append(answer)
            documents.append(len(found))
            compared.append(self._differ(found, counts))
            if time.monotonic() - began > self.pattern_s:
                break
        place = f"index {pattern.index}" if pattern.index else "the table"
        return self._told(place, mongodb, answers, compared, documents=documents)

    async def _mongodb(self, pattern: Pattern, given: Mapping[str, Any]) -> tuple[dict[bytes, int], float]:
        """`_id` -> how many are counted for it (0 where nothing is counted)."""
        query = pattern.bind(given).query
        if self.counted is not None:
            related = _related(pattern, self.counted)
            counts, seconds = await asyncio.to_thread(self.source.count_related, self.collection, query, related, PAGE)
            return {_key(one): number for one, number in counts.items()}, seconds
        sort = [] if pattern.plan.path else _sorted_by(pattern)
        ids, seconds = await asyncio.to_thread(self.source.find_ids, self.collection, query, sort, PAGE)
        return {_key(one): 0 for one in ids}, seconds

    async def _dynamodb(self, given: Mapping[str, Any]) -> tuple[ModelAnswer, dict[bytes, int]]:
        answer = await self.reads.ask(self.name, given, PAGE)
        if self.counted is None:
            return answer, {_key(one["_id"]): 0 for one in answer.documents}
        began = time.perf_counter()
        counts: dict[bytes, int] = {}
        parts = [answer]
        name = self.counted.names[0]
        for one in answer.documents:
            part = await self.reads.count(self.counted.name, {name: one["_id"]})
            counts[_key(one["_id"])] = part.count
            parts.append(part)
        return _added(parts, answer.seconds + time.perf_counter() - began), counts

    def _differ(self, mongodb: Mapping[bytes, int], dynamodb: Mapping[bytes, int]) -> _Compared | None:
        """None if it cannot be told: the sample is not all there is, or the answer is longer than one page."""
        collections = [self.collection] + ([self.counted.mapping.collection] if self.counted else [])
        if len(mongodb) >= PAGE or not all(self.samples[one].complete for one in collections):
            return None
        refused = {_key(one) for one in self.samples[self.collection].refused}
        if self.counted is not None and self.samples[self.counted.mapping.collection].refused:
            return None
        wanted = {(one, number) for one, number in mongodb.items() if one not in refused}
        given = set(dynamodb.items())
        return _Compared(missing=len(wanted - given), more=len(given - wanted))

    def _told(
        self,
        by: str,
        mongodb: Sequence[float],
        answers: Sequence[ModelAnswer],
        compared: Sequence[_Compared | None],
        documents: Sequence[int] = (),
        failed: str = "",
    ) -> PatternProof:
        calls = max(len(answers), 1)
        return PatternProof(
            name=self.title,
            collection=self.collection,
            by=by,
            mongodb=latency(mongodb),
            dynamodb=latency([one.seconds for one in answers]),
            documents_mongodb=sum(documents) / calls,
            documents_dynamodb=sum(one.count for one in answers) / calls,
            items_read=sum(one.items_read for one in answers) / calls,
            pages=sum(one.requests for one in answers) / calls,
            units=sum(one.units for one in answers) / calls,
            units_told=sum(one.units_told for one in answers) / calls,
            same=sum(one is not None and one.equal for one in compared),
            different=sum(one is not None and not one.equal for one in compared),
            missing=sum(one.missing for one in compared if one is not None),
            more=sum(one.more for one in compared if one is not None),
            failed=failed,
        )


def _added(parts: Sequence[ModelAnswer], seconds: float) -> ModelAnswer:
    """Several answers as one; its documents are the first one's."""
    return replace(
        parts[0],
        seconds=seconds,
        requests=sum(one.requests for one in parts),
        items_read=sum(one.items_read for one in parts),
        units=sum(one.units for one in parts),
        units_told=sum(one.units_told for one in parts),
    )


def _key(id: Any) -> bytes:
    return bson.encode({"": id})


def _sorted_by(pattern: Pattern) -> list[tuple[str, int]]:
    places = [one for one in pattern.sk.parts if isinstance(one, Placeholder) and not one.integer]
    return [(one.source, -1 if one.descends else 1) for one in places]


# --- counts of related documents --------------------------------------------------------------------------------------


def counted_lists(
    source: AnalysisSource, reads: ModelReads, copy: Migration, samples: Mapping[str, SampledCollection]
) -> Iterator[tuple[Pattern, Pattern]]:
    """Lists of documents to each of which another pattern leads by their `_id`: users of a city, and the orders of each."""
    patterns = [found for one in copy.access_patterns if (found := _compiled(reads, one.name)) is not None]
    for listed in patterns:
        if listed.names_one or not listed.index or listed.plan.path:
            continue
        for counted in patterns:
            one, other = listed.mapping.collection, counted.mapping.collection
            databases = {copy.namespaces.place_of(name)[0] for name in (one, other)}
            # MongoDB looks up in the same database only.
            if one != other and len(databases) == 1 and _leads(source, counted, listed, samples):
                yield listed, counted


def _compiled(reads: ModelReads, name: str) -> Pattern | None:
    """None for one that cannot be asked: its own row says why."""
    try:
        return reads.pattern(name)
    except CallRefused:
        return None


def _leads(source: AnalysisSource, counted: Pattern, listed: Pattern, samples: Mapping[str, SampledCollection]) -> bool:
    """Whether the field that a pattern asks by holds ids of another collection: tried on values of the sample."""
    if counted.names_one or len(counted.parameters) != 1 or counted.plan.path or not counted.names:
        return False
    path = counted.parameters[0].path
    found = (at(one, path) for one in samples[counted.mapping.collection].documents)
    values = {_key(one): one for one in found if one is not None and not isinstance(one, list | Mapping)}
    tried = list(values.values())[:TRIED]
    return bool(tried) and source.found(listed.mapping.collection, "_id", tried) >= ENOUGH * len(tried)


def _related(listed: Pattern, counted: Pattern) -> Related:
    return Related(collection=counted.mapping.collection, path=counted.parameters[0].path, field="_id")
