"""What the client asks of the outside world: MongoDB as the application uses it, and DynamoDB an operation at a time.

The client's logic is written once, as coroutines. Behind an asynchronous application these calls wait for the network; behind
a synchronous one they block, and the coroutines never suspend (`client.transport.sync_driver.run`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from bson.codec_options import CodecOptions
from bson.timestamp import Timestamp

from docferry.core.cutover.marker import Marker
from docferry.core.mapping.items import Document
from docferry.core.namespaces import Namespaces
from docferry.errors import KeyTaken
from docferry.ports.flows import Guard


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteReply:
    """What MongoDB said to one write command, as far as it tells when the change happened.

    `changed` are the documents that it inserted, modified or removed; `retried` that an earlier attempt may have done it,
    and then `time` is not the change's own.
    """

    time: Timestamp
    changed: int
    retried: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MongoResult:
    """`value` is what pymongo returns. `before` is a time from before the first attempt; None if none is known."""

    value: Any = field(repr=False)
    replies: Sequence[WriteReply] = ()
    before: Timestamp | None = None

    @property
    def proved(self) -> Timestamp | None:
        """The change's own time, if the replies prove one change that was made at the first attempt."""
        if len(self.replies) == 1 and self.replies[0].changed == 1 and not self.replies[0].retried:
            return self.replies[0].time
        return None


class MongoCursor(Protocol):
    """The documents of one query, one after the other."""

    async def fetch(self) -> Document | None:
        """The next document; None at the end."""

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class BulkRequest:
    """One request of a bulk write: a method of the collection, and what it is given. `told` is how an error names it."""

    method: str
    query: Any = field(default=None, repr=False)
    change: Any = field(default=None, repr=False)
    upsert: bool = False
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    told: Any = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedOptions:
    """What an application asks for by `with_options`, as pymongo has it; None: what the connection has. Its write concern is
    `majority` then: what a failover takes back must not be in DynamoDB."""

    codec_options: CodecOptions[Any]
    read_preference: Any = None
    write_concern: Any = None
    read_concern: Any = None


class ApplicationDatabase(Protocol):
    """The application's database, as pymongo's client and sessions see it. What it returns is awaited by an asynchronous one."""

    @property
    def databases(self) -> Sequence[str]:
        """The migration file's."""

    def in_database(self, name: str) -> ApplicationDatabase:
        """The same in one of these."""

    def with_options(self, *arguments: Any, **options: Any) -> Any: ...

    def whole(self, method: str, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """A write by a method of pymongo's client."""

    def session_begun(self, session: Any) -> None:
        """Raises: CallRefused, for one that DynamoDB knows nothing like, where that leads."""

    def transaction_begun(self, session: Any) -> None: ...

    def commit_transaction(self, session: Any, commit: Callable[[], Any]) -> Any: ...

    def close(self) -> Any: ...


class MongoCalls(Protocol):
    """The application's MongoDB. Raises what pymongo raises, but for `errors.WritesFenced`.

    Collections go by the migration file's names. `database` is the one that is looked at, `where` knows the others.
    """

    database: str
    where: Namespaces
    collection_class: type
    database_class: type

    @property
    def majority(self) -> bool:
        """Whether writes are acknowledged by a majority: else nothing may be written beside them."""

    @property
    def client(self) -> Any:
        """pymongo's client, for the application."""

    @property
    def raw_database(self) -> Any:
        """pymongo's database, which knows no mode; documents in the application's types."""

    def raw(self, name: str) -> Any:
        """pymongo's collection, which knows no mode; documents in the application's types."""

    async def answer(self, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """What a method of pymongo's answers."""

    async def write(self, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """What a method of pymongo's that writes answers. Raises: WritesFenced, as `run`."""

    async def fetch(self, cursor: Any) -> Any:
        """The next of a cursor of pymongo's; None at the end."""

    def of(self, database: str) -> Self:
        """The same in another of the file's databases."""

    def name_of(self, collection: str) -> str:
        """The migration file's name of a collection in `database`."""

    def view(self, asked: AskedOptions) -> Self:
        """The same connections, by other options."""

    def serve(self, application: ApplicationDatabase) -> None:
        """Before the first call: the database that pymongo's client hands out."""

    async def run(
        self, collection: str, method: str, *arguments: Any, heard: bool = True, **options: Any
    ) -> MongoResult:
        """One method of pymongo's collection. Not `heard`, the result has no replies: that is cheaper.

        Raises: WritesFenced, if MongoDB refused the write because writes are blocked (nothing was written).
        """

    def seen_time(self) -> Timestamp | None:
        """The latest cluster time that a reply bore: before whatever is done from now on."""

    def find(self, collection: str, query: Mapping[str, Any], **options: Any) -> MongoCursor: ...

    async def read_at(self, collection: str, document_id: Any, time: Timestamp) -> Document | None:
        """The document as it was at `time`, which a majority has acknowledged."""

    async def leader(self, migration: str) -> Marker | None:
        """The marker that says who leads, behind every write that was acknowledged before this call, as a majority confirms;
        None if there is none."""

    def forked(self) -> None:
        """This process is a fork: nothing that was open may be used."""

    async def close(self) -> None: ...

    # --- what pymongo would have returned or raised

    def inserted(self, ids: Sequence[Any], *, many: bool = False) -> Any: ...

    def updated(self, *, matched: int, modified: int, upserted_id: Any = None) -> Any: ...

    def deleted(self, count: int) -> Any: ...

    def listed(self, documents: Iterable[Document]) -> list[Document]:
        """What insert_many is given. This and what is required: raises TypeError and ValueError as pymongo does."""

    def require_document(self, document: Any) -> None: ...

    def require_filter(self, query: Any) -> None: ...

    def require_update(self, update: Any) -> None: ...

    def require_replacement(self, replacement: Any) -> None: ...

    def require_option(self, name: str, value: Any) -> None:
        """Of `array_filters` and `let`."""

    def duplicate_key(self, taken: KeyTaken) -> Exception: ...

    def write_error(self, code: int, message: str) -> Exception: ...

    def bulk_write_error(
        self, failures: Sequence[tuple[int, Exception]], documents: Sequence[Document], inserted: int
    ) -> Exception:
        """`failures` are the positions and errors of those `documents` that were not inserted."""

    def not_inserted(self, error: Exception, documents: int, ordered: bool) -> frozenset[int] | None:
        """The positions that an insert_many left out, by its error; None if the error does not tell."""

    def is_write_error(self, error: Exception) -> bool:
        """Whether MongoDB, or what stands for it, refused one write."""

    def of_command(self, error: Exception) -> Exception:
        """How pymongo raises a refused write of findAndModify; any other error, and a taken key, as it is."""

    def is_driver_error(self, error: Exception) -> bool: ...

    def bulk_result(self, told: Mapping[str, Any]) -> Any:
        """Of a bulk write, by what MongoDB would have told of it. Raises: what pymongo raises if it has errors."""

    def arguments_of(self, method: str, arguments: Sequence[Any], options: Mapping[str, Any]) -> dict[str, Any]:
        """What a method of pymongo's collection is given, by name. Raises: TypeError."""

    def requests_of(self, requests: Any) -> list[BulkRequest]:
        """Of a bulk write. Raises: TypeError, ValueError and others as pymongo does."""

    def session_of(self, arguments: Sequence[Any], options: Mapping[str, Any]) -> Any:
        """The session among these; None if there is none."""

    def transaction_refused(self, message: str) -> Exception:
        """What MongoDB says where a transaction has not happened, and may be begun anew (TransientTransactionError)."""

    def write_conflict(self, message: str) -> Exception:
        """What MongoDB says where a transaction has met another, and may be begun anew (TransientTransactionError)."""

    def commit_unknown(self, message: str) -> Exception:
        """What pymongo says where a commit may have happened, and may be made again (UnknownTransactionCommitResult)."""

    def invalid_operation(self, message: str) -> Exception: ...


class DynamoCalls(Protocol):
    """DynamoDB's data plane."""

    @property
    def blocking(self) -> bool:
        """Whether calls block their thread, and may be made by several; else they wait in an event loop."""

    async def call(self, operation: str, request: Mapping[str, Any], guard: Guard | None = None) -> dict[str, Any]:
        """One operation, request and reply in DynamoDB's own JSON. `guard` runs right before each signature.

        Raises: StoreError, RetryExhausted, and whatever `guard` raises.
        """

    async def sleep(self, seconds: float) -> None: ...

    def forked(self) -> None:
        """This process is a fork: nothing that was open may be used."""

    async def close(self) -> None: ...


class Metrics(Protocol):
    """Told of every call, by database and operation: a few seconds later, in whichever thread. Must be quick, and never raise."""

    def record(self, database: str, operation: str, seconds: float, error: str = "") -> None:
        """`error` is the error's type, empty if it went well."""

    def count(self, name: str, number: int = 1) -> None: ...
