"""What all collections of one client share."""

from __future__ import annotations

import time
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any
from weakref import WeakKeyDictionary

from docferry.client.items.optimistic import OptimisticTransaction, TransactionPutter, TransactionReader
from docferry.client.items.putter import Putter
from docferry.client.items.reader import DocumentReader
from docferry.client.journal.lanes import InstanceLanes
from docferry.client.journal.write import WriteJournal
from docferry.client.membership import Membership
from docferry.client.metrics.metered import MOST_WAITING, Metered
from docferry.client.transport.spending import tell_way
from docferry.client.type_border import TypeBorder
from docferry.core.access.read_plan import ReadPlan, plan_read
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.mql.filters import Filter, compile_filter
from docferry.core.settings import AccessPattern
from docferry.errors import ExpressionRefused
from docferry.ports import tracing
from docferry.ports.client import DynamoCalls, MongoCalls

MONGO, DYNAMODB = "mongodb", "dynamodb"
Sort = Sequence[tuple[str, int]]


def sort_of(
    key: str | Sequence[str | tuple[str, int]] | Mapping[str, int] | None, direction: int | None = None
) -> Sort:
    """A sort as pymongo takes it: a document, pairs, names; None for none."""
    if isinstance(key, str):
        return ((key, direction or 1),)
    pairs = key.items() if isinstance(key, Mapping) else key or ()
    return tuple((one, 1) if isinstance(one, str) else (one[0], one[1]) for one in pairs)


def now() -> datetime:
    """As MongoDB keeps it: UTC, milliseconds."""
    found = datetime.now(UTC).replace(tzinfo=None)
    return found.replace(microsecond=found.microsecond // 1000 * 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientContext:
    """One client: its connections, its membership, and what it reports about itself."""

    migration: str
    journal: str
    """The journal's table."""
    mappings: Mapping[str, DocumentMapping]
    patterns: Sequence[AccessPattern]
    mongo: MongoCalls
    calls: DynamoCalls
    beside: DynamoCalls
    """DynamoDB while MongoDB leads: what it does not answer soon is given up."""
    membership: Membership
    metrics: Metered
    border: TypeBorder = field(default_factory=TypeBorder)
    cached: DynamoCalls | None = None
    """Where reads go that may be a moment old; None: to `calls`."""
    waived_unique: Sequence[str] = ()
    """Unique indexes that nothing enforces once DynamoDB leads, as the file's `cutover.waived_unique`."""
    strict: bool = False
    """While MongoDB leads, what DynamoDB could not do later is refused."""

    sessions: MutableMapping[Any, OptimisticTransaction] = field(default_factory=WeakKeyDictionary, repr=False)
    """The transactions of DynamoDB's that are open, by pymongo's sessions."""
    transaction: OptimisticTransaction | None = None
    """In which reads and writes are made."""

    def within(self, session: Any) -> ClientContext:
        """The same, in the transaction that a session has open; without one as it is. Raises InvalidOperation if it has ended."""
        if session is None:
            return self
        if session.has_ended:
            raise self.mongo.invalid_operation("Cannot use ended session")
        if not session.in_transaction or session not in self.sessions:
            return self
        return replace(self, transaction=self.sessions[session])

    def evaluation_refused(self, error: ExpressionRefused) -> Exception:
        """As pymongo raises what MongoDB refuses to evaluate."""
        return self.mongo.of_command(self.mongo.write_error(error.code, str(error)))

    def mapping(self, collection: str) -> DocumentMapping | None:
        return self.mappings.get(collection)

    def reader(self, mapping: DocumentMapping, *, beside: bool = False) -> DocumentReader:
        if self.transaction is not None:
            return TransactionReader(mapping, self.calls, self.transaction, count=self.metrics.count)
        return DocumentReader(mapping, self.beside if beside else self.calls, count=self.metrics.count)

    def putter(self, mapping: DocumentMapping, *, beside: bool = False) -> Putter:
        if beside:
            return Putter(mapping, self.beside, self.membership.check)
        if self.transaction is not None:
            return TransactionPutter(mapping, self.calls, self.membership.check, self.transaction)
        lanes = self.membership.lanes
        journal = None if lanes is None else self.journal_of(lanes)
        return Putter(mapping, self.calls, self.membership.check, journal, self.metrics.count)

    def journal_of(self, lanes: InstanceLanes) -> WriteJournal:
        return WriteJournal(table=self.journal, migration=self.migration, lanes=lanes)

    def plan(
        self,
        mapping: DocumentMapping,
        query: Mapping[str, Any],
        sort: Sort = (),
        variables: Mapping[str, Any] | None = None,
    ) -> Plan:
        """How DynamoDB answers a query; `variables` are what its `$expr` knows. Raises CallRefused."""
        compiled = compile_filter(query, variables, ordered=mapping.keeps_order)
        ours = [one for one in self.patterns if one.collection == mapping.collection]
        where = plan_read(mapping, ours, query, compiled.equalities, sort)
        tell_way(where.by)
        if where.query is not None and self.transaction is not None and self.transaction.writes_to(mapping.collection):
            where = replace(where, query=replace(where.query, sorted=False))  # what it has written comes in no order
        return Plan(where, compiled, _is_partial(mapping, query, where, compiled))


@dataclass(frozen=True, slots=True)
class Plan:
    """Where to look, and what to check on what is found. `partial`: documents may match that are outside the collection's filter,
    and so MongoDB's alone."""

    where: ReadPlan
    filter: Filter = field(repr=False)
    partial: bool = False

    @property
    def share_key(self) -> str:
        return self.where.share_key


def _is_partial(mapping: DocumentMapping, query: Mapping[str, Any], where: ReadPlan, compiled: Filter) -> bool:
    """One table key leads to one document: what is found there is the answer, and what is not MongoDB is asked for."""
    if mapping.filter is None or (where.query is None and len(where.keys) == 1):
        return False
    return not mapping.filter.is_implied_by(query, compiled.equalities)


class timed:
    """Record one call to one database, which is a span of the trace, if there is one."""

    __slots__ = ("_began", "_database", "_metrics", "_operation", "_span")
    _span: tracing.Span | None

    def __init__(self, metrics: Metered, database: str, operation: str) -> None:
        self._metrics, self._database, self._operation, self._span = metrics, database, operation, None

    def __enter__(self) -> None:
        if tracing.tracer is not None:
            self._span = tracing.span(self._operation, self._database)
            self._span.__enter__()
        self._began = time.perf_counter()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        took = time.perf_counter() - self._began
        if self._span is not None:
            self._span.__exit__(kind, error, at)
        waiting = self._metrics.waiting
        waiting.append((self._database, self._operation, took, kind.__name__ if kind is not None else ""))
        if len(waiting) > MOST_WAITING:
            self._metrics.settle()
