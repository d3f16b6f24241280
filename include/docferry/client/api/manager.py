"""The client of an application under migration: in place of pymongo's database, it follows the mode
(docs/architecture.md, "Modes").

db = docferry.connect("shop.yaml")
db["users"].update_one({"username": "ann"}, {"$inc": {"visits": 1}})
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Self

from bson.dbref import DBRef

from docferry.client.api.collections import AsyncCollection, Collection, _Named
from docferry.client.context import ClientContext
from docferry.client.reads.aggregate import Aggregations
from docferry.client.reads.route import Queries
from docferry.client.reads.shadow import Shadow
from docferry.client.transport.sync_driver import run
from docferry.client.type_border import TypeBorder
from docferry.client.writes.delegated import DelegatedCalls, Later
from docferry.client.writes.gate import WriteGate
from docferry.client.writes.route import CollectionCalls
from docferry.client.writes.transactions import Transactions
from docferry.core.access.calls import CLIENT_CALLS, DATABASE_CALLS, Call, unknown_options
from docferry.core.cutover.modes import ModeState
from docferry.core.mql.filters import compile_filter
from docferry.errors import CallRefused
from docferry.ports.client import AskedOptions


class _Manager:
    """What both have in common. Make one a process, and share it."""

    def __init__(self, parts: ClientContext, shadow: Shadow) -> None:
        self._shadow = shadow
        self._asked = AskedOptions(codec_options=parts.border.options_inside)
        parts = replace(parts, mongo=parts.mongo.view(self._asked))
        self._take(parts, Transactions(parts, WriteGate(parts)))
        parts.membership.on_fork += [parts.mongo.forked, parts.calls.forked, parts.beside.forked, shadow.forked]
        parts.mongo.serve(self)

    def _take(self, parts: ClientContext, transactions: Transactions) -> None:
        self._parts, self._transactions = parts, transactions
        self._delegated = DelegatedCalls(parts, WriteGate(parts), transactions)
        self._calls: dict[str, tuple[CollectionCalls, Queries, Aggregations, DelegatedCalls]] = {}

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """For those who ask whether it is pymongo's database, as gridfs does: it is used as one."""
        return self._parts.mongo.database_class

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._parts.membership!r})"

    def __eq__(self, other: object) -> bool:
        if not issubclass(type(other), _Manager):
            return False
        return self._parts.membership is other._parts.membership and self.name == other.name  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash(id(self._parts.membership))

    def __bool__(self) -> bool:
        raise NotImplementedError(
            "Database objects do not implement truth value testing or bool(): compare with None instead"
        )

    def __getattr__(self, name: str) -> Any:
        """A call of MongoDB's alone, or the collection of that name. Raises AttributeError for a private one."""
        if name in DATABASE_CALLS:
            return partial(self._delegate, name)
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name: str) -> Any:
        raise NotImplementedError

    def get_collection(self, name: str, *arguments: Any, **options: Any) -> Any:
        return (self.with_options(*arguments, **options) if arguments or options else self)[name]

    def get_metrics(self) -> dict[str, Any]:
        """The counts since this process began, and the playbook's flags as they are now."""
        membership = self._parts.membership
        counts = membership.tally.counts
        return {**_playbook(counts), "counts": counts, "configuration": membership.state.flags()}

    def _elsewhere(self, name: str) -> Any:
        """The collection of another database that the file gives this name; None if it gives it to none."""
        where = self._parts.mongo.where
        if self.name != where.default or name not in where.elsewhere:
            return None
        database, collection = where.place_of(name)
        return self.in_database(database)[collection]

    def _of(self, name: str) -> tuple[CollectionCalls, Queries, Aggregations, DelegatedCalls]:
        """A collection's writes and reads; made once, because an application names its collections in every request."""
        found = self._calls.get(name)
        if found is None:
            known = self._parts.mongo.name_of(name)
            found = (
                CollectionCalls(self._parts, known, self._delegated),
                Queries(self._parts, known, self._shadow),
                Aggregations(self._parts, known),
                self._delegated,
            )
            self._calls[name] = found
        return found

    def with_options(
        self,
        codec_options: Any = None,
        read_preference: Any = None,
        write_concern: Any = None,
        read_concern: Any = None,
    ) -> Self:
        """The same manager, that reads and writes MongoDB by other options, and gives documents in other types."""
        asked, border = self._asked, self._parts.border if codec_options is None else TypeBorder(codec_options)
        found = object.__new__(type(self))
        found._shadow = self._shadow
        found._asked = replace(
            asked,
            codec_options=border.options_inside,
            read_preference=read_preference or asked.read_preference,
            write_concern=write_concern or asked.write_concern,
            read_concern=read_concern or asked.read_concern,
        )
        parts = replace(self._parts, mongo=self._parts.mongo.view(found._asked), border=border)
        found._take(parts, self._transactions)
        return found

    def in_database(self, name: str) -> Self:
        """The same manager, in another of the migration file's databases. `client[name]` is the same."""
        found = object.__new__(type(self))
        found._shadow, found._asked = self._shadow, self._asked
        found._take(replace(self._parts, mongo=self._parts.mongo.of(name)), self._transactions)
        return found

    @property
    def databases(self) -> tuple[str, ...]:
        """Those of the migration file, its own first."""
        return self._parts.mongo.where.databases

    @property
    def client(self) -> Any:
        """pymongo's client: its sessions write by the mode, and its databases of the file are this manager."""
        return self._parts.mongo.client

    @property
    def codec_options(self) -> Any:
        return self._parts.border.options

    @property
    def read_preference(self) -> Any:
        return self._parts.mongo.raw_database.read_preference

    @property
    def write_concern(self) -> Any:
        return self._parts.mongo.raw_database.write_concern

    @property
    def read_concern(self) -> Any:
        return self._parts.mongo.raw_database.read_concern

    # --- MongoDB's alone ---------------------------------------------------------------------------------------------

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Its answer, or what is to be awaited."""
        raise NotImplementedError

    def _delegate(self, method: str, *arguments: Any, **options: Any) -> Any:
        call = getattr(self._parts.mongo.raw_database, method)
        given = tuple(getattr(one, "name", one) if issubclass(type(one), _Named) else one for one in arguments)
        return self._run(self._delegated.run("", method, DATABASE_CALLS[method], call, given, options))

    def list_collection_names(
        self, session: Any = None, filter: Any = None, comment: Any = None, **options: Any
    ) -> Any:
        """Once DynamoDB leads, those of the migration file: no other has anything there. `filter` is about name and type."""
        named = {"session": session, "filter": filter, "comment": comment, **options}
        given = {name: value for name, value in named.items() if value is not None}

        async def names(_: ModeState) -> list[str]:
            if options:
                raise unknown_options(sorted(options))
            wanted, parts = compile_filter(self._parts.border.to_internal(filter or {})), self._parts
            mine = parts.mongo.where.by_database(parts.mappings).get(self.name, {})
            return [one for one in sorted(mine) if wanted.matches({"name": one, "type": "collection"})]

        method, later = "list_collection_names", Later(lambda _: None, names)
        call = self._parts.mongo.raw_database.list_collection_names
        return self._run(self._delegated.run("", method, Call("the file's names"), call, (), given, later))

    def dereference(self, dbref: Any, session: Any = None, comment: Any = None, **options: Any) -> Any:
        """What a reference names, by its collection's find_one. Raises as pymongo's."""
        if not isinstance(dbref, DBRef):
            raise TypeError(f"cannot dereference a {type(dbref)}")
        if dbref.database not in (None, self.name):
            raise ValueError(
                f"trying to dereference a DBRef that points to another database ({dbref.database!r} not {self.name!r})"
            )
        named = {"session": session, "comment": comment, **options}
        given = {name: value for name, value in named.items() if value is not None}
        return self[dbref.collection].find_one({"_id": dbref.id}, **given)

    def whole(self, method: str, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """A write by a method of pymongo's client."""
        return self._run(self._delegated.run("", method, CLIENT_CALLS[method], call, arguments, options))

    def session_begun(self, session: Any) -> None:
        """Raises: CallRefused, for a session of snapshots, once DynamoDB leads."""
        self._parts.membership.join()
        leads = self._parts.strict or self._parts.membership.state.leader.dynamodb_leads
        if leads and session.options.snapshot:
            raise CallRefused(
                what="a session that reads a snapshot, and DynamoDB leads",
                suggestion="read in a transaction: what it has read belongs together",
            )

    def transaction_begun(self, session: Any) -> None:
        self._transactions.begun(session)

    def commit_transaction(self, session: Any, commit: Callable[[], Any]) -> Any:
        return self._run(self._transactions.commit(session, commit))

    @property
    def name(self) -> str:
        """The database's, in MongoDB."""
        return self._parts.mongo.database

    @property
    def parts(self) -> ClientContext:
        """What a DynamoDBClient shares with this manager."""
        return self._parts

    @property
    def instance(self) -> str:
        """By this the ledger knows this process."""
        return self._parts.membership.id


def _playbook(counts: Mapping[str, int]) -> dict[str, int]:
    """The playbook's five counters."""
    writes = ("insert_one", "insert_many", "update_one", "replace_one", "delete_one", "find_one_and_update",
              "find_one_and_delete", "update_many", "delete_many", "update", "transact")  # fmt: skip
    failed = sum(number for name, number in counts.items() if name.startswith("dual_put.failed."))
    return {
        "mongo_writes": sum(counts.get(f"mongodb.{one}", 0) - counts.get(f"mongodb.{one}.failed", 0) for one in writes),
        "mongo_write_failures": sum(counts.get(f"mongodb.{one}.failed", 0) for one in writes),
        "dynamodb_writes": counts.get("dual_put.written", 0)
        + sum(counts.get(f"dynamodb.{one}", 0) - counts.get(f"dynamodb.{one}.failed", 0) for one in writes),
        "dynamodb_write_failures": failed + sum(counts.get(f"dynamodb.{one}.failed", 0) for one in writes),
        "validation_failures": counts.get("shadow.mismatch", 0),
    }


class DualWriteManager(_Manager):
    """For a synchronous application. Thread-safe; a fork becomes an instance of its own."""

    __iter__ = None  # else Python would take the collections 0, 1, 2, ... for its elements

    def __getitem__(self, name: str) -> Collection:
        found: Collection | None = self._elsewhere(name)
        return Collection(self, name, *self._of(name)) if found is None else found

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return run(coroutine)

    def create_collection(self, name: str, *arguments: Any, **options: Any) -> Collection:
        self._delegate("create_collection", name, *arguments, **options)
        return self[name]

    def __enter__(self) -> DualWriteManager:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the migration; connections are closed."""
        self._shadow.close()  # first: what it has read is among the counts that leaving notes
        self._parts.membership.leave()
        run(self._parts.mongo.close())
        run(self._parts.calls.close())
        run(self._parts.beside.close())


class AsyncDualWriteManager(_Manager):
    """For an asynchronous application. Belongs to one event loop."""

    __iter__ = None

    def __getitem__(self, name: str) -> AsyncCollection:
        found: AsyncCollection | None = self._elsewhere(name)
        return AsyncCollection(self, name, *self._of(name)) if found is None else found

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return coroutine

    async def create_collection(self, name: str, *arguments: Any, **options: Any) -> AsyncCollection:
        await self._delegate("create_collection", name, *arguments, **options)
        return self[name]

    async def __aenter__(self) -> AsyncDualWriteManager:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Leave the migration; connections are closed."""
        self._shadow.close()  # first: what it has read is among the counts that leaving notes
        self._parts.membership.leave()
        await self._parts.mongo.close()
        await self._parts.calls.close()
        await self._parts.beside.close()
