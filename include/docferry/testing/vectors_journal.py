"""Vectors of the journal: entries as items, and what an entry in the way of a write means for it."""

from __future__ import annotations

from typing import Any, Final

from docferry.core.cutover.journal import ENTRY_LIVES_S, Entry, EntryKind, Lane, LaneName, Wrote, entry_item
from docferry.core.mapping.items import Item
from docferry.core.versions import version_text
from docferry.testing.vectors_documents import VERSION

INSTANCE: Final = "0123456789abcdef0123456789abcdef"
ROOT: Final = Wrote(table="Shop", key=("USER#ann", "PROFILE"), version=version_text(VERSION))
EXPIRING: Final = Wrote(table="Shop", key=("EVENT#~i1", "DATA"), version=version_text(VERSION), expires_s=1_705_333_530)
ENTRIES: Final[tuple[tuple[str, int, Entry], ...]] = (
    ("one document", 1, Entry(kind=EntryKind.WRITE, nonce="NONCE", wrote=(ROOT,))),
    ("a document whose key has moved", 2, Entry(kind=EntryKind.WRITE, nonce="NONCE", wrote=(ROOT, ROOT))),
    ("a document that expires", 3, Entry(kind=EntryKind.WRITE, nonce="NONCE", wrote=(EXPIRING,))),
    ("a void, before an acknowledgement", 4, Entry(kind=EntryKind.VOID, nonce="NONCE")),
    ("a seal, by who changes the leader", 1_000_000, Entry(kind=EntryKind.SEAL, nonce="NONCE")),
)
MEETINGS: Final[tuple[tuple[list[str], EntryKind, str], ...]] = (
    (["mine"], EntryKind.WRITE, "mine"),
    (["earlier", "mine"], EntryKind.WRITE, "earlier"),
    (["earlier", "mine"], EntryKind.VOID, "earlier"),
    (["mine"], EntryKind.SEAL, "theirs"),
    (["mine"], EntryKind.WRITE, "theirs"),
)
"""The nonces of what was sent for a slot, the last one refused; what is in the slot, and its nonce."""


def journal() -> Any:
    """`entries`: in the partition of a lane. `meetings`: what a process does that was refused in slot 1 of a lane."""
    return {
        "entries": [_entry(*one) for one in ENTRIES],
        "meetings": [_meeting(*one) for one in MEETINGS],
    }


def _entry(what: str, slot: int, entry: Entry) -> dict[str, Any]:
    item = entry_item(LaneName(INSTANCE, 1).partition("shop"), slot, entry, 0)
    wrote = [[one.table, *one.key, one.version, one.expires_s] for one in entry.wrote]
    about = {"what": what, "migration": "shop", "instance": INSTANCE, "lane": 1, "slot": slot}
    return about | {"kind": entry.kind.value, "wrote": wrote, "item": timeless_entry(item)}


def timeless_entry(item: Item) -> Item:
    """The time at which it expires, and its nonce, in words."""
    return item | {"_ttl": {"N": f"NOW_S+{ENTRY_LIVES_S}"}, "nonce": {"S": "NONCE"}}


def _meeting(sent: list[str], kind: EntryKind, nonce: str) -> dict[str, Any]:
    lane = Lane(LaneName(INSTANCE, 1))
    for one in sent:
        lane.send(one)
    answer = lane.meet(Entry(kind=kind, nonce=nonce), sent[-1])
    return {"sent": sent, "there": {"kind": kind.value, "nonce": nonce}, "answer": answer.value, "next": lane.next}
