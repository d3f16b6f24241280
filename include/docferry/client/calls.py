"""The calls of one collection, in every mode. Written once, for synchronous and asynchronous applications.

While MongoDB leads, pymongo does the call, and what it returns or raises is what the application sees; DynamoDB is written
after it, and a failure there is counted, never raised: replication heals it. Once DynamoDB leads, it does the call, and the
results and exceptions are made to look the same.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from bson.objectid import ObjectId
from bson.timestamp import Timestamp

from docferry.client.membership import Begun
from docferry.client.parts import Parts, Plan, Sort, timed
from docferry.client.putting import Outcome, Putter
from docferry.client.reading import Found
from docferry.core.access import shape_of
from docferry.core.mapping import Document
from docferry.core.mapping import Mapping as DocumentMapping
from docferry.core.modes import ModeState
from docferry.core.projection import project, sort_documents
from docferry.core.updates import apply_update, check_replacement, upsert_document
from docferry.core.versions import snapshot_version, version_of
from docferry.errors import (
    CallRefused,
    ConditionFailed,
    DuplicateKey,
    MigrationError,
    RetryExhausted,
    Unavailable,
    UpdateRefused,
    WritesFenced,
)
from docferry.ports_client import MongoResult

T = TypeVar("T")

MONGO, DYNAMODB = "mongodb", "dynamodb"
TRY_AGAIN = 12
"""How often a write is tried that somebody else was quicker to write each time."""
FENCED_WAIT_S = 5.0
"""How long a fenced process waits to hear who leads now."""
STEP_S = 0.01

Change = Callable[[Document], Document]


@dataclass(frozen=True, slots=True)
class Changed:
    """What a write did while DynamoDB led."""

    before: Document | None
    after: Document | None


class Calls:
    """The calls of one collection."""

    def __init__(self, parts: Parts, name: str) -> None:
        self._parts, self._name = parts, name
        self._members, self._mongo, self._metrics = parts.membership, parts.mongo, parts.metrics
        self._mapping = parts.mapping(name)

    def __repr__(self) -> str:
        return f"Calls({self._name!r})"

    # --- writes ------------------------------------------------------------------------------------------------------

    async def insert_one(self, document: Document, **options: Any) -> Any:
        self._refuse_sessions(options)

        async def mongo(state: ModeState) -> Any:
            result = await self._run("insert_one", document, **options)
            await self._put(state, result, document)
            return result.value

        async def dynamodb(state: ModeState) -> Any:
            document.setdefault("_id", ObjectId())
            await self._insert(state, document)
            return self._mongo.inserted([document["_id"]])

        return await self._write("insert_one", mongo, dynamodb)

    async def insert_many(self, documents: Sequence[Document], ordered: bool = True, **options: Any) -> Any:
        self._refuse_sessions(options)

        async def mongo(state: ModeState) -> Any:
            result = await self._run("insert_many", documents, ordered=ordered, **options)
            for document in documents:
                await self._put(state, result, document, alone=len(documents) == 1)
            return result.value

        async def dynamodb(state: ModeState) -> Any:
            failures: list[tuple[int, Exception]] = []
            for index, document in enumerate(documents):
                document.setdefault("_id", ObjectId())
                try:
                    await self._insert(state, document)
                except Exception as error:
                    if not self._mongo.is_write_error(error):
                        raise
                    failures.append((index, error))
                    if ordered:
                        break
            if failures:
                done = failures[0][0] if ordered else len(documents) - len(failures)
                raise self._mongo.bulk_write_error(self._name, failures, done)
            return self._mongo.inserted([one["_id"] for one in documents], many=True)

        return await self._write("insert_many", mongo, dynamodb)

    async def update_one(
        self, query: Mapping[str, Any], update: Mapping[str, Any], upsert: bool = False, **options: Any
    ) -> Any:
        self._refuse_sessions(options)

        async def mongo(state: ModeState) -> Any:
            return await self._update_in_mongo(state, "update_one", query, update, upsert, options)

        async def dynamodb(state: ModeState) -> Any:
            self._refuse_options("update_one", options)
            now = _now()
            found = await self._change(
                state,
                query,
                lambda document: apply_update(document, update, now=now),
                (lambda: upsert_document(query, update, now=now)) if upsert else None,
            )
            return self._update_result(found)

        return await self._write("update_one", mongo, dynamodb)

    async def replace_one(
        self, query: Mapping[str, Any], replacement: Mapping[str, Any], upsert: bool = False, **options: Any
    ) -> Any:
        self._refuse_sessions(options)

        async def mongo(state: ModeState) -> Any:
            return await self._update_in_mongo(state, "replace_one", query, replacement, upsert, options)

        async def dynamodb(state: ModeState) -> Any:
            self._refuse_options("replace_one", options)
            found = await self._change(
                state,
                query,
                lambda document: check_replacement(document, replacement),
                (lambda: upsert_document(query, replacement, now=_now())) if upsert else None,
            )
            return self._update_result(found)

        return await self._write("replace_one", mongo, dynamodb)

    async def delete_one(self, query: Mapping[str, Any], **options: Any) -> Any:
        self._refuse_sessions(options)

        async def mongo(state: ModeState) -> Any:
            if not state.write_to_dynamodb or self._mapping is None:
                return (await self._run("delete_one", query, **options)).value
            # It returns what it removed: the keys of the items that go.
            result = await self._run("find_one_and_delete", query, **options)
            if result.value is not None:
                await self._bury(state, result, result.value)
            return self._mongo.deleted(int(result.value is not None))

        async def dynamodb(state: ModeState) -> Any:
            self._refuse_options("delete_one", options)
            removed = await self._change(state, query, None, None)
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
        asked = {"projection": projection, "sort": sort, "upsert": upsert, "return_document": return_document}

        async def mongo(state: ModeState) -> Any:
            return await self._find_and_update_in_mongo(state, query, update, asked | options)

        async def dynamodb(state: ModeState) -> Any:
            self._refuse_options("find_one_and_update", options)
            now = _now()
            found = await self._change(
                state,
                query,
                lambda document: apply_update(document, update, now=now),
                (lambda: upsert_document(query, update, now=now)) if upsert else None,
                sort or (),
            )
            document = found.after if return_document else found.before
            return project(document, projection) if document is not None else None

        return await self._write("find_one_and_update", mongo, dynamodb)

    async def refuse(self, method: str, instead: str) -> Any:
        """A call that the client does not do, in any mode."""
        raise CallRefused(what=f"{self._name}.{method} is not supported by this client", suggestion=instead)

    async def mongo_only(self, method: str, *arguments: Any, **options: Any) -> Any:
        """A write that DynamoDB has no way of doing (update_many, delete_many): MongoDB's while that leads, and counted."""
        self._refuse_sessions(options)
        query = arguments[0] if arguments and isinstance(arguments[0], Mapping) else {}

        async def mongo(state: ModeState) -> Any:
            if state.write_to_dynamodb:
                self._members.count_unserved(shape_of(self._name, method, query))
            return (await self._run(method, *arguments, **options)).value

        async def dynamodb(state: ModeState) -> Any:
            raise CallRefused(
                what=f"{self._name}.{method} cannot be done while DynamoDB leads",
                suggestion="write the documents one by one",
            )

        return await self._write(method, mongo, dynamodb)

    # --- how a write goes --------------------------------------------------------------------------------------------

    async def _write(
        self,
        method: str,
        mongo: Callable[[ModeState], Awaitable[T]],
        dynamodb: Callable[[ModeState], Awaitable[T]],
    ) -> T:
        """Carry out a write under the mode of now. One that MongoDB's fence refused has not happened: it goes by the next mode."""
        while True:
            begun = await self._members.begin(self._parts.calls)
            try:
                with self._members.writing(begun) as state:
                    if state.mode.dynamodb_leads:
                        with timed(self._metrics, DYNAMODB, method):
                            return await dynamodb(state)
                    return await mongo(_alone(state) if begun.alone else state)
            except WritesFenced as fenced:
                if not await self._mode_changes(begun):
                    raise (fenced.__cause__ or fenced) from None

    async def _mode_changes(self, begun: Begun) -> bool:
        """Whether this process hears of another mode soon."""
        for _ in range(int(FENCED_WAIT_S / STEP_S)):
            if self._members.state.epoch != begun.state.epoch:
                return True
            await self._parts.calls.sleep(STEP_S)
        return False

    async def _run(self, method: str, *arguments: Any, **options: Any) -> MongoResult:
        with timed(self._metrics, MONGO, method):
            return await self._mongo.run(self._name, method, *arguments, **options)

    def _refuse_sessions(self, options: dict[str, Any]) -> None:
        """None stands for no session. A transaction's writes cannot be told to DynamoDB one by one."""
        if options.pop("session", None) is not None:
            raise CallRefused(
                what="sessions and multi-document transactions are not supported by this client",
                suggestion="write one document at a time, or keep what belongs together in one document",
            )

    def _refuse_options(self, method: str, options: Mapping[str, Any]) -> None:
        if named := sorted(name for name, value in options.items() if value is not None):
            raise CallRefused(
                what=f"{self._name}.{method} with {', '.join(named)} cannot be done while DynamoDB leads",
                suggestion="leave it out",
            )

    # --- while MongoDB leads -----------------------------------------------------------------------------------------

    async def _update_in_mongo(
        self,
        state: ModeState,
        method: str,
        query: Mapping[str, Any],
        change: Mapping[str, Any],
        upsert: bool,
        options: Mapping[str, Any],
    ) -> Any:
        """The update, and then the document as it was at that very time: what DynamoDB gets is what the write made."""
        if not state.write_to_dynamodb or self._mapping is None:
            return (await self._run(method, query, change, upsert=upsert, **options)).value
        one, document_id = await self._pin(query, options)
        result = await self._run(method, one, change, upsert=upsert, **options)
        if document_id is not None and result.value.matched_count == 0 and one is not query:
            # It matched a moment ago; now another document may.
            result = await self._run(method, query, change, upsert=upsert, **options)
            document_id = None
        if result.value.upserted_id is not None:
            document_id = result.value.upserted_id
        if document_id is not None:
            await self._put_as_of(state, result, document_id)
        else:
            self._metrics.count("dual_put.unknown" if result.value.modified_count else "dual_put.nothing")
        return result.value

    async def _find_and_update_in_mongo(
        self, state: ModeState, query: Mapping[str, Any], update: Mapping[str, Any], options: Mapping[str, Any]
    ) -> Any:
        if not state.write_to_dynamodb or self._mapping is None:
            return (await self._run("find_one_and_update", query, update, **options)).value
        one, document_id = await self._pin(query, {"sort": options.get("sort")})
        result = await self._run("find_one_and_update", one, update, **options)
        if document_id is not None and result.value is None and one is not query and not options.get("upsert"):
            result = await self._run("find_one_and_update", query, update, **options)
            document_id = None
        if document_id is None and isinstance(result.value, dict):
            document_id = result.value.get("_id")
        if document_id is not None and result.replies:
            await self._put_as_of(state, result, document_id)
        return result.value

    async def _pin(
        self, query: Mapping[str, Any], options: Mapping[str, Any]
    ) -> tuple[Mapping[str, Any], Any]:
        """The query, narrowed to one document that it matches, and that document's id; None if it matches none.

        Why: an update does not say which document it changed.
        """
        fixed = query.get("_id")
        if fixed is not None and not isinstance(fixed, dict):
            return query, fixed
        known = {name: options[name] for name in ("sort", "collation", "hint") if options.get(name) is not None}
        with timed(self._metrics, MONGO, "find_one"):
            found = await self._mongo.run(self._name, "find_one", query, {"_id": 1}, **known)
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

    async def _put_snapshot(self, putter: Putter, document_id: Any, time: Timestamp, version: int) -> Outcome:
        with timed(self._metrics, MONGO, "read_at"):
            document = await self._mongo.read_at(self._name, document_id, time)
        return await putter.put_newer(document, version) if document is not None else Outcome.NOTHING

    async def _put(self, state: ModeState, result: MongoResult, document: Document, *, alone: bool = True) -> None:
        """A dual put of what was sent."""
        if not state.write_to_dynamodb or self._mapping is None:
            return
        own = result.proved if alone else None
        version = version_of(own, 0) if own else snapshot_version(result.before) if result.before else None
        if version is None:
            self._metrics.count("dual_put.unproved")
            return
        await self._dual(lambda putter: putter.put_newer(document, version))

    async def _bury(self, state: ModeState, result: MongoResult, document: Document) -> None:
        own = result.proved
        if own is None:
            self._metrics.count("dual_put.unproved")
            return
        await self._dual(lambda putter: putter.bury_newer(document, version_of(own, 0)))

    async def _dual(self, put: Callable[[Putter], Awaitable[Outcome]]) -> None:
        """A failed dual put does not fail the call: it is counted, and replication heals it (DESIGN 6)."""
        assert self._mapping is not None
        try:
            with timed(self._metrics, DYNAMODB, "put"):
                outcome = await put(self._parts.putter(self._mapping))
        except MigrationError as error:
            self._metrics.count(f"dual_put.failed.{type(error).__name__}")
            return
        except Exception as error:
            if not self._mongo.is_driver_error(error):
                raise
            self._metrics.count(f"dual_put.failed.{type(error).__name__}")
            return
        self._metrics.count(f"dual_put.{outcome}")

    # --- while DynamoDB leads ----------------------------------------------------------------------------------------

    def _require_mapping(self) -> DocumentMapping:
        if self._mapping is None:
            raise CallRefused(
                what=f"the migration file has no collection {self._name}, and DynamoDB leads",
                suggestion="add it to the file's collections before the switch",
            )
        return self._mapping

    async def _insert(self, state: ModeState, document: Document) -> None:
        mapping = self._require_mapping()
        reader, putter = self._parts.reader(mapping), self._parts.putter(mapping)

        async def attempt() -> None:
            place = await reader.place(mapping.root_key(document))
            if place.live:
                raise DuplicateKey(self._name, sorted(mapping.root.pk.fields))
            await putter.replace(place, document, state.floor)

        await self._until_taken(attempt)

    async def _change(
        self,
        state: ModeState,
        query: Mapping[str, Any],
        change: Change | None,
        otherwise: Callable[[], Document] | None,
        sort: Sort = (),
    ) -> Changed:
        """Change the first document that matches (`change` None removes it), or insert what `otherwise` makes."""
        mapping = self._require_mapping()
        plan = self._parts.plan(mapping, query, sort)
        putter = self._parts.putter(mapping)

        async def attempt() -> Changed:
            found, before = await self._first(mapping, plan, sort)
            if found is None or before is None:
                if otherwise is None:
                    return Changed(None, None)
                made = otherwise()
                made.setdefault("_id", ObjectId())
                await self._insert(state, made)
                return Changed(None, made)
            after = change(before) if change is not None else None
            if after != before or change is None:
                await putter.replace(found, after, state.floor)
            return Changed(before, after)

        return await self._until_taken(attempt)

    async def _until_taken(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Read, change, write, and once more if somebody else has written in between."""
        for number in range(TRY_AGAIN):
            try:
                return await attempt()
            except ConditionFailed:
                self._metrics.count("lock.missed")
                await self._parts.calls.sleep(0.005 * number)
            except DuplicateKey as error:
                raise self._mongo.duplicate_key(self._name, "_".join(f"{one}_1" for one in error.fields)) from error
            except UpdateRefused as error:
                raise self._mongo.write_error(error.code, str(error)) from error
        raise Unavailable(f"{self._name}: the document was changed by others {TRY_AGAIN} times in a row", operation="write")

    async def _first(
        self, mapping: DocumentMapping, plan: Plan, sort: Sort
    ) -> tuple[Found | None, Document | None]:
        reader = self._parts.reader(mapping)
        matching: list[tuple[Found, Document]] = []
        async for found in reader.find(plan.where):
            document = reader.document(found)
            if document is not None and plan.filter.matches(document):
                matching.append((found, document))
                if not sort:
                    break
        if not matching:
            return None, None
        first = sort_documents([document for _, document in matching], sort)[0] if sort else matching[0][1]
        return next((found, document) for found, document in matching if document is first)

    def _update_result(self, found: Changed) -> Any:
        if found.before is None:
            upserted = found.after["_id"] if found.after is not None else None
            return self._mongo.updated(matched=0, modified=0, upserted_id=upserted)
        return self._mongo.updated(matched=1, modified=int(found.after != found.before))


def _now() -> datetime:
    """As MongoDB keeps it: UTC, milliseconds."""
    now = datetime.now(UTC).replace(tzinfo=None)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def _alone(state: ModeState) -> ModeState:
    """MongoDB alone: what a process does that cannot reach the ledger while MongoDB leads."""
    return ModeState(epoch=state.epoch)
