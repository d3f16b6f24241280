"""What a load will take: documents, write units, hours, from samples, and how far the oplog reaches back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from docferry.config import Migration
from docferry.core.estate.partitions import hottest
from docferry.core.limits import item_bytes, item_write_units
from docferry.core.mapping.items import Item, is_guard
from docferry.core.mapping.large.overflow import PACKED
from docferry.core.mapping.raw import encode_raw
from docferry.core.settings import CollectionSettings
from docferry.errors import (
    DocumentError,
    PreflightFailed,
    Problem,
    TableMissing,
)
from docferry.flows.kernel.job import Job
from docferry.flows.kernel.migrated import count_migrated, sample_migrated
from docferry.flows.ledger.budget import budget_of, read_budget_of
from docferry.flows.ledger.load_headers import (
    NEW,
    LoadHeaders,
)
from docferry.flows.ledger.rooms.owners import require_owned
from docferry.flows.preflight.mongodb import require_indexes, require_source
from docferry.ports.flows import (
    Ledger,
)

PLAN_SAMPLE = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionPlan:
    """What loading one collection will take, from a sample of its documents. `outside`: read, and left out by its filter;
    `guards`: of the items, those that keep values unique, a write unit each. `hot`: which partition would have more writes than
    it takes, and `most_wcu`: so the load is no faster than that; "" and 0 where none would."""

    collection: str
    table: str
    documents: int
    items: int
    write_units: int
    chunks: int
    unstorable_in_sample: int
    compressed_in_sample: int
    sample: int
    hot: str
    most_wcu: int
    state: str
    outside: int = 0
    guards: int = 0
    stored_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillPlan:
    """The whole load: write units with indexes, hours at the budget, and what the oplog allows."""

    migration: str
    collections: tuple[CollectionPlan, ...]
    budget_wcu: float
    budget_rcu: float
    hours: float
    oplog_window_hours: float

    @property
    def write_units(self) -> int:
        return sum(plan.write_units for plan in self.collections)

    @property
    def fits(self) -> bool:
        """The load is over before half of the oplog window has gone by; the other half is for catching up.

        A load of under a minute always fits.
        """
        return self.hours <= max(self.oplog_window_hours / 2, 1 / 60)

    def to_dict(self) -> dict[str, Any]:
        return {
            "migration": self.migration,
            "collections": [
                {name: getattr(plan, name) for name in plan.__dataclass_fields__} for plan in self.collections
            ],
            "write_units": self.write_units,
            "budget_wcu": self.budget_wcu,
            "budget_rcu": self.budget_rcu,
            "hours": round(self.hours, 4),
            "oplog_window_hours": round(self.oplog_window_hours, 4),
            "fits": self.fits,
        }


def plan_backfill(job: Job, only: Sequence[str] = ()) -> BackfillPlan:
    """The plan, from samples. Reads only. Raises PreflightFailed if the servers cannot do it."""
    require_source(job.migration, job.source)
    require_indexes(job.migration, job.source)
    require_owned(job.migration, job.ledger, lambda table: job.estate.fetch_table(table))
    plans = tuple(_plan_collection(job, settings) for settings in chosen(job.migration, only))
    budget = budget_of(job.migration)
    left = [plan for plan in plans if plan.state != "complete"]
    hours = sum(one.write_units / min(budget, one.most_wcu or budget) for one in left) / 3600 if budget else 0.0
    return BackfillPlan(
        migration=job.migration.name,
        collections=plans,
        budget_wcu=budget,
        budget_rcu=read_budget_of(job.migration),
        hours=hours,
        oplog_window_hours=job.source.oplog_window_s() / 3600,
    )


def require_window(plan: BackfillPlan, waived: bool) -> None:
    """Raises PreflightFailed for a load that is longer than half of the oplog window, unless that is waived."""
    if plan.fits or waived:
        return
    needed, reach = f"{plan.hours:.2f} h at {plan.budget_wcu:.0f} WCU/s", f"{plan.oplog_window_hours:.2f} h"
    what = f"would take {needed}, and the oplog reaches back {reach}: the load must fit into half of that"
    suggestion = "enlarge the oplog (replSetResizeOplog), raise backfill.budget_wcu, or waive it (--waive-oplog-window)"
    raise PreflightFailed("the load", [Problem(where="backfill", what=what, suggestion=suggestion)])


def chosen(migration: Migration, only: Sequence[str]) -> list[CollectionSettings]:
    for name in only:
        migration.mapping(name)
    return [settings for settings in migration.collections if not only or settings.name in only]


def _plan_collection(job: Job, settings: CollectionSettings) -> CollectionPlan:
    facts = job.source.collection_facts(settings.name)
    mapping = job.migration.mapping(settings.name)
    documents = count_migrated(job.source, mapping, facts.documents)
    sample = sample_migrated(job.source, mapping, PLAN_SAMPLE) if documents else []
    units = items = refused = compressed = guards = stored = 0
    sampled: list[list[Item]] = []
    for raw in sample:
        try:
            encoded = mapping.fitted(encode_raw(mapping, raw, 0))
        except DocumentError:
            refused += 1
            continue
        items += len(encoded)
        sampled.append(encoded)
        compressed += any(PACKED in item for item in encoded) and mapping.settings.overflow is not None
        guards += sum(map(is_guard, encoded))
        stored += sum(map(item_bytes, encoded))
        units += sum(item_write_units(item) for item in encoded)
    scale = documents / len(sample) if sample else 0.0
    found, rate = hottest(settings, sampled), budget_of(job.migration)
    hot = found if found is not None and found.is_hot(rate) else None
    return CollectionPlan(
        collection=settings.name,
        table=settings.table,
        documents=documents,
        outside=max(0, facts.documents - documents),
        items=round(items * scale),
        guards=round(guards * scale),
        stored_bytes=round(stored * scale),
        write_units=round(units * scale),
        chunks=chunk_count(facts.documents, job.migration),
        unstorable_in_sample=refused,
        compressed_in_sample=compressed,
        sample=len(sample),
        hot=hot.text(rate) if hot else "",
        most_wcu=round(hot.most_wcu) if hot else 0,
        state=_state_of(job.ledger, settings.name),
    )


def _state_of(ledger: Ledger, collection: str) -> str:
    """How far a collection is; a plan may be asked for before there is a ledger."""
    try:
        header = LoadHeaders(ledger).read(collection)
    except TableMissing:
        return "not provisioned"
    return header.state if header else NEW


def chunk_count(documents: int, migration: Migration) -> int:
    return max(1, -(-documents // migration.backfill.chunk_documents))
