"""What the client would do with a call, found out by making it: the client itself, in each mode, with empty databases.

No table of what is served is kept here. A call is made, with stand-ins for the values that only the running application
knows; the client refuses it, counts it as what DynamoDB cannot do, or asks a database for it. MongoDB is closed, and DynamoDB
answers that there is nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, ClassVar, Self

from bson.dbref import DBRef
from pymongo import InsertOne, MongoClient
from pymongo.errors import PyMongoError

from docferry.adapters.mongodb.client.calls import SyncMongoCalls
from docferry.adapters.mongodb.client.driver import ApplicationClient
from docferry.client.api.manager import DualWriteManager
from docferry.client.context import ClientContext
from docferry.client.membership import Membership
from docferry.client.metrics.metered import Metered, NoMetrics
from docferry.client.reads.shadow import Shadow
from docferry.config import Migration
from docferry.core.cutover.modes import Mode, ModeState
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.mql.filters import compile_filter
from docferry.core.mql.updates import Updating
from docferry.core.source.calls import SOME, CallVerdict, DriverCall, JudgedCall
from docferry.core.source.program.drivers import snake_case
from docferry.core.source.stand_ins import FILLS, filled, filled_option, key_filter, new_document
from docferry.errors import CallRefused, DocumentError, NoAccessPattern, UpdateRefused
from docferry.flows.ledger.modes import begin_in
from docferry.ports.flows import Guard
from docferry.testing.fakes import FakeLedger
from docferry.wiring import who

MODES = (Mode.MONGO_ONLY, Mode.DUAL_WRITE, Mode.DYNAMODB_READS, Mode.DYNAMODB_ONLY)
"""FINAL is as DYNAMODB_ONLY; in HOLD writes wait, and reads are as before it."""
NOWHERE = "mongodb://%2Fdev%2Fnull%2Fdocferry-trial.sock/?connect=false&serverSelectionTimeoutMS=100"
"""There is no server, and no network on the way to it."""
LEASE_S = 86_400.0
_NOT_LOOKED_INTO = {
    "bulk_write": "its requests are not looked into: each is served as the same call by itself is",
    "aggregate": "its pipeline cannot be known from the source: it is served if its first $match leads to a key, an index or an "
    "allowed scan, and its stages and expressions are those of docs/client-calls.md",
}
_NOW = datetime(2024, 1, 1, tzinfo=UTC).replace(tzinfo=None)


def _closed(kind: Callable[..., Any]) -> Callable[..., Any]:
    def make(*arguments: Any, **options: Any) -> Any:
        client = kind(*arguments, **options)
        client.close()
        return client

    return make


class ClosedMongoDB(SyncMongoCalls):
    """pymongo with its connections closed: what is asked of MongoDB ends in an error of pymongo's, at once. Each client that the
    adapter makes must be closed as it is made, or each question waits for a server that is not there."""

    KINDS: ClassVar = {True: _closed(MongoClient), False: _closed(ApplicationClient)}


class EmptyDynamoDB:
    """DynamoDB without an item. It remembers what it was asked."""

    blocking = True

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def call(self, operation: str, request: Mapping[str, Any], guard: Guard | None = None) -> dict[str, Any]:
        index = request.get("IndexName")
        self.asked.append(f"index {index}" if index else "a scan" if operation == "Scan" else "the table key")
        told = {"ConsumedCapacity": {"CapacityUnits": 0.0}}
        return {"Items": [], "Responses": {}, "Count": 0, "ScannedCount": 0, **told}

    async def sleep(self, seconds: float) -> None: ...

    def forked(self) -> None: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of one call in one mode."""

    said: str
    by: str = ""
    error: CallRefused | DocumentError | None = None


class _Client:
    """The client in one mode."""

    def __init__(self, migration: Migration, mode: Mode) -> None:
        ledger = FakeLedger()
        begin_in(ledger, ModeState(mode=mode, epoch=1, percent=100))
        self.mode, self.dynamodb = mode, EmptyDynamoDB()
        self.membership = Membership(lambda: ledger, who, lease_s=LEASE_S)
        parts = ClientContext(
            migration=migration.name,
            journal="",
            mappings=migration.mappings,
            patterns=migration.access_patterns,
            mongo=ClosedMongoDB(NOWHERE, migration.namespaces),
            calls=self.dynamodb,
            beside=self.dynamodb,
            membership=self.membership,
            metrics=Metered(NoMetrics(), self.membership),
        )
        self.manager = DualWriteManager(parts, Shadow(parts, (), lambda: None))

    def make(self, call: DriverCall) -> _Outcome:
        """Make a call. Raises TypeError and ValueError as pymongo does."""
        self.dynamodb.asked.clear()
        counted = sum(self.membership.tally.unserved.values())
        try:
            _made(self.manager, call)
            if self.mode.dynamodb_leads:
                _require_update(call)
        except (CallRefused, DocumentError) as refused:
            return _Outcome("refused", error=refused)
        except PyMongoError:
            pass  # MongoDB was asked, or DynamoDB would have answered as MongoDB does
        if sum(self.membership.tally.unserved.values()) > counted:
            return _Outcome("counted")
        return _Outcome("served", by=", ".join(dict.fromkeys(self.dynamodb.asked)))


class _NoMethod(Exception):
    """Neither the client nor pymongo has it."""


class Trial:
    """The client of a migration file, asked about calls."""

    def __init__(self, migration: Migration) -> None:
        self._migration = migration
        self._clients = [_Client(migration, mode) for mode in MODES]

    def close(self) -> None:
        for one in self._clients:
            one.manager.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def judge(self, call: DriverCall) -> JudgedCall:
        """What becomes of a call. One whose collection or filter is not known is unknown, unless any would be refused."""
        if call.of == "collection" and call.collection is None:
            return JudgedCall(call=call, verdict=CallVerdict.UNKNOWN, why=call.unknown)
        try:
            judged = self._best(call)
        except _NoMethod:
            why, advice = f"pymongo has no method {call.method} any more", "use the method that took its place"
            refused = dict.fromkeys(map(str, MODES), "refused")
            return JudgedCall(call=call, verdict=CallVerdict.REFUSED, modes=refused, why=why, advice=advice)
        except (TypeError, ValueError) as error:
            return JudgedCall(call=call, verdict=CallVerdict.UNKNOWN, why=f"what it is given cannot be known: {error}")
        if judged.verdict is CallVerdict.REFUSED:
            return judged
        known = call.filter is not None and call.pipeline is None
        unknown = _NOT_LOOKED_INTO.get(call.method, "") if known else "" if call.filter is not None else call.unknown
        return JudgedCall(call=call, verdict=CallVerdict.UNKNOWN, why=unknown) if unknown else judged

    def _best(self, call: DriverCall) -> JudgedCall:
        """By the first stand-ins with which it is served: no value that the application may have is worse for it."""
        mapping = self._migration.mappings.get(call.collection or "")
        first: JudgedCall | None = None
        for fill in FILLS if mapping is not None and call.filter is not None else FILLS[:1]:
            asked = replace(
                call,
                filter=key_filter(mapping) if call.filter is None else fill(mapping, call.filter),
                pipeline=None if call.pipeline is None else [_stage(one, fill, mapping) for one in call.pipeline],
            )
            judged = self._judged(
                call, replace(asked, documents=tuple(new_document(mapping, one) for one in call.documents))
            )
            if judged.verdict is not CallVerdict.PATTERN:
                return (
                    judged
                    if first is None or not fill.narrow
                    else replace(first, advice=f"{fill.narrow}; {first.advice}")
                )
            first = first or judged
        assert first is not None
        return first

    def _judged(self, call: DriverCall, asked: DriverCall) -> JudgedCall:
        outcomes = {one.mode: one.make(asked) for one in self._clients}
        last = outcomes[Mode.DYNAMODB_ONLY]
        modes = {str(mode): one.said for mode, one in outcomes.items()}
        if last.error is None and set(modes.values()) == {"served"}:
            return JudgedCall(call=call, verdict=CallVerdict.SERVED, modes=modes, by=last.by)
        errors = [one.error for one in outcomes.values() if one.error is not None]
        verdict = CallVerdict.PATTERN if isinstance(last.error, NoAccessPattern) else CallVerdict.REFUSED
        why, advice = _words(errors[0]) if errors else ("DynamoDB cannot do this", "")
        return JudgedCall(call=call, verdict=verdict, modes=modes, why=why, advice=advice)


def _words(error: CallRefused | DocumentError) -> tuple[str, str]:
    if isinstance(error, CallRefused):
        return error.what, error.suggestion
    return str(error), "give the document the fields that its key is made of"


@contextmanager
def trial_of(migration: Migration) -> Iterator[Trial]:
    """The client of a migration file, to be asked about calls."""
    with Trial(migration) as trial:
        yield trial


# --- a call, made ----------------------------------------------------------------------------------------------------


def _made(manager: DualWriteManager, call: DriverCall) -> None:
    if call.of == "database":
        _made_of_database(manager, call)
        return
    method = _method_of(manager, call)
    options = {name: filled_option(name, value) for name, value in call.options.items()}
    if "session" in options:
        options["session"] = _session()
    result = method(*_arguments(call), **_named(call), **options)
    for name in call.cursor:
        made = getattr(result, name)
        made(*_CURSOR_ARGUMENTS.get(name, ()))
    if call.method in _CURSORS:
        list(result)


def _made_of_database(manager: DualWriteManager, call: DriverCall) -> None:
    """A method of the database, or, under the name `client`, of pymongo's client."""
    if call.method == "dereference":
        manager.dereference(DBRef(next(iter(manager.parts.mappings), "x"), 1))
    elif call.method != "client":
        getattr(manager, call.method)(*_OF_DATABASE.get(call.method, ()))
    elif snake_case(call.written) in ("start_session", "with_session"):
        manager.client.start_session()
    else:
        manager.client.drop_database(manager.name)


_OF_DATABASE: Mapping[str, tuple[Any, ...]] = {
    "command": ("ping",), "cursor_command": ("find",), "create_collection": ("x",), "drop_collection": ("x",),
    "validate_collection": ("x",), "aggregate": ([],),
}  # fmt: skip


def _session() -> Any:
    """One in a transaction, of a client that has never connected."""
    session = MongoClient[Any](NOWHERE, connect=False).start_session()
    session.start_transaction()
    return session


def _method_of(manager: DualWriteManager, call: DriverCall) -> Any:
    try:
        return getattr(manager[call.collection or ""], call.method)
    except AttributeError as error:
        raise _NoMethod from error


_CURSORS = frozenset({"find", "aggregate", "find_raw_batches", "aggregate_raw_batches"})
_CURSOR_ARGUMENTS: Mapping[str, tuple[Any, ...]] = {
    "distinct": ("x",), "where": ("true",), "min": ([("x", 1)],), "max": ([("x", 1)],), "add_option": (2,), "remove_option": (2,),
}  # fmt: skip
_FILTERED = frozenset({
    "find", "find_one", "count_documents", "update_one", "update_many", "replace_one", "delete_one", "delete_many",
    "find_one_and_update", "find_one_and_replace", "find_one_and_delete", "find_raw_batches",
})  # fmt: skip
_UPDATING = frozenset({"update_one", "update_many", "replace_one", "find_one_and_update", "find_one_and_replace"})


def _stage(
    stage: Mapping[str, Any], fill: Callable[..., dict[str, Any]], mapping: DocumentMapping | None
) -> dict[str, Any]:
    """Without holes."""
    ((name, asked),) = stage.items()
    if name in ("$limit", "$skip"):
        return {name: 1 if asked is SOME else asked}
    return {name: fill(mapping, asked) if name == "$match" else filled(asked)}


def _arguments(call: DriverCall) -> tuple[Any, ...]:
    if call.method == "aggregate" and call.pipeline is not None:
        return (list(call.pipeline),)
    query = call.filter if call.filter is not None else {}
    if call.method in _UPDATING:
        return query, _update(call)
    if call.method in _FILTERED:
        return (query,)
    if call.method == "distinct":
        return ("x", query)
    return _OTHERS.get(call.method, ())


_OTHERS: Mapping[str, tuple[Any, ...]] = {
    "aggregate": ([{"$match": {}}],), "aggregate_raw_batches": ([{"$match": {}}],), "create_index": ("x",),
    "bulk_write": ([InsertOne({"_id": 1})],), "create_indexes": ([],), "drop_index": ("x_1",), "rename": ("x",),
}  # fmt: skip


def _update(call: DriverCall) -> Any:
    if call.update is not None:
        return filled(call.update)
    return {"x": 1} if "replace" in call.method else {"$set": {"x": 1}}


def _named(call: DriverCall) -> dict[str, Any]:
    if call.method == "insert_one":
        return {"document": call.documents[0] if call.documents else {}}
    if call.method == "insert_many":
        return {"documents": list(call.documents) or [{}]}
    named: dict[str, Any] = {}
    if call.method in ("find", "find_one", "find_one_and_update", "find_one_and_delete", "find_one_and_replace"):
        named = {"projection": filled(call.projection), "sort": list(call.sort) or None}
    return {name: value for name, value in named.items() if value is not None}


def _require_update(call: DriverCall) -> None:
    """What a document that is found would be changed by: the client's own update of one. Raises CallRefused."""
    if call.update is None or call.method not in ("update_one", "find_one_and_update", "update_many"):
        return
    try:
        Updating(query=compile_filter({}), update=filled(call.update), now=_NOW).apply({"_id": 0})
    except UpdateRefused:
        return  # of this document; MongoDB, too, says so of one that does not fit
