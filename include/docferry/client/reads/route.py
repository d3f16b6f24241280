"""The reads of one collection, in every mode.

Reads never wait for a change of leader. While MongoDB leads they are MongoDB's, or, in DYNAMODB_READS, for a share of the keys
DynamoDB's, falling back to MongoDB for whatever DynamoDB does not have whole. What DynamoDB could not have answered is counted by
shape, so that it is known before the flip.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bson.objectid import ObjectId

from docferry.client.context import DYNAMODB, MONGO, ClientContext, Plan, Sort, now, timed
from docferry.client.reads.read_share import MOST_SHAPES, ReadShare, Shape, deciding_fields, plain_shape
from docferry.client.reads.shadow import Shadow
from docferry.client.transport.spending import spending
from docferry.core.access.calls import BEYOND_FILTER, unknown_options, unmapped
from docferry.core.access.index_calls import Kept
from docferry.core.access.read_plan import IndexQuery, most_read_units, shape_of, spent_shape
from docferry.core.bson_codec.order import ABSENT, equality_key, order_key
from docferry.core.cutover.modes import Mode, ModeState
from docferry.core.mapping.items import Document
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.mql.expressions import variables_of
from docferry.core.mql.projection import project, sort_documents
from docferry.core.mql.values import values_at
from docferry.errors import CallRefused, ExpressionRefused, MigrationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What is asked. `options` are pymongo's own, which only MongoDB understands."""

    filter: Mapping[str, Any] = field(repr=False)
    projection: Any = None
    sort: Sort = ()
    skip: int = 0
    limit: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def session(self) -> Any:
        """pymongo's; None for none."""
        return self.options.get("session")


@dataclass(frozen=True, slots=True)
class Answered:
    """All documents, of DynamoDB; or the first of MongoDB's, None if it has none."""

    all: list[Document] | None = field(repr=False)
    first: Any = field(repr=False)


class Queries:
    """The reads of one collection."""

    def __init__(self, parts: ClientContext, name: str, shadow: Shadow) -> None:
        self._parts, self._name, self._shadow = parts, name, shadow
        self._metrics, self._mapping, self._border = parts.metrics, parts.mapping(name), parts.border
        self._read_share = ReadShare(self._mapping) if self._mapping is not None else None
        self._decide = deciding_fields(self._mapping) if self._mapping is not None else frozenset()
        self._unserved: dict[tuple[str, Shape], str] = {}

    def __repr__(self) -> str:
        return f"Queries({self._name!r})"

    @property
    def raw(self) -> Any:
        """pymongo's own collection."""
        return self._parts.mongo.raw(self._name)

    @property
    def may_scan(self) -> bool:
        """Whether the file allows scans of this collection."""
        return self._mapping is not None and most_read_units(self._mapping) > 0

    @property
    def kept(self) -> Kept | None:
        """What DynamoDB keeps unique of this collection; None: it is not migrated."""
        if self._mapping is None:
            return None
        waived = [one.partition(".") for one in self._parts.waived_unique]
        return Kept(
            key=frozenset(self._mapping.key_fields.root),
            guards=self._mapping.settings.unique,
            waived=frozenset(frozenset(fields.split(",")) for name, _, fields in waived if name == self._name),
        )

    def is_mongodbs(self) -> bool:
        """Whether no read is asked of DynamoDB, nor compared: then nothing has to be known of it."""
        return self._parts.membership.follow().leader is Mode.MONGO_ONLY and not self._parts.strict

    def closed(self) -> Exception:
        return self._parts.mongo.invalid_operation("cannot set options after executing query")

    async def first(self, query: Query, call: Callable[[], Awaitable[Any]], method: str = "find") -> Answered:
        """Ask for the first document: DynamoDB, for all there are, or MongoDB, by `call`."""
        query = self._taken(query)
        found, compare = await self._ask_dynamodb(query, method)
        if found is not None:
            return Answered([self._border.to_application(one) for one in found], None)
        with timed(self._metrics, MONGO, method):
            document = await call()
        if compare:  # from here on: who wants some documents never reads to the end
            self._offer(query)
        return Answered(None, document)

    def _offer(self, query: Query) -> None:
        """To be compared, unless its filter has variables, which are not told."""
        if query.options.get("let") is None:
            self._shadow.offer(self._name, query.filter)

    def fetch(self, raw: Any) -> Coroutine[Any, Any, Any]:
        """The next document of pymongo's cursor; None at the end."""
        return self._parts.mongo.fetch(raw)

    def one(self, filter: Any, arguments: Sequence[Any], options: Mapping[str, Any]) -> Coroutine[Any, Any, Any]:
        """By pymongo's find_one."""
        return self._parts.mongo.answer(self.raw.find_one, filter, *arguments, **options)

    async def rest(self, raw: Any, length: int | None) -> list[Document]:
        """What is left of pymongo's cursor, or so many documents of it."""
        found: list[Document] = await self._parts.mongo.answer(raw.to_list, length)
        return found

    async def alone(self, method: str, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """A read of MongoDB's, which DynamoDB has nothing to do with."""
        with timed(self._metrics, MONGO, method):
            return await self._parts.mongo.answer(call, *arguments, **options)

    async def count(self, query: Query, call: Callable[[], Any]) -> int:
        """count_documents; by `call`, of MongoDB."""
        query = self._taken(query)
        state = self._parts.membership.follow()
        if state.leader.dynamodb_leads:
            return await self.counted(query)
        self.note(state, query, "count_documents")
        return int(await self.alone("count_documents", call))

    async def counted(self, query: Query) -> int:
        """How many documents match, of DynamoDB."""
        plan = self._served(query)
        whole = self._whole_partition(query, plan)
        with self._spending("count_documents", query, plan):
            if whole is None:
                return len(await self._from_dynamodb(query, plan, "find"))
            assert self._mapping is not None
            with timed(self._metrics, DYNAMODB, "find"):
                found = await self._parts.reader(self._mapping).count(whole)
        return max(0, min(found - query.skip, query.limit or found))

    def _spending(self, method: str, query: Query, plan: Plan) -> spending:
        def shape(way: str) -> str:
            return spent_shape(self._name, method, query.filter, way)

        return spending(self._parts.membership.tally, shape, plan.where.by)

    def _whole_partition(self, query: Query, plan: Plan) -> IndexQuery | None:
        """The partition of the table that holds what matches, and nothing else: DynamoDB can count it. An index lags, so what it
        names is looked at; so is what a transaction sees."""
        where = plan.where.query
        if where is None or where.index or query.session is not None or self._mapping is None:
            return None
        plain = all(isinstance(one, str | int | ObjectId) and one != "" for one in query.filter.values())
        pinned = set(query.filter) == set(self._mapping.root.pk.fields)
        return where if plain and pinned and where.low is None and where.high is None else None

    async def distinct(self, key: str, query: Query) -> list[Any]:
        """Of DynamoDB: each value at a path, an array's elements for the array; in order, as MongoDB gives them."""
        query = self._taken(query)
        found: dict[Any, Any] = {}
        path = tuple(key.split("."))
        key_of = order_key if self._mapping is not None and self._mapping.keeps_order else equality_key
        plan = self._served(query)
        with self._spending(f"distinct {key}"[:60], query, plan):
            documents = await self._from_dynamodb(query, plan, "distinct")
        for document in documents:
            for value in values_at(document, path, False):
                for one in value if isinstance(value, list) else [value]:
                    if one is not ABSENT:
                        found.setdefault(key_of(one), one)
        return [self._border.value_to_application(one) for one in sorted(found.values(), key=order_key)]

    def note(self, state: ModeState, query: Query, method: str) -> None:
        """Count a read that MongoDB is about to answer, if DynamoDB could not. Raises: CallRefused, of a strict client."""
        if self._parts.strict:
            self._served(query)
        if state.write_to_dynamodb and self._share_key(query) is None:
            self._parts.membership.tally.count_unserved(shape_of(self._name, method, query.filter, self._needs(query)))

    def note_by_shape(self, state: ModeState, filter: Any, method: str, query: Callable[[], Query]) -> None:
        """As `note`, of what is asked by a filter and nothing else: found out once for filters of one shape."""
        shape = plain_shape(filter, self._decide) if type(filter) is dict and not self._parts.strict else None
        if shape is None:
            self.note(state, query(), method)
            return
        unserved = self._unserved.get((method, shape))
        if unserved is None:
            asked = query()
            served = self._share_key(asked) is not None
            unserved = "" if served else shape_of(self._name, method, asked.filter, self._needs(asked))
            if len(self._unserved) < MOST_SHAPES:
                self._unserved[method, shape] = unserved
        if unserved:
            self._parts.membership.tally.count_unserved(unserved)

    def _taken(self, query: Query) -> Query:
        return query if self._border.open else replace(query, filter=self._border.to_internal(query.filter))

    # --- DynamoDB ----------------------------------------------------------------------------------------------------

    async def _ask_dynamodb(self, query: Query, method: str) -> tuple[list[Document] | None, bool]:
        """What DynamoDB says, if it is to answer. None: MongoDB answers; and whether that is compared."""
        members = self._parts.membership
        state = members.follow()
        leader = state.leader
        if self._parts.strict and not leader.dynamodb_leads:
            self._served(query)
        if leader is Mode.MONGO_ONLY:
            return None, False
        if leader.dynamodb_leads:
            return await self._from_dynamodb(query, self._served(query), method), False
        if query.session is not None:  # what a session of MongoDB's sees, MongoDB knows
            self.note(state, query, method)
            return None, False
        share_key = self._share_key(query)
        if share_key is None:
            members.tally.count_unserved(shape_of(self._name, method, query.filter, self._needs(query)))
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
        """None: DynamoDB cannot answer this, or not all of it."""
        try:
            plan = self._served(query)
        except CallRefused:
            return None
        return None if plan.partial else plan

    def _needs(self, query: Query) -> list[str]:
        """What keeps DynamoDB from answering, if it is not the want of a key."""
        if self._mapping is None or self._mapping.filter is None:
            return _unknown(query)
        try:
            return [BEYOND_FILTER] if self._served(query).partial else []
        except CallRefused:
            return _unknown(query)

    def _served(self, query: Query) -> Plan:
        """Raises CallRefused."""
        if self._mapping is None:
            raise unmapped(self._name)
        if unknown := _unknown(query):
            raise unknown_options(unknown)
        project({"_id": 0}, query.projection)
        try:
            variables = variables_of(self._border.to_internal(query.options.get("let")), now=now())
        except ExpressionRefused as error:
            raise self._parts.evaluation_refused(error) from error
        return self._parts.within(query.session).plan(self._mapping, query.filter, query.sort, variables)

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
        self._offer(query)
        return found

    async def _from_dynamodb(self, query: Query, plan: Plan, method: str) -> list[Document]:
        assert self._mapping is not None
        if query.options.get("hint") is not None:
            self._metrics.count("hint.passed_over")
        with self._spending(method, query, plan), timed(self._metrics, DYNAMODB, method):
            try:
                found = await self._collect(self._mapping, query, plan)
            except ExpressionRefused as error:
                raise self._parts.evaluation_refused(error) from error
        return [project(document, query.projection) for document in found]

    async def _collect(self, mapping: DocumentMapping, query: Query, plan: Plan) -> list[Document]:
        """All that match, in order; reading stops at the limit where DynamoDB gives the order that was asked for."""
        reader = self._parts.within(query.session).reader(
            mapping, beside=not self._parts.membership.state.leader.dynamodb_leads
        )
        in_order = not query.sort or (plan.where.query is not None and plan.where.query.sorted)
        enough = query.skip + query.limit if query.limit and in_order else None
        found: list[Document] = []
        async for place in reader.find(plan.where, whole=enough is None):
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


_HARMLESS = frozenset({
    "batch_size", "max_time_ms", "maxTimeMS", "max_await_time_ms", "no_cursor_timeout", "comment", "allow_disk_use",
    "allow_partial_results", "oplog_replay", "session", "hint", "let",
})  # fmt: skip
"""What tells MongoDB how to work, and what is served."""
