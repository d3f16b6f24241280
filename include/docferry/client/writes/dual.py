"""Writes of one collection while MongoDB leads: pymongo's first, and then DynamoDB's, as far as what was written is known."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from bson.timestamp import Timestamp

from docferry.client.context import DYNAMODB, MONGO, ClientContext, timed
from docferry.client.items.putter import PutOutcome, Putter
from docferry.client.writes.letters import ComingLetters
from docferry.core.cutover.modes import ModeState
from docferry.core.mapping.items import Document
from docferry.core.mql.values import as_bson, empty_timestamp
from docferry.core.versions import snapshot_version, version_of
from docferry.errors import DocumentError, MigrationError, OutsideFilter
from docferry.ports.client import MongoResult

_CHOOSE = ("sort", "collation", "hint", "let", "comment")
"""pymongo's options of an update that a find takes, too: they choose the document, or tell who asks."""


class DualWrites:
    """Writes of one collection to MongoDB, and beside it to DynamoDB where the mode says so."""

    def __init__(self, parts: ClientContext, name: str) -> None:
        self._parts, self._name = parts, name
        self._mongo, self._metrics = parts.mongo, parts.metrics
        self._mapping = parts.mapping(name)
        self._letters = ComingLetters(parts, name)

    def __repr__(self) -> str:
        return f"DualWrites({self._name!r})"

    def follows(self, state: ModeState) -> bool:
        """Whether DynamoDB is written after MongoDB. Not after what no majority acknowledges: a failover may take that back."""
        return state.write_to_dynamodb and self._mapping is not None and self._mongo.majority

    async def run(self, state: ModeState, method: str, *arguments: Any, **options: Any) -> MongoResult:
        """One method of pymongo's collection. What MongoDB says of it is heard where a dual put may follow."""
        heard = self.follows(state)
        if state.write_to_dynamodb and not heard:
            self._metrics.count("dual_put.left")
        with timed(self._metrics, MONGO, method):
            return await self._mongo.run(self._name, method, *arguments, heard=heard, **options)

    async def update(
        self,
        state: ModeState,
        method: str,
        query: Mapping[str, Any],
        change: Mapping[str, Any],
        upsert: bool,
        options: Mapping[str, Any],
    ) -> Any:
        """The update, and then the document as it was at that very time: what DynamoDB gets is what the write made."""
        if not self.follows(state):
            result = await self.run(state, method, query, change, upsert=upsert, **options)
            if upsert and result.value.upserted_id is not None:
                self._letters.tell_upserted(query, change, options)
            return result.value
        one, document_id = await self._pin(query, options)
        pinned = one is not query
        result = await self.run(state, method, one, change, upsert=upsert and not pinned, **options)
        if pinned and result.value.matched_count == 0:
            # It matched a moment ago; now another document may, or none: only the query itself may insert.
            result = await self.run(state, method, query, change, upsert=upsert, **options)
            document_id = None
        if result.value.upserted_id is not None:
            document_id = result.value.upserted_id
        if document_id is not None:
            await self._put_as_of(state, result, document_id)
        else:
            self._metrics.count("dual_put.unknown" if result.value.modified_count else "dual_put.nothing")
        return result.value

    async def find_and_update(
        self, state: ModeState, query: Mapping[str, Any], update: Mapping[str, Any], options: Mapping[str, Any]
    ) -> Any:
        if not self.follows(state):
            found = (await self.run(state, "find_one_and_update", query, update, **options)).value
            self._letters.tell_of("find_one_and_update", {"filter": query, "update": update, **options}, found)
            return found
        one, document_id = await self._pin(query, options)
        pinned = one is not query
        asked = {**options, "upsert": False} if pinned else options
        result = await self.run(state, "find_one_and_update", one, update, **asked)
        if pinned and result.value is None:
            result = await self.run(state, "find_one_and_update", query, update, **options)
            document_id = None
        if document_id is None and isinstance(result.value, dict):
            document_id = result.value.get("_id")
        if document_id is not None and result.replies:
            await self._put_as_of(state, result, document_id)
        else:
            self._letters.tell_of("find_one_and_update", {"filter": query, "update": update, **options}, result.value)
        return result.value

    async def _pin(self, query: Mapping[str, Any], options: Mapping[str, Any]) -> tuple[Mapping[str, Any], Any]:
        """The query, narrowed to one document that it matches, and that document's id; None if it matches none.

        Why: an update does not say which document it changed. A narrowed query must never insert: it would make a document of
        this id, which others may just have deleted.
        """
        fixed = query.get("_id")
        if fixed is not None and not isinstance(fixed, dict):
            return query, fixed
        known = {name: options[name] for name in _CHOOSE if options.get(name) is not None}
        try:
            with timed(self._metrics, MONGO, "find_one"):
                found = await self._mongo.run(self._name, "find_one", query, {"_id": 1}, **known)
        except Exception as error:
            if not self._mongo.is_driver_error(error):
                raise
            return query, None  # the update itself says what is wrong, if anything is
        if found.value is None:
            return query, None
        document_id = found.value["_id"]
        return {"$and": [query, {"_id": {"$eq": document_id}}]}, document_id

    async def _put_as_of(self, state: ModeState, result: MongoResult, document_id: Any) -> None:
        """A dual put of the document as it was at the time of the reply.

        If the reply proves one change, that is the change's own time, and a snapshot there shows what the change made. Else
        (findAndModify cannot tell a no-op) the version is that of a time before the first attempt: replication wins.
        """
        if len(result.replies) != 1 or result.replies[0].retried:
            self._metrics.count("dual_put.unproved")
            return
        own = result.proved
        version = version_of(own, 0) if own else snapshot_version(result.before) if result.before else None
        if version is None or (own is None and self._is_no_op(result)):
            self._metrics.count("dual_put.nothing")
            return
        await self._dual(lambda putter: self._put_snapshot(putter, document_id, result.replies[0].time, version))

    @staticmethod
    def _is_no_op(result: MongoResult) -> bool:
        """An update that says that it modified nothing."""
        return getattr(result.value, "modified_count", None) == 0

    async def _put_snapshot(self, putter: Putter, document_id: Any, time: Timestamp, version: int) -> PutOutcome:
        with timed(self._metrics, MONGO, "read_at"):
            document = await self._mongo.read_at(self._name, document_id, time)
        return await putter.put_newer(document, version) if document is not None else PutOutcome.NOTHING

    async def put(self, state: ModeState, result: MongoResult, document: Document, *, alone: bool = True) -> None:
        """A dual put of what was sent, if that is what MongoDB has stored."""
        if not self.follows(state):
            self._letters.tell(lambda: document)
            return
        own = result.proved if alone else None
        version = version_of(own, 0) if own else snapshot_version(result.before) if result.before else None
        stored = as_bson(document)
        if version is None or empty_timestamp(stored) is not None:
            self._metrics.count("dual_put.unproved")
            return
        await self._dual(lambda putter: putter.put_newer(stored, version))

    async def put_all(self, state: ModeState, result: MongoResult, documents: Sequence[Document]) -> None:
        """Of several, none is proved to have been written at the time of the reply."""
        for document in documents:
            await self.put(state, result, document, alone=len(documents) == 1)

    async def bury(self, state: ModeState, result: MongoResult, document: Document) -> None:
        own = result.proved
        if self._is_outside(document):
            self._metrics.count(f"outside_filter.{self._name}")
            return
        if own is None:
            self._metrics.count("dual_put.unproved")
            return
        await self._dual(lambda putter: putter.bury_newer(document, version_of(own, 0)))

    def _is_outside(self, document: Document) -> bool:
        """Whether it is MongoDB's alone. What cannot be told is not: replication tells of it."""
        part = self._mapping.filter if self._mapping is not None else None
        try:
            return part is not None and not part.holds(document)
        except DocumentError:
            return False

    async def _dual(self, put: Callable[[Putter], Awaitable[PutOutcome]]) -> None:
        """A failed dual put does not fail the call: it is counted, and replication writes it (docs/architecture.md, "Modes")."""
        assert self._mapping is not None
        try:
            with timed(self._metrics, DYNAMODB, "put"):
                outcome = await put(self._parts.putter(self._mapping, beside=True))
        except OutsideFilter:
            self._metrics.count(f"outside_filter.{self._name}")
            return
        except MigrationError as error:
            self._letters.tell_failed(error)
            self._metrics.count(f"dual_put.failed.{type(error).__name__}")
            return
        except Exception as error:
            if not self._mongo.is_driver_error(error):
                raise
            self._metrics.count(f"dual_put.failed.{type(error).__name__}")
            return
        self._metrics.count(f"dual_put.{outcome}")
