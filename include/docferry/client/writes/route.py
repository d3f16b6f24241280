"""The calls of one collection, in every mode. Written once, for synchronous and asynchronous applications.

While MongoDB leads, pymongo does the call, and what it returns or raises is what the application sees; DynamoDB is written
after it, and a failure there is counted, never raised: replication heals it. Once DynamoDB leads, it does the call, and the
results and exceptions are made to look the same.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from bson.objectid import ObjectId

from docferry.client.context import ClientContext, Sort, now, sort_of
from docferry.client.transport.spending import spending
from docferry.client.writes.coming import ComingWrites
from docferry.client.writes.delegated import DelegatedCalls, Later
from docferry.client.writes.dual import DualWrites
from docferry.client.writes.gate import WriteGate
from docferry.client.writes.leading import LeadingChange, LeadingWrites, updating
from docferry.client.writes.letters import ComingLetters
from docferry.client.writes.many import ManyCalls
from docferry.client.writes.transactions import Transactions
from docferry.client.writes.within import within
from docferry.core.access.calls import Call
from docferry.core.access.read_plan import spent_shape
from docferry.core.cutover.modes import ModeState
from docferry.core.mapping.items import Document
from docferry.core.mql.expressions import variables_of
from docferry.core.mql.projection import project
from docferry.core.mql.updates import replaced, replacement_upserted
from docferry.ports.client import MongoResult

T = TypeVar("T")

_WRITES = Call("", writes=True)
_OF_THE_CALL = frozenset({"projection", "sort", "upsert", "return_document"})


class CollectionCalls:
    """The calls of one collection."""

    def __init__(self, parts: ClientContext, name: str, delegated: DelegatedCalls | None = None) -> None:
        self._parts, self._name, self._mongo, self._border = parts, name, parts.mongo, parts.border
        if delegated is None:
            gate = WriteGate(parts)
            delegated = DelegatedCalls(parts, gate, Transactions(parts, gate))
        self._delegated, self._gate = delegated, delegated.gate
        self._dual, self._leading, self._coming = (
            DualWrites(parts, name),
            LeadingWrites(parts, name),
            ComingWrites(parts, name),
        )
        self._mapping = parts.mapping(name)
        self._letters = ComingLetters(parts, name)
        self.many = ManyCalls(parts, name, delegated, self._leading, self._coming, self._with_id)

    def __repr__(self) -> str:
        return f"Calls({self._name!r})"

    # --- writes ------------------------------------------------------------------------------------------------------

    async def insert_one(self, document: Document, **options: Any) -> Any:
        if self._has_session(options):
            return await self._in_session("insert_one", (document,), options)
        self._coming.require_storable(partial(self._require_storable, document))
        sent = self._sent(document)

        async def mongo(state: ModeState) -> Any:
            result = await self._dual.run(state, "insert_one", sent, **options)
            await self._dual.put(state, result, sent)
            own = sent is document or not result.value.acknowledged
            return result.value if own else self._mongo.inserted([document["_id"]])

        async def dynamodb(state: ModeState) -> Any:
            await self._leading.insert(state, self._with_id(document))
            return self._mongo.inserted([document["_id"]])

        return await self._write("insert_one", {}, mongo, dynamodb)

    async def insert_many(self, documents: Iterable[Document], ordered: bool = True, **options: Any) -> Any:
        if self._has_session(options):
            return await self._in_session("insert_many", (documents, ordered), options)
        documents = self._mongo.listed(documents)
        for one in documents:
            self._coming.require_storable(partial(self._require_storable, one))
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
            own = self._border.open or not result.value.acknowledged
            return result.value if own else self._inserted(documents)

        async def dynamodb(state: ModeState) -> Any:
            return await self._insert_to_dynamodb(state, documents, ordered)

        return await self._write("insert_many", {}, mongo, dynamodb)

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
        if self._has_session(options):
            return await self._in_session("update_one", (query, update, upsert), options)
        query, update, options = self._change(query, update, options)

        async def mongo(state: ModeState) -> Any:
            self._coming.note(state, "update_one", query, update, options)
            return await self._dual.update(state, "update_one", query, update, upsert, options)

        async def dynamodb(state: ModeState) -> Any:
            self._mongo.require_update(update)
            self._coming.take("update_one", update, options)
            asked, sort = (
                updating(query, update, options, ordered=self._leading.keeps_order),
                sort_of(options.get("sort")),
            )
            known, otherwise = variables_of(options.get("let"), now=asked.now), asked.inserted if upsert else None
            found = await self._leading.change(state, query, asked.apply, otherwise, sort, known)
            return self._update_result(found)

        return self._given(await self._write("update_one", query, mongo, dynamodb))

    async def replace_one(
        self, query: Mapping[str, Any], replacement: Mapping[str, Any], upsert: bool = False, **options: Any
    ) -> Any:
        if self._has_session(options):
            return await self._in_session("replace_one", (query, replacement, upsert), options)
        query, replacement, options = self._change(query, replacement, options)

        async def mongo(state: ModeState) -> Any:
            self._coming.note(state, "replace_one", query, None, options)
            return await self._dual.update(state, "replace_one", query, replacement, upsert, options)

        async def dynamodb(state: ModeState) -> Any:
            self._mongo.require_replacement(replacement)
            self._coming.take("replace_one", None, options)
            found = await self._leading.change(
                state,
                query,
                lambda document: replaced(document, replacement),
                (lambda: replacement_upserted(query, replacement)) if upsert else None,
                sort_of(options.get("sort")),
                variables_of(options.get("let"), now=now()),
            )
            return self._update_result(found)

        return self._given(await self._write("replace_one", query, mongo, dynamodb))

    async def delete_one(self, query: Mapping[str, Any], **options: Any) -> Any:
        if self._has_session(options):
            return await self._in_session("delete_one", (query,), options)
        query, _, options = self._change(query, None, options)

        async def mongo(state: ModeState) -> Any:
            self._coming.note(state, "delete_one", query, None, options)
            if not self._dual.follows(state):
                return (await self._dual.run(state, "delete_one", query, **options)).value
            # It returns what it removed: the keys of the items that go.
            result = await self._dual.run(state, "find_one_and_delete", query, **options)
            if result.value is not None:
                await self._dual.bury(state, result, result.value)
            return self._mongo.deleted(int(result.value is not None))

        async def dynamodb(state: ModeState) -> Any:
            self._coming.take("delete_one", None, options)
            known = variables_of(options.get("let"), now=now())
            removed = await self._leading.change(state, query, None, None, known=known)
            return self._mongo.deleted(int(removed.before is not None))

        return await self._write("delete_one", query, mongo, dynamodb)

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
        asked = {"projection": projection, "sort": sort, "upsert": upsert, "return_document": return_document}
        if self._has_session(options):
            return await self._in_session("find_one_and_update", (query, update), asked | options)
        query, update, options = self._change(query, update, options)

        async def mongo(state: ModeState) -> Any:
            self._coming.note(state, "find_one_and_update", query, update, options)
            return await self._dual.find_and_update(state, query, update, asked | options)

        async def dynamodb(state: ModeState) -> Any:
            self._mongo.require_update(update)
            self._coming.take("find_one_and_update", update, options)
            by = updating(query, update, options, ordered=self._leading.keeps_order)
            known, otherwise = variables_of(options.get("let"), now=by.now), by.inserted if upsert else None
            found = await self._leading.change_and_give(state, query, by.apply, otherwise, sort or (), known)
            document = found.after if return_document else found.before
            return project(document, projection) if document is not None else None

        return self._border.to_application(await self._write("find_one_and_update", query, mongo, dynamodb))

    async def _write(
        self,
        method: str,
        query: Mapping[str, Any],
        mongo: Callable[[ModeState], Awaitable[T]],
        dynamodb: Callable[[ModeState], Awaitable[T]],
    ) -> T:
        def shape(way: str) -> str:
            return spent_shape(self._name, method, query, way)

        async def counted(state: ModeState) -> T:
            with spending(self._parts.membership.tally, shape):
                return await dynamodb(state)

        return await self._gate.write(method, mongo, counted)

    # --- what it is given, and gives ----------------------------------------------------------------------------------

    def _change(self, query: Any, change: Any, options: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
        """A filter, what is to be done, and pymongo's options, from the application. Raises TypeError for no filter."""
        self._mongo.require_filter(query)
        for name in ("array_filters", "let"):
            if options.get(name) is not None:
                self._mongo.require_option(name, options[name])
                options = options | {name: self._border.to_internal(options[name])}
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

    def _require_storable(self, document: Document) -> None:
        self._leading.require_storable(self._with_id(document))

    @staticmethod
    def _has_session(options: dict[str, Any]) -> bool:
        """Whether a session makes this call: its write is not told to DynamoDB while MongoDB leads."""
        if "session" in options and options["session"] is None:
            del options["session"]
        return "session" in options

    async def _in_session(self, method: str, arguments: Sequence[Any], options: dict[str, Any]) -> Any:
        """By a session: pymongo's own call while MongoDB leads, left to replication; afterwards in its transaction."""
        session = options["session"]
        left = {name: value for name, value in options.items() if name != "session"}

        async def dynamodb(state: ModeState) -> Any:
            parts, delegated = within(self._parts, session, state)
            return await getattr(CollectionCalls(parts, self._name, delegated), method)(*arguments, **left)

        call = getattr(self._mongo.raw(self._name), method)
        asked = self._mongo.arguments_of(method, arguments, left)
        later = Later(
            lambda state: self._note(state, method, arguments, left),
            dynamodb,
            lambda result: self._letters.tell_of(method, asked, result),
        )
        return await self._delegated.run(self._name, method, _WRITES, call, arguments, options, later)

    def _note(self, state: ModeState, method: str, arguments: Sequence[Any], options: Mapping[str, Any]) -> None:
        """What pymongo will not take is not looked into."""
        if method.startswith("insert") or not isinstance(arguments[0], Mapping):
            return
        change = arguments[1] if method in ("update_one", "find_one_and_update") else None
        options = {name: value for name, value in options.items() if name not in _OF_THE_CALL}
        self._coming.note(
            state, method, self._border.to_internal(arguments[0]), self._border.to_internal(change), options
        )

    def _given(self, result: Any) -> Any:
        """An update's result to the application."""
        if self._border.open or not result.acknowledged or result.upserted_id is None:
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
        return self._mongo.updated(matched=1, modified=int(found.modified))
