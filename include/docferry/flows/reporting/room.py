"""What the night's page shows of a migration, from the ledger alone: no document, no secret. Reads only.

One query for each section of the ledger; dead letters and chunks have one for each collection, and `RoomMemory` saves the page
that looks every few seconds most of those.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from docferry.config import Migration
from docferry.config.price_book import load_price_book
from docferry.core.access.advice import advice_on
from docferry.core.cutover.instances import Instance, unserved_by
from docferry.core.cutover.modes import Mode, ModeState
from docferry.errors import TableMissing
from docferry.flows.ledger.approvals import list_answers, list_approvals
from docferry.flows.ledger.dead_letters import list_looks
from docferry.flows.ledger.load_headers import NEW, Counts, LoadHeader, LoadHeaders
from docferry.flows.ledger.modes import describe_instance, list_instances, list_moves, read_mode
from docferry.flows.ledger.reports import RecordedReport, latest_report
from docferry.flows.ledger.rooms.spent import list_spent
from docferry.flows.ledger.rooms.strays import list_strays
from docferry.flows.ledger.times import now_ms
from docferry.flows.preflight.thresholds import REPORT_AGE_S, SEEN_S
from docferry.flows.reporting.memory import LoadProgress, RoomMemory
from docferry.flows.reporting.status import replication_of, reverse_of
from docferry.ports.flows import Ledger

MOST_SHOWN = 100
"""Of a list that has no end: the newest, or the most frequent."""


def room_of(migration: Migration, ledger: Ledger, memory: RoomMemory | None = None) -> dict[str, Any]:
    """Plain values for JSON; ages in seconds, at the moment `at_ms`. Before it is provisioned there is nothing but that.
    `memory` is of the looks before; without one all is read.

    Raises: StoreError.
    """
    try:
        return _room(migration, ledger, memory or RoomMemory())
    except TableMissing:
        return {"migration": migration.name, "at_ms": now_ms(), "provisioned": False}


def _room(migration: Migration, ledger: Ledger, memory: RoomMemory) -> dict[str, Any]:
    now, mode = now_ms(), read_mode(ledger)
    instances, report = list_instances(ledger), latest_report(ledger)
    headers, letters = LoadHeaders(ledger).all(), memory.letters(ledger, migration.mappings)
    loads = memory.loads(ledger, [headers[name] for name in migration.mappings if name in headers])
    collections = [
        _collection(name, headers.get(name), loads.get(name), now)
        | {"letters": letters[name], "compared": _compared(name, report)}
        for name in migration.mappings
    ]
    return {
        "migration": migration.name,
        "at_ms": now,
        "provisioned": True,
        "leads": _leads(mode, now),
        "replication": _seen(replication_of(ledger), now),
        "reverse": _seen(reverse_of(ledger), now) if mode.leader is Mode.DYNAMODB_ONLY else None,
        "collections": collections,
        "validation": _validation(report, now),
        "application": _application(instances),
        "unserved": _unserved(migration, instances),
        "strays": len(list_strays(ledger)),
        "spent": _spent(ledger, sum(one["units"] for one in collections)),
        "audit": sorted(_audit(ledger), key=lambda one: -int(one["at_ms"]))[:MOST_SHOWN],
    }


def _leads(mode: ModeState, now: int) -> dict[str, Any]:
    """Who leads, and while writes wait, for how long they still may."""
    held = mode.mode is Mode.HOLD
    return {
        "mode": str(mode),
        "leader": "DynamoDB" if mode.leader.dynamodb_leads else "MongoDB",
        "epoch": mode.epoch,
        "percent": mode.percent,
        "hold_left_s": (mode.deadline_ms - now) / 1000 if held else None,
        "ways_back": [str(one) for one in mode.ways_back],
    }


def _seen(state: dict[str, Any] | None, now: int) -> dict[str, Any] | None:
    """With how long ago it was noted: what has not been noted for long is not known."""
    if state is None:
        return None
    age_s = (now - int(state["at_ms"])) / 1000 if state["at_ms"] else None
    return {**state, "noted_s": age_s, "fresh": age_s is not None and age_s <= SEEN_S}


def _collection(name: str, header: LoadHeader | None, load: LoadProgress | None, now: int) -> dict[str, Any]:
    """`counted` is false of a load under way whose chunks have not been read yet."""
    counts = header.counts if header and header.complete else load.counts if load else Counts()
    expected = (load.expected if load else 0) or counts.read
    began = header.started_ms if header else 0
    seconds = ((header.finished_ms if header.complete else now) - began) / 1000 if header and began else 0.0
    rate = counts.read / seconds if seconds > 0 else 0.0
    return {
        "collection": name,
        "state": header.state if header else NEW,
        "counted": load is not None or header is None or header.complete,
        "documents": counts.read,
        "items": counts.items,
        "units": counts.units,
        "expected": expected,
        "chunks": header.chunks if header else 0,
        "chunks_done": load.done if load else header.chunks if header and header.complete else 0,
        "rate": rate,
        "left_s": (expected - counts.read) / rate if load and load.chunks and rate else None,
    }


def _compared(name: str, report: RecordedReport | None) -> dict[str, Any] | None:
    collections = report.collections if report else ()
    return next((one.to_dict() for one in collections if one.collection == name), None)


def _validation(report: RecordedReport | None, now: int) -> dict[str, Any] | None:
    if report is None:
        return None
    age_s = (now - report.at_ms) / 1000
    return {
        "verdict": report.verdict,
        "equal": report.equal,
        "age_s": age_s,
        "fresh": age_s <= REPORT_AGE_S,
        "digest": report.digest,
        "judged": str(report.direction),
    }


def _application(instances: Sequence[Instance]) -> dict[str, Any]:
    """Processes that live; what their reads have shown counts those that have ended, too."""
    told = [describe_instance(one) for one in instances]
    live = [one for one in told if one["live"]]
    counts = {name: sum(one.counts.get(f"shadow.{name}", 0) for one in instances) for name in ("equal", "mismatch")}
    return {
        "live": len(live),
        "by_mode": {
            mode: sum(one["mode"] == mode for one in live) for mode in sorted({str(one["mode"]) for one in live})
        },
        "oldest_s": max((one["seen_s_ago"] for one in live), default=0.0),
        "reads_equal": counts["equal"],
        "reads_different": counts["mismatch"],
    }


def _unserved(migration: Migration, instances: Sequence[Instance]) -> list[dict[str, Any]]:
    return [
        {"shape": shape, "calls": count, "instead": advice_on(shape, migration.mappings)}
        for shape, count in unserved_by(instances, ()).most_common(MOST_SHOWN)
    ]


def _spent(ledger: Ledger, loaded: int) -> dict[str, Any]:
    """What flows have consumed so far, at on-demand list prices. `loaded`: write units of the loads."""
    book, found = load_price_book(), list_spent(ledger)
    reads = sum(one.spent.read_units for one in found)
    writes = loaded + sum(one.spent.write_units for one in found)
    usd = (reads * book.read_request_million + writes * book.write_request_million) / 1e6
    return {"read_units": reads, "write_units": writes, "usd": usd, "book": book.title}


def _audit(ledger: Ledger) -> Iterator[dict[str, Any]]:
    """Who changed the mode, who allowed what, who did not, and who looked at documents."""
    for move in list_moves(ledger):
        yield {"at_ms": move.at_ms, "by": move.by, "what": f"{move.before} became {move.after}", "why": move.why}
    for one in list_approvals(ledger):
        what = f"{one.phase} was approved on report {one.evidence[:12]}"
        yield {"at_ms": one.at_ms, "by": one.by, "what": what, "why": one.why}
    for answer in list_answers(ledger):
        what = f"the answer to {answer.phase}, on report {answer.evidence[:12]}: {answer.what}"
        yield {"at_ms": answer.at_ms, "by": answer.by, "what": what, "why": answer.why}
    for look in list_looks(ledger):
        named = ", ".join(look.letters[:3]) + (" ..." if len(look.letters) > 3 else "")
        what = f"looked at {len(look.letters)} dead letter(s) of {look.collection}: {named}"
        yield {"at_ms": look.at_ms, "by": look.by, "what": what, "why": ""}
