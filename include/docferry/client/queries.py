"""The reads of one collection, in every mode.

Reads never wait for a change of leader. While MongoDB leads they are MongoDB's, or, in DYNAMODB_READS, for a share of the keys
DynamoDB's, falling back to MongoDB for whatever DynamoDB does not have whole. What DynamoDB could not have answered is counted by
shape, so that it is known before the flip.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from docferry.client.parts import DYNAMODB, MONGO, Parts, Plan, Sort, timed
from docferry.client.shadow import Shadow
from docferry.core.access import shape_of
from docferry.core.mapping import Document
from docferry.core.mapping import Mapping as DocumentMapping
from docferry.core.modes import Mode, ModeState
from docferry.core.projection import project, sort_documents
from docferry.errors import CallRefused, MigrationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What is asked. `options` are pymongo's own, which only MongoDB understands."""

    filter: Mapping[str, Any] = field(repr=False)
    projection: Any = None
    sort: Sort = ()
    skip: int = 0
    limit: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    def for_mongo(self) -> dict[str, Any]:
        """As pymongo's find takes it."""
        asked = {"projection": self.projection, "sort": list(self.sort) or None, "skip": self.skip, "limit": self.limit}
        return asked | dict(self.options)


class Queries:
    """The reads of one collection."""

    def __init__(self, parts: Parts, name: str, shadow: Shadow) -> None:
        self._parts, self._name, self._shadow = parts, name, shadow
        self._metrics, self._mapping = parts.metrics, parts.mapping(name)

    def __repr__(self) -> str:
        return f"Queries({self._name!r})"

    async def find_one(self, query: Query) -> Document | None:
        async with aclosing(self.find(replace(query, limit=1), "find_one")) as found:
            return await anext(found, None)

    async def count(self, query: Query) -> int:
        """count_documents."""
        self._parts.membership.join()
        state = self._parts.membership.state
        if state.leader.dynamodb_leads:
            number = 0
            async for _ in self._from_dynamodb(query, self._served(query)):
                number += 1
            return number
        if state.write_to_dynamodb and self._plan(query) is None:
            self._parts.membership.count_unserved(shape_of(self._name, "count_documents", query.filter))
        options = {name: value for name, value in (("skip", query.skip), ("limit", query.limit)) if value}
        with timed(self._metrics, MONGO, "count_documents"):
            result = await self._parts.mongo.run(
                self._name, "count_documents", query.filter, **options, **query.options
            )
        return int(result.value)

    async def find(self, query: Query, method: str = "find") -> AsyncGenerator[Document]:
        """The documents, from where the mode says."""
        self._parts.membership.join()
        state = self._parts.membership.state
        if state.leader.dynamodb_leads:
            async for document in self._from_dynamodb(query, self._served(query), method):
                yield document
            return
        plan = self._plan(query) if state.leader is not Mode.MONGO_ONLY else None
        if plan is None:
            if state.leader is not Mode.MONGO_ONLY:
                self._parts.membership.count_unserved(shape_of(self._name, method, query.filter))
        elif state.leader is Mode.DYNAMODB_READS and state.chosen(plan.spread):
            found = await self._if_dynamodb_can(query, plan, method)
            if found is not None:
                for document in found:
                    yield document
                return
        async for document in self._from_mongo(query, method, self._compares(state, plan)):
            yield document

    # --- MongoDB -----------------------------------------------------------------------------------------------------

    def _compares(self, state: ModeState, plan: Plan | None) -> Plan | None:
        """The plan by which this read is compared with DynamoDB, if it is one of those that are."""
        return plan if plan is not None and state.validate_writes and state.chosen(plan.spread) else None

    async def _from_mongo(self, query: Query, method: str, compare: Plan | None) -> AsyncIterator[Document]:
        cursor = self._parts.mongo.find(self._name, query.filter, **query.for_mongo())
        try:
            with timed(self._metrics, MONGO, method):
                document = await cursor.fetch()
            if compare is not None:  # now: who wants one document, or some, never reads on to the end
                self._shadow.offer(self._name, query.filter, compare)
            while document is not None:
                yield document
                document = await cursor.fetch()
        finally:
            await cursor.close()

    # --- DynamoDB ----------------------------------------------------------------------------------------------------

    def _plan(self, query: Query) -> Plan | None:
        """None: DynamoDB cannot answer this."""
        try:
            return self._served(query)
        except CallRefused:
            return None

    def _served(self, query: Query) -> Plan:
        """Raises CallRefused."""
        if self._mapping is None:
            raise CallRefused(
                what=f"the migration file has no collection {self._name}",
                suggestion="add it to the file's collections",
            )
        unknown = sorted(name for name, value in query.options.items() if value is not None and name not in _HARMLESS)
        if unknown:
            raise CallRefused(what=f"DynamoDB knows no {', '.join(unknown)}", suggestion="leave it out")
        project({"_id": 0}, query.projection)
        return self._parts.plan(self._mapping, query.filter, query.sort)

    async def _if_dynamodb_can(self, query: Query, plan: Plan, method: str) -> list[Document] | None:
        """What DynamoDB has; None where MongoDB must be asked: nothing found, not whole, or no answer."""
        try:
            found = [document async for document in self._from_dynamodb(query, plan, method)]
        except MigrationError as error:
            self._metrics.count(f"read.fell_back.{type(error).__name__}")
            return None
        if not found:
            self._metrics.count("read.not_found")
            return None
        self._metrics.count("read.served")
        if self._mapping is not None:
            self._shadow.offer(self._name, query.filter, plan)
        return found

    async def _from_dynamodb(self, query: Query, plan: Plan, method: str = "find") -> AsyncIterator[Document]:
        assert self._mapping is not None
        with timed(self._metrics, DYNAMODB, method):
            found = await self._collect(self._mapping, query, plan)
        for document in found:
            yield project(document, query.projection)

    async def _collect(self, mapping: DocumentMapping, query: Query, plan: Plan) -> list[Document]:
        """All that match, in order; reading stops at the limit where DynamoDB gives the order that was asked for."""
        reader = self._parts.reader(mapping, beside=not self._parts.membership.state.leader.dynamodb_leads)
        in_order = not query.sort or (plan.where.query is not None and plan.where.query.sorted)
        enough = query.skip + query.limit if query.limit and in_order else None
        found: list[Document] = []
        async for place in reader.find(plan.where):
            document = reader.document(place)
            if document is not None and plan.filter.matches(document):
                found.append(document)
                if enough is not None and len(found) >= enough:
                    break
        if query.sort:
            found = sort_documents(found, query.sort)
        return found[query.skip : query.skip + query.limit if query.limit else None]


_HARMLESS = frozenset({"batch_size", "max_time_ms", "no_cursor_timeout", "comment", "allow_disk_use"})
"""What tells MongoDB how to work, not what to find."""
