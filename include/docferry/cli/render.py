"""Results as text for a person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from docferry.flows.backfill.finish import CollectionReport
from docferry.flows.backfill.plan import BackfillPlan
from docferry.flows.ledger.times import now_ms
from docferry.flows.reverse.report import ReverseReport


def reverse_text(report: ReverseReport, letters: Sequence[dict[str, Any]]) -> str:
    """What came of a reverse replication, and its open dead letters."""
    lag = "unknown" if report.lag_s is None else f"{report.lag_s:,.0f} s"
    ignored = "".join(f"; ignored, {name}: {count:,}" for name, count in report.ignored_by.items())
    rows = [(one["collection"], one["id"], one["reason"], one["message"][:70]) for one in letters]
    found = table_text(("collection", "document", "reason", "what"), rows) if rows else ""
    return (
        f"{report.records:,} records = {report.applied:,} applied + {report.same:,} the same already + {report.removed:,} "
        f"removed + {report.ignored:,} ignored + {report.dead:,} dead letters ({report.letters:,} open); "
        f"{report.rate:,.0f} records/s; lag {lag}{ignored}\n{found}"
    ).rstrip()


def plan_text(plan: BackfillPlan) -> str:
    """What a load would do."""
    rows = [
        (
            *(one.collection, one.state, one.documents, one.outside, one.items, one.guards, one.write_units),
            *(one.chunks, one.unstorable_in_sample, one.compressed_in_sample),
        )
        for one in plan.collections
    ]
    of_items = ("items", "guards", "WRU with indexes", "chunks", "unstorable in sample", "compressed")
    names = ("collection", "state", "documents", "outside", *of_items)
    end = (
        f"{plan.write_units} write units, {plan.hours:.2f} h at {plan.budget_wcu:.0f} WCU/s; the oplog reaches back about "
        f"{plan.oplog_window_hours:.1f} h: {'fits' if plan.fits else 'DOES NOT FIT into half of it'}. "
        f"Validation and the way back read {plan.budget_rcu:,.0f} RCU/s at most. Nothing was written."
    )
    hot = [f"{one.collection} is loaded at {one.most_wcu:,} WCU/s: {one.hot}\n" for one in plan.collections if one.hot]
    return table_text(names, rows) + "".join(hot) + end


def load_text(reports: Sequence[CollectionReport]) -> str:
    """What came of a load."""
    rows = [
        (
            one.collection,
            one.counts.read,
            one.counts.written,
            one.counts.superseded,
            one.counts.dead,
            one.counts.outside,
            one.counts.items,
            one.counts.units,
            f"{one.rate:.0f}/s",
            "was complete: nothing changed" if one.already_complete else "loaded",
        )
        for one in reports
    ]
    names = ("collection", "read", "written", "superseded", "dead letters", "outside", "items", "WCU", "rate", "")
    waits = [f"{one.collection}: {one.waits}; replication begins then" for one in reports if one.waits]
    return "\n".join([
        table_text(names, rows) + "read = written + superseded + dead letters + outside (the filter), for each collection", *waits
    ])  # fmt: skip


def table_text(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Rows under their names, 160 characters wide at most."""
    table = Table(*names)
    for row in rows:
        table.add_row(*map(str, row))
    console = Console(width=160)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def lag_lines(body: Mapping[str, Any]) -> Iterator[str]:
    """How far both replications are, where they have begun."""
    for name in ("replication", "reverse"):
        found = body[name]
        if found is not None:
            lag = "unknown" if found.get("lag_s") is None else f"{float(found['lag_s']):.0f} s"
            seen = f"{(now_ms() - int(found['at_ms'])) / 1000:.0f} s ago" if found.get("at_ms") else "once"
            owner = f"by {found['owner']}" if found.get("owner") else "no process does it now"
            yield f"{name}: lag {lag} when it was seen last, {seen}; {owner}"
    counts = ((body["replication"] or {}).get("first") or {}).get("counts", {})
    if any(mode in body["mode"] for mode in ("DUAL_WRITE", "DYNAMODB_READS")):
        most = sorted(counts.items(), key=lambda one: -int(one[1]))[:10]
        listing = "; ".join(f"{what} {int(count):,}" for what, count in most)
        yield f"written to MongoDB alone, by programs that do not use the client, or by puts that failed: {listing or 'nothing'}"
