"""The calls of one collection, in every mode. Written once, for synchronous and asynchronous applications.

While MongoDB leads, pymongo does the call, and what it returns or raises is what the application sees; DynamoDB is written
after it, and a failure there is counted, never raised: replication heals it. Once DynamoDB leads, it does the call, and the
results and exceptions are made to look the same.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from bson.objectid import ObjectId

from docferry.client.context import DYNAMODB, ClientContext, Sort, timed
from docferry.client.membership import WriteTicket
from docferry.client.writes.confirm import Confirmation
from docferry.client.writes.dual import DualWrites
from docferry.client.writes.leading import LeadingChange, LeadingWrites
from docferry.core.access.read_plan import shape_of
from docferry.core.cutover.modes import ModeState
from docferry.core.mapping.items import Document
from docferry.core.mql.filters import compile_filter
from docferry.core.mql.projection import project
from docferry.core.mql.updates import apply_update, check_replacement, upsert_document
from docferry.errors import CallRefused, InstanceStruck, WritesFenced
from docferry.ports.client import MongoResult

T = TypeVar("T")

FENCED_WAIT_S = 5.0
"""How long a fenced process waits to hear who leads now, or for the fence to be lifted behind the mode."""
MOST_PAUSE_S = 0.5
STEP_S = 0.01


class _Refused:
    """For how long MongoDB's fence has refused one write, under one epoch."""

    def __init__(self) -> None:
        self.epoch, self.since, self.pause_s = -1, 0.0, 0.0

    def goes_on(self, epoch: int) -> bool:
        """Whether it is tried again, `pause_s` from now."""
        now = time.monotonic()
        if epoch != self.epoch:
            self.epoch, self.since, self.pause_s = epoch, now, STEP_S
        self.pause_s = min(2 * self.pause_s, MOST_PAUSE_S)
        return now - self.since < FENCED_WAIT_S


class CollectionCalls:
    """The calls of one collection."""

    def __init__(self, parts: ClientContext, name: str) -> None:
        self._parts, self._name = parts, name
        self._members, self._mongo, self._metrics = parts.membership, parts.mongo, parts.metrics
        self._border = parts.border
        self._dual, self._leading = DualWrites(parts, name), LeadingWrites(parts, name)
        self._confirmation = Confirmation(parts)
        self._mapping = parts.mapping(name)

    def __repr__(self) -> str:
        return f"Calls({self._name!r})"

    # --- writes ------------------------------------------------------------------------------------------------------

    async def insert_one(self, document: Document, **options: Any) -> Any:
        self._refuse_sessions(options)
        sent = self._sent(document)

        async def mongo(state: ModeState) -> Any:
            result = await self._dual.run(state, "insert_one", sent, **options)
            await self._dual.put(state, result, sent)
            return result.value if sent is document else self._mongo.inserted([document["_id"]])

        async def dynamodb(state: ModeState) -> Any:
            await self._leading.insert(state, self._with_id(document))
            return self._mongo.inserted([document["_id"]])

        return await self._write("insert_one", mongo, dynamodb)

    async def insert_many(self, documents: Iterable[Document], ordered: bool = True, **options: Any) -> Any:
        self._refuse_sessions(options)
        documents = self._mongo.listed(documents)
        sent = [self._sent(one) for one in documents]

        async def mongo(state: ModeState) -> Any:
            before = self._mongo.seen_time()
            try:
                result = await self._dual.run(state, "insert_many", sent, ordered=ordered, **options)
            except Exception as error:
                left_out = self._mongo.not_inserted(error, len(sent), ordered)
                if left_out is not None:
                    kept = [one for index, one in enumerate(sent) if index not in left_out]
                    await self._dual.put_all(state, MongoResult(value=None, before=before), kept)
                raise
            await self._dual.put_all(state, result, sent)
            return result.value if self._border.open else self._inserted(documents)

        async def dynamodb(state: ModeState) -> Any:
            return await self._insert_to_dynamodb(state, documents, ordered)

        return await self._write("insert_many", mongo, dynamodb)

    async def _insert_to_dynamodb(self, state: ModeState, documents: Sequence[Document], ordered: bool) -> Any:
        """Nothing is written if DynamoDB cannot hold one of them."""
        stored = [self._with_id(one) for one in documents]
        for one in stored:
            self._leading.require_storable(one)
        failures: list[tuple[int, Exception]] = []
        for index, document in enumerate(stored):
            try:
                await self._leading.insert(state, document)
            except Exception as error:
                if not self._mongo.is_write_error(error):
                    raise
                failures.append((index, error))
                if ordered:
                    break
        if failures:
            done = failures[0][0] if ordered else len(documents) - len(failures)
            raise self._mongo.bulk_write_error(failures, documents, done)
        return self._inserted(documents)

    async def update_one(
        self, query: Mapping[str, Any], update: Mapping[str, Any], upsert: bool = False, **options: Any
    ) -> Any:
        self._refuse_sessions(options)
        query, update, options = self._change(query, update, options)

        async def mongo(state: ModeState) -> Any:
            return await self._dual.update(state, "update_one", query, update, upsert, options)

        async def dynamodb(state: ModeState) -> Any:
            self._mongo.require_update(update)
            self._refuse_options("update_one", options)
            now = _now()
            found = await self._leading.change(
                state,
                query,
                lambda document: apply_update(document, update, now=now),
                (lambda: upsert_document(query, update, now=now)) if upsert else None,
            )
            return self._update_result(found)

        return self._given(await self._write("update_one", mongo, dynamodb))

    async def replace_one(
        self, query: Mapping[str, Any], replacement: Mapping[str, Any], upsert: bool = False, **options: Any
    ) -> Any:
        self._refuse_sessions(options)
        query, replacement, options = self._change(query, replacement, options)

        async def mongo(state: ModeState) -> Any:
            return await self._dual.update(state, "replace_one", query, replacement, upsert, options)

        async def dynamodb(state: ModeState) -> Any:
            self._mongo.require_replacement(replacement)
            self._refuse_options("replace_one", options)
            found = await self._leading.change(
                state,
                query,
                lambda document: check_replacement(document, replacement),
                (lambda: _inserted_replacement(query, replacement)) if upsert else None,
            )
            return self._update_result(found)

        return self._given(await self._write("replace_one", mongo, dynamodb))

    async def delete_one(self, query: Mapping[str, Any], **options: Any) -> Any:
        self._refuse_sessions(options)
        query, _, options = self._change(query, None, options)

        async def mongo(state: ModeState) -> Any:
            if not state.write_to_dynamodb or self._mapping is None:
                return (await self._dual.run(state, "delete_one", query, **options)).value
            # It returns what it removed: the keys of the items that go.
            result = await self._dual.run(state, "find_one_and_delete", query, **options)
            if result.value is not None:
                await self._dual.bury(state, result, result.value)
            return self._mongo.deleted(int(result.value is not None))

        async def dynamodb(state: ModeState) -> Any:
            self._refuse_options("delete_one", options)
            removed = await self._leading.change(state, query, None, None)
            return self._mongo.deleted(int(removed.before is not None))

        return await self._write("delete_one", mongo, dynamodb)

    async def find_one_and_update(
        self,
        query: Mapping[str, Any],
        update: Mapping[str, Any],
        *,
        projection: Any = None,
        sort: Sort | None = None,
        upsert: bool = False,
        return_document: bool = False,
        **options: Any,
    ) -> Any:
        self._refuse_sessions(options)
        query, update, options = self._change(query, update, options)
        asked = {"projection": projection, "sort": sort, "upsert": upsert, "return_document": return_document}

        async def mongo(state: ModeState) -> Any:
            return await self._dual.find_and_update(state, query, update, asked | options)

        async def dynamodb(state: ModeState) -> Any:
            self._mongo.require_update(update)
            self._refuse_options("find_one_and_update", options)
            now = _now()
            found = await self._leading.change(
                state,
                query,
                lambda document: apply_update(document, update, now=now),
                (lambda: upsert_document(query, update, now=now)) if upsert else None,
                sort or (),
            )
            document = found.after if return_document else found.before
            return project(document, projection) if document is not None else None

        return self._border.to_application(await self._write("find_one_and_update", mongo, dynamodb))

    async def mongo_only(
        self, method: str, *arguments: Any, instead: str = "write the documents one by one", **options: Any
    ) -> Any:
        """A write that DynamoDB has no way of doing (update_many, delete_many): MongoDB's while that leads, and counted."""
        self._refuse_sessions(options)
        arguments = tuple(self._border.to_internal(one) for one in arguments)
        query = arguments[0] if arguments and isinstance(arguments[0], Mapping) else {}

        async def mongo(state: ModeState) -> Any:
            if state.write_to_dynamodb:
                self._members.tally.count_unserved(shape_of(self._name, method, query))
            return (await self._dual.run(state, method, *arguments, **options)).value

        async def dynamodb(state: ModeState) -> Any:
            raise CallRefused(
                what=f"{self._name}.{method} cannot be done while DynamoDB leads",
                suggestion=instead,
            )

        return await self._write(method, mongo, dynamodb)

    # --- how a write goes --------------------------------------------------------------------------------------------

    async def _write(
        self,
        method: str,
        mongo: Callable[[ModeState], Awaitable[T]],
        dynamodb: Callable[[ModeState], Awaitable[T]],
    ) -> T:
        """Carry out a write under the mode of now. What MongoDB's fence refused has not happened: it goes by the next mode, or,
        if MongoDB leads and the fence is on its way down, once more by this one."""
        refused = _Refused()
        while True:
            begun = await self._members.begin(self._parts.calls)
            try:
                with self._members.writing(begun) as state:
                    if state.mode.dynamodb_leads:
                        with timed(self._metrics, DYNAMODB, method):
                            return await dynamodb(state)
                    return await self._to_mongodb(begun, mongo)
            except InstanceStruck:
                continue  # it has not happened, and never will; this process registers anew, and by whichever mode that is
            except WritesFenced as fenced:
                if not refused.goes_on(begun.state.epoch):
                    raise (fenced.__cause__ or fenced) from None
                await self._await_another_epoch(begun, refused.pause_s)

    async def _to_mongodb(self, begun: WriteTicket, mongo: Callable[[ModeState], Awaitable[T]]) -> T:
        known = await self._confirmation.before(begun)
        try:
            result = await mongo(_alone(begun.state) if begun.alone else begun.state)
        except Exception as error:
            if self._mongo.not_inserted(error, 0, ordered=False) is not None:  # it tells what was written, too
                await self._confirmation.behind(begun, known)
            raise
        await self._confirmation.behind(begun, known)
        return result

    async def _await_another_epoch(self, begun: WriteTicket, for_s: float) -> None:
        for _ in range(max(1, int(for_s / STEP_S))):
            if self._members.state.epoch != begun.state.epoch:
                return
            await self._parts.calls.sleep(STEP_S)

    def _change(self, query: Any, change: Any, options: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
        """A filter, what is to be done, and pymongo's options, from the application. Raises TypeError for no filter."""
        self._mongo.require_filter(query)
        if options.get("array_filters") is not None:
            options = options | {"array_filters": self._border.to_internal(options["array_filters"])}
        return self._border.to_internal(query), self._border.to_internal(change), options

    def _sent(self, document: Document) -> Document:
        """What pymongo is given to insert."""
        return document if self._border.open else self._with_id(document)

    def _with_id(self, document: Document) -> Document:
        """What there is to insert, as BSON has it. The application's own document gets an `_id`, as pymongo gives it one."""
        self._mongo.require_document(document)
        if "_id" not in document:
            document["_id"] = ObjectId()
        return self._border.stored(document)

    def _inserted(self, documents: Sequence[Document]) -> Any:
        return self._mongo.inserted([one["_id"] for one in documents], many=True)

    def _refuse_sessions(self, options: dict[str, Any]) -> None:
        """None stands for no session. A transaction's writes cannot be told to DynamoDB one by one."""
        if options.pop("session", None) is not None:
            raise CallRefused(
                what="sessions and multi-document transactions are not supported by this client",
                suggestion="write one document at a time, or keep what belongs together in one document",
            )

    def _refuse_options(self, method: str, options: Mapping[str, Any]) -> None:
        if named := sorted(name for name, value in options.items() if value is not None and name != "comment"):
            raise CallRefused(
                what=f"{self._name}.{method} with {', '.join(named)} cannot be done while DynamoDB leads",
                suggestion="leave it out",
            )

    def _given(self, result: Any) -> Any:
        """An update's result to the application."""
        if self._border.open or result.upserted_id is None:
            return result
        return self._mongo.updated(
            matched=result.matched_count,
            modified=result.modified_count,
            upserted_id=self._border.value_to_application(result.upserted_id),
        )

    def _update_result(self, found: LeadingChange) -> Any:
        if found.before is None:
            upserted = found.after["_id"] if found.after is not None else None
            return self._mongo.updated(matched=0, modified=0, upserted_id=upserted)
        return self._mongo.updated(matched=1, modified=int(found.after is not found.before))


def _inserted_replacement(query: Mapping[str, Any], replacement: Mapping[str, Any]) -> Document:
    """What replace_one inserts where nothing matches: the query gives the `_id`, if anything does."""
    pinned = compile_filter(query).equalities
    known = {"_id": pinned["_id"]} if "_id" in pinned else {}
    return check_replacement(known, replacement)


def _now() -> datetime:
    """As MongoDB keeps it: UTC, milliseconds."""
    now = datetime.now(UTC).replace(tzinfo=None)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def _alone(state: ModeState) -> ModeState:
    """MongoDB alone: what a process does that cannot reach the ledger while MongoDB leads."""
    return ModeState(epoch=state.epoch)
