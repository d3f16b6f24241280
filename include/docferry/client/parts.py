"""What all collections of one client share."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from docferry.client.membership import Membership
from docferry.client.metrics import Metered
from docferry.client.putting import Putter
from docferry.client.reading import Reader
from docferry.core.access import ReadPlan, plan_read
from docferry.core.filters import Filter, compile_filter
from docferry.core.mapping import Mapping as DocumentMapping
from docferry.core.settings import AccessPattern
from docferry.ports_client import Calls, MongoDoor

MONGO, DYNAMODB = "mongodb", "dynamodb"
Sort = Sequence[tuple[str, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """One client: its doors, its membership, and what it tells about itself."""

    mappings: Mapping[str, DocumentMapping]
    patterns: Sequence[AccessPattern]
    mongo: MongoDoor
    calls: Calls
    membership: Membership
    metrics: Metered
    cached: Calls | None = None
    """Where reads go that may be a moment old; None: to `calls`."""

    def mapping(self, collection: str) -> DocumentMapping | None:
        return self.mappings.get(collection)

    def reader(self, mapping: DocumentMapping) -> Reader:
        return Reader(mapping, self.calls)

    def putter(self, mapping: DocumentMapping) -> Putter:
        return Putter(mapping, self.calls, self.membership.check, self.membership.remember)

    def plan(self, mapping: DocumentMapping, query: Mapping[str, Any], sort: Sort = ()) -> Plan:
        """How DynamoDB answers a query. Raises CallRefused."""
        compiled = compile_filter(query)
        ours = [one for one in self.patterns if one.collection == mapping.collection]
        return Plan(plan_read(mapping, ours, query, compiled.equalities, sort), compiled)


@dataclass(frozen=True, slots=True)
class Plan:
    """Where to look, and what to check on what is found."""

    where: ReadPlan
    filter: Filter = field(repr=False)

    @property
    def spread(self) -> str:
        return self.where.spread


@contextmanager
def timed(metrics: Metered, database: str, operation: str) -> Iterator[None]:
    """Record one call to one database."""
    began = time.perf_counter()
    try:
        yield
    except BaseException as error:
        metrics.record(database, operation, time.perf_counter() - began, type(error).__name__)
        raise
    metrics.record(database, operation, time.perf_counter() - began)
