"""The records of the application's processes: those of long ago go, what they counted stays; and how many live is noted.

Each process and each fork leaves a record. The replicator clears them now and then: only records of processes that can
neither write any more nor have anything under way. What they counted is added up in one record first, because flips look at it.

In FINAL no process replicates. There each process gives its record a time to go, which DynamoDB itself keeps (TTL); `finalize`
does so for the records of those that are over.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from docferry.core.cutover.instances import EXPIRES, INSTANCES, KEPT_S, Instance
from docferry.core.cutover.modes import CROWD, Mode
from docferry.core.cutover.spent_shapes import added, dearest
from docferry.errors import ConditionFailed
from docferry.flows.ledger.modes import crowd_in, instance_in, live_instances, read_mode
from docferry.flows.ledger.times import now_ms
from docferry.ports.flows import Identity, Ledger, Record

CLEARED = "~cleared"
"""The key of the record that adds up what the cleared ones counted: an instance like others, which has ended."""
ENDED_FOR_S = 24 * 3600.0
"""After its end, or the end of the lease of one that is proved dead."""
VANISHED_FOR_S = 7 * 24 * 3600.0
"""After the lease of one of another host, which cannot be proved dead. What it has signed is void after minutes,
and should it wake, it registers as a new one."""
BATCH = 50
"""Cleared at once: their ids are in the record that adds up, until they are gone."""
MOST_SHAPES = 100


def may_be_cleared(one: Instance, identity: Identity, at_ms: int) -> bool:
    """Whether nothing of this process can happen any more, and no process waits to see it."""
    over_s = (at_ms - max(one.until_ms, one.beat_ms)) / 1000
    if one.ended or identity.ended(one.mark):
        return over_s > ENDED_FOR_S
    return over_s > VANISHED_FOR_S


def clear_instances(ledger: Ledger, identity: Identity) -> int:
    """Remove the records of processes that ended long ago. Returns how many; others may do the same at the same time.

    None while DynamoDB leads, or the leader is being changed: then they say what is to be proved. In FINAL they expire.

    Raises: StoreError. Whatever it raises, it can be run again: nothing is counted twice, and nothing is lost.
    """
    mode = read_mode(ledger)
    if mode.mode is Mode.HOLD or mode.leader.dynamodb_leads:
        return 0
    records = {record.key: record for record in ledger.list(INSTANCES)}
    summary = records.pop(CLEARED, None)
    if summary is not None:
        _delete(ledger, [records.pop(key) for key in summary.body["batch"] if key in records])  # added up already
    at_ms = now_ms()
    old = [record for record in records.values() if may_be_cleared(instance_in(record), identity, at_ms)]
    cleared = 0
    for start in range(0, len(old), BATCH):
        batch = old[start : start + BATCH]
        total = _added(instance_in(summary) if summary is not None else _nothing(at_ms), map(instance_in, batch))
        body = total.to_body() | {"batch": [record.key for record in batch]}
        try:
            summary = ledger.write(INSTANCES, CLEARED, body, expect=summary)
        except ConditionFailed:
            return cleared  # another process clears them right now
        cleared += _delete(ledger, batch)
    return cleared


def let_expire(ledger: Ledger, identity: Identity) -> int:
    """In FINAL: the records of processes that do not live go by the table's TTL, after KEPT_S. Returns how many will.

    Raises: StoreError.
    """
    live = {one.id for one in live_instances(ledger, identity)}  # a process whose record changes is struck off
    at_s, given = now_ms() // 1000 + KEPT_S, 0
    for record in ledger.list(INSTANCES):
        if record.key in live or EXPIRES in record.body:
            continue
        try:
            ledger.write(INSTANCES, record.key, {**record.body, EXPIRES: at_s}, expect=record)
        except ConditionFailed:
            continue  # it has woken, and gives its record a time itself
        given += 1
    return given


def note_crowd(ledger: Ledger, identity: Identity) -> int:
    """Say in the ledger how many processes live: they ask for the mode the more rarely the more they are. Returns the number."""
    live = len(live_instances(ledger, identity))
    record = ledger.read(*CROWD)
    known = crowd_in(record)
    if abs(live - known) * 4 > known:  # by a quarter: the process that follows need not know it better
        try:
            ledger.write(*CROWD, {"live": live}, expect=record)
        except ConditionFailed:
            return live  # noted by another, just now
    return live


def _delete(ledger: Ledger, records: Sequence[Record]) -> int:
    gone = 0
    for record in records:
        try:
            ledger.delete(record)
        except ConditionFailed:
            continue  # cleared by another process, or it has woken and writes on: then it counts once more
        gone += 1
    return gone


def _nothing(at_ms: int) -> Instance:
    return Instance(
        id=CLEARED, name="ended long ago", mark="", epoch=0, registered_ms=at_ms, beat_ms=at_ms, until_ms=0, ended=True
    )


def _added(total: Instance, more: Sequence[Instance] | map[Instance]) -> Instance:
    counts, unserved, spent, since_ms = (
        Counter(total.counts),
        Counter(total.unserved),
        [total.spent],
        total.spent_since_ms,
    )
    for one in more:
        counts.update(one.counts)
        unserved.update(one.unserved)
        spent.append(one.spent)
        since_ms = min(filter(None, (since_ms, one.spent_since_ms)), default=0)
    return replace(
        total,
        counts=dict(counts),
        unserved=_bounded(unserved),
        spent=dearest(added(spent)),
        spent_since_ms=since_ms,
        beat_ms=now_ms(),
    )


def _bounded(unserved: Counter[str]) -> Mapping[str, int]:
    """The shapes with the most calls; all others are one."""
    most = dict(unserved.most_common(MOST_SHAPES))
    rest = unserved.total() - sum(most.values())
    return most if not rest else most | {"other shapes": most.get("other shapes", 0) + rest}


class Housekeeping:
    """What the replicator does for the application's processes, now and then: counts them, and clears old records."""

    COUNT_S, CLEAR_S = 60.0, 3600.0

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._counted = self._cleared = float("-inf")

    def look(self, ledger: Ledger, identity: Identity) -> None:
        """Raises StoreError."""
        now = self._monotonic()
        if now - self._counted > self.COUNT_S:
            note_crowd(ledger, identity)
            self._counted = now
        if now - self._cleared > self.CLEAR_S:
            clear_instances(ledger, identity)
            self._cleared = now
