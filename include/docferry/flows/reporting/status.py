"""What the ledger knows about a migration, for people who ask how far it is. Reads only."""

from __future__ import annotations

from typing import Any

from docferry.config import Migration
from docferry.flows.ledger.dead_letters import list_letters
from docferry.flows.ledger.load_headers import NEW, Counts, LoadHeaders, late_of, list_chunks
from docferry.flows.ledger.mapping_fingerprint import changed_since
from docferry.flows.ledger.modes import describe_instance, list_instances, read_mode
from docferry.flows.ledger.positions import read_replication, recorded_position
from docferry.flows.ledger.rooms.reverse_stream import read_reverse
from docferry.flows.ledger.times import encode_time
from docferry.ports.flows import Ledger


def status_of(migration: Migration, ledger: Ledger) -> dict[str, Any]:
    """Who leads, the application's instances, both replications, and progress of each collection (documents, from the chunks'
    checkpoints)."""
    position, lives_s = recorded_position(ledger), migration.backfill.late_writes_s
    return {
        "migration": migration.name,
        "mode": str(read_mode(ledger)),
        "instances": [describe_instance(one) for one in list_instances(ledger) if not one.ended],
        "stream_position": encode_time(position.time) if position else None,
        "replication": replication_of(ledger),
        "reverse": reverse_of(ledger),
        "mapping_changed": changed_since(migration, ledger),
        "collections": [_collection(name, ledger, lives_s) for name in migration.mappings],
    }


def replication_of(ledger: Ledger) -> dict[str, Any] | None:
    """How far replication is, as of its last checkpoint `at_ms`; `lag_s` None is unknown. None: it never ran. `first` counts,
    since the last change of mode, what had not been written to DynamoDB before: by writers without the library, and failed puts.
    """
    state = read_replication(ledger)
    if state.position is None:
        return None
    windows = {"oplog_left_s": state.oplog_left_s, "in_danger": state.in_danger}
    return {
        "applied_up_to": encode_time(state.position.time),
        "at_ms": state.at_ms or None,
        "lag_s": state.lag_s,
        "behind": state.pending,
        "owner": state.holder.owner,
        **state.counts,
        "rate": state.rate,
        **(windows if state.oplog_left_s is not None else {}),
        "first": {"epoch": state.first_epoch, "counts": dict(state.first)},
        "waits": state.waits,
        "ended": state.ended,
    }


def reverse_of(ledger: Ledger) -> dict[str, Any] | None:
    """How far reverse replication is, as of its last checkpoint `at_ms`. None: no start is recorded."""
    state = read_reverse(ledger)
    if not state.started:
        return None
    return {
        "begun_ms": state.begun_ms,
        "applied_up_to_ms": state.reached_ms,
        "at_ms": state.at_ms or None,
        "owner": state.holder.owner,
        **state.counts,
        "letters": state.letters,
        "pending": state.pending,
        "lag_s": state.lag_s,
        "in_danger": state.in_danger,
        "ended": state.ended,
    }


def _collection(name: str, ledger: Ledger, lives_s: float) -> dict[str, Any]:
    header = LoadHeaders(ledger).read(name)
    chunks = list_chunks(ledger, name)
    total = sum((chunk.counts for chunk in chunks), Counts())
    return {
        "collection": name,
        "state": header.state if header else NEW,
        "waits": late_of(header, chunks).text(lives_s) if header else "",
        "owner": header.holder.owner if header else "",
        "chunks": len(chunks),
        "chunks_done": sum(chunk.done for chunk in chunks),
        "expected": sum(chunk.expected for chunk in chunks),
        "dead_letters_open": len(list_letters(ledger, name)),
        **total.to_dict(),
    }
