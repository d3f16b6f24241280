"""The reads of one collection, in every mode.

Reads never wait for a change of leader. While MongoDB leads they are MongoDB's, or, in DYNAMODB_READS, for a share of the keys
DynamoDB's, falling back to MongoDB for whatever DynamoDB does not have whole. What DynamoDB could not have answered is counted by
shape, so that it is known before the flip.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from docferry.client.context import DYNAMODB, MONGO, ClientContext, Plan, Sort, timed
from docferry.client.reads.read_share import ReadShare
from docferry.client.reads.shadow import Shadow
from docferry.core.access.read_plan import shape_of
from docferry.core.cutover.modes import Mode
from docferry.core.mapping.items import Document
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.mql.projection import project, sort_documents
from docferry.errors import CallRefused, MigrationError
from docferry.ports.client import MongoCursor


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

    def __init__(self, parts: ClientContext, name: str, shadow: Shadow) -> None:
        self._parts, self._name, self._shadow = parts, name, shadow
        self._metrics, self._mapping, self._border = parts.metrics, parts.mapping(name), parts.border
        self._read_share = ReadShare(self._mapping) if self._mapping is not None else None

    def __repr__(self) -> str:
        return f"Queries({self._name!r})"

    async def find_one(self, query: Query) -> Document | None:
        """`query` has a limit of 1."""
        query = self._taken(query)
        found, compare = await self._ask_dynamodb(query, "find_one")
        if found is not None:
            return self._border.to_application(found[0]) if found else None
        cursor = self._parts.mongo.find(self._name, query.filter, **query.for_mongo())
        try:
            return self._border.to_application(await self._first(cursor, query, "find_one", compare))
        finally:
            await cursor.close()

    async def find(self, query: Query, method: str = "find") -> AsyncGenerator[Document]:
        """The documents, from where the mode says."""
        query = self._taken(query)
        found, compare = await self._ask_dynamodb(query, method)
        if found is not None:
            for document in found:
                yield self._border.to_application(document)
            return
        cursor = self._parts.mongo.find(self._name, query.filter, **query.for_mongo())
        try:
            one = await self._first(cursor, query, method, compare)
            while one is not None:
                yield self._border.to_application(one)
                one = await cursor.fetch()
        finally:
            await cursor.close()

    async def count(self, query: Query) -> int:
        """count_documents."""
        query = self._taken(query)
        self._parts.membership.join()
        state = self._parts.membership.state
        if state.leader.dynamodb_leads:
            return len(await self._from_dynamodb(query, self._served(query), "find"))
        if state.write_to_dynamodb and self._share_key(query) is None:
            self._parts.membership.tally.count_unserved(
                shape_of(self._name, "count_documents", query.filter, _unknown(query))
            )
        options = {name: value for name, value in (("skip", query.skip), ("limit", query.limit)) if value}
        with timed(self._metrics, MONGO, "count_documents"):
            result = await self._parts.mongo.run(
                self._name, "count_documents", query.filter, heard=False, **options, **query.options
            )
        return int(result.value)

    async def mongo_only(self, method: str, **options: Any) -> Any:
        """A read that DynamoDB has no way of doing (estimated_document_count): MongoDB's while that leads, and counted."""
        self._parts.membership.join()
        state = self._parts.membership.state
        if state.leader.dynamodb_leads:
            raise CallRefused(
                what=f"{self._name}.{method} cannot be done while DynamoDB leads",
                suggestion="keep a counter of your own, or ask DynamoDB's DescribeTable",
            )
        if state.write_to_dynamodb:
            self._parts.membership.tally.count_unserved(shape_of(self._name, method, {}))
        with timed(self._metrics, MONGO, method):
            return (await self._parts.mongo.run(self._name, method, heard=False, **options)).value

    def _taken(self, query: Query) -> Query:
        return query if self._border.open else replace(query, filter=self._border.to_internal(query.filter))

    # --- MongoDB -----------------------------------------------------------------------------------------------------

    async def _first(self, cursor: MongoCursor, query: Query, method: str, compare: bool) -> Document | None:
        """The first document. The read is compared from here on: who wants some documents never reads to the end."""
        with timed(self._metrics, MONGO, method):
            document = await cursor.fetch()
        if compare:
            self._shadow.offer(self._name, query.filter)
        return document

    # --- DynamoDB ----------------------------------------------------------------------------------------------------

    async def _ask_dynamodb(self, query: Query, method: str) -> tuple[list[Document] | None, bool]:
        """What DynamoDB says, if it is to answer. None: MongoDB answers; and whether that is compared."""
        members = self._parts.membership
        members.join()
        state = members.state
        leader = state.leader
        if leader is Mode.MONGO_ONLY:
            return None, False
        if leader.dynamodb_leads:
            return await self._from_dynamodb(query, self._served(query), method), False
        share_key = self._share_key(query)
        if share_key is None:
            members.tally.count_unserved(shape_of(self._name, method, query.filter, _unknown(query)))
        elif state.chosen(share_key):
            if leader is Mode.DUAL_WRITE:
                return None, True
            return await self._if_dynamodb_can(query, self._served(query), method), False
        return None, False

    def _share_key(self, query: Query) -> str | None:
        """By what this read belongs to a share; None: DynamoDB cannot answer it."""
        if self._read_share is None or query.options or query.sort or query.projection is not None:
            plan = self._plan(query)
            return plan.share_key if plan is not None else None
        return self._read_share.of(query.filter, lambda: self._plan(query))

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
        if unknown := _unknown(query):
            raise CallRefused(what=f"DynamoDB knows no {', '.join(unknown)}", suggestion="leave it out")
        project({"_id": 0}, query.projection)
        return self._parts.plan(self._mapping, query.filter, query.sort)

    async def _if_dynamodb_can(self, query: Query, plan: Plan, method: str) -> list[Document] | None:
        """What DynamoDB has; None where MongoDB must be asked: nothing found, not whole, or no answer."""
        try:
            found = await self._from_dynamodb(query, plan, method)
        except MigrationError as error:
            self._metrics.count(f"read.fell_back.{type(error).__name__}")
            return None
        if not found:
            self._metrics.count("read.not_found")
            return None
        self._metrics.count("read.served")
        self._shadow.offer(self._name, query.filter)
        return found

    async def _from_dynamodb(self, query: Query, plan: Plan, method: str) -> list[Document]:
        assert self._mapping is not None
        with timed(self._metrics, DYNAMODB, method):
            found = await self._collect(self._mapping, query, plan)
        return [project(document, query.projection) for document in found]

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


def _unknown(query: Query) -> list[str]:
    """Options that say what to find, and that DynamoDB knows nothing of."""
    return sorted(name for name, value in query.options.items() if value is not None and name not in _HARMLESS)


_HARMLESS = frozenset({"batch_size", "max_time_ms", "no_cursor_timeout", "comment", "allow_disk_use"})
"""What tells MongoDB how to work, not what to find."""
