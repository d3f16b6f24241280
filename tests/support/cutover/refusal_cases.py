"""What can be wrong, one thing at a time: for each reason that refuses a phase, how a migration that is ready comes to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from docferry.core.cutover.fence_plan import UserFacts
from docferry.core.cutover.modes import Mode
from docferry.core.cutover.mongodb_clients import Doing, Sighting
from docferry.core.mapping.raw import id_bytes
from docferry.errors import AccessDenied, ItemTooLarge
from docferry.flows.ledger.dead_letters import open_letter
from docferry.flows.ledger.modes import read_mode
from docferry.flows.ledger.reports import LATEST, SECTION
from docferry.flows.ledger.reverse_letters import open_reverse_letter
from docferry.flows.ledger.rooms.fence import FENCE
from docferry.flows.ledger.rooms.owners import OWNERS
from docferry.flows.ledger.rooms.reverse_stream import REVERSE
from docferry.flows.ledger.rooms.strays import Stray, open_stray
from docferry.flows.ledger.rooms.watch import Old, Watch, begin_watch
from docferry.flows.ledger.times import now_ms
from docferry.testing.fakes import FakeClients

from support.cutover.refusing import ALONE, READS, Ready

Break = Callable[[Ready], Any]
FOREIGN = Sighting(
    app="cron", driver="pymongo 4", user="admin.cron", host="h", doing=Doing.WRITE, namespace="myapp.users"
)


def report(world: Ready, **changes: Any) -> None:
    """The last validation, with another word in it."""
    record = world.ledger.read(SECTION, LATEST)
    assert record is not None
    shown = json.loads(record.body["report"]) | changes
    body = {"report": json.dumps(shown).encode(), "ok": shown["verdict"] == "EQUAL", "at": shown["at_ms"]}
    world.ledger.write(SECTION, LATEST, {**record.body, **body}, expect=record)


def different(world: Ready) -> None:
    report(world, verdict="DIFFERENT", ok=False)


def owned_by_another(world: Ready) -> None:
    claims = world.ledger.of_table("Tab")
    record = claims.read(*OWNERS)
    assert record is not None
    (mine,) = record.body["claims"]
    claims.write(*OWNERS, {"claims": [{**mine, "migration": "other"}]}, expect=record)


def user(world: Ready, **changes: Any) -> None:
    found = UserFacts(id="admin.job", bypasses=False, writes=False)
    world.mongo.found = replace(world.mongo.found, users=(*world.mongo.found.users, replace(found, **changes)))


def archived(world: Ready) -> None:
    world.estate.tables["Tab"] = replace(world.estate.tables["Tab"], status="ARCHIVED")


def denied(world: Ready) -> None:
    world.leader.faults["rehearse"].fail_always(AccessDenied("not allowed"))
    world.leader.faults["write"].fail_always(AccessDenied("not allowed"))


def letter(world: Ready) -> None:
    open_letter(world.ledger, "users", ItemTooLarge("too large", id="7"), b"", 7)


def late_lift(world: Ready) -> None:
    world.put(*FENCE, state="down", late_by="slow", late_at=now_ms())


def short_oplog(world: Ready) -> None:
    world.changed(0, x=1)
    world.source.history_from = world.source.cluster_time()


def wide(world: Ready) -> None:
    world.changed("wide", notes=[{"n": number} for number in range(120)])


def no_majority(world: Ready) -> None:
    world.source.facts = replace(world.source.facts, write_majority_ok=False)


def old_report(world: Ready) -> None:
    report(world, at_ms=now_ms() - 27 * 3_600_000)


def unapproved(world: Ready) -> None:
    for record in world.ledger.list("approvals"):
        world.ledger.delete(record)


def unloaded(world: Ready) -> None:
    world.gone("backfill", "users")


def another_mapping(world: Ready) -> None:
    world.put("backfill", "users", mapping="f1-another")


def no_application(world: Ready) -> None:
    world.gone("instances", "i1")


def watched(world: Ready) -> None:
    begin_watch(world.ledger, Watch(old=Old.DYNAMODB, begun_ms=now_ms(), least_s=900.0))


def stray(world: Ready) -> None:
    found = Stray(old=Old.MONGODB, place="a", collection="users", id="7", operation="update", at="now")
    assert open_stray(world.ledger, found)


STRAYS: dict[str, Break] = {"stray writes that are not settled": stray}
MARKER: dict[str, Break] = {"docferry's user cannot write `docferry.leader` in a transaction": denied}
UNWELL: dict[str, Break] = {
    "no majority of data-bearing members": no_majority,
    "tables that are not active": archived,
}
INDEXES: dict[str, Break] = {
    "a unique index that the file names, and that is another in MongoDB": lambda world: world.source.indexes.clear(),
}
LOADED: dict[str, Break] = {
    "a mapping that has changed since the load": another_mapping,
    "a table that is another migration's": owned_by_another,
}
STOP: dict[str, Break] = {
    **MARKER, **UNWELL, **LOADED, **STRAYS, **INDEXES,
    "a process whose file names other unique indexes": lambda world: world.instance(indexes=""),
    "a watch of DynamoDB, after a way back, that is not over": watched,
    "the mode is not DYNAMODB_READS with 100 %": lambda world: world.set_mode(replace(READS, percent=50)),
    "no full validation, one that is not EQUAL, or of another leader": different,
    "a validation that is over 26 hours old": old_report,
    "a report without a time up to which all is equal": lambda world: report(world, equal_up_to=None),
    "a collection that is not loaded": unloaded,
    "open dead letters": letter,
    "a load, repair or replay under way": lambda world: world.put(
        "writers", "repair", owner="other", mark="alive", until=now_ms() + 60_000
    ),
    "requests of a load that may still be carried out": lambda world: world.put(
        "backfill", "users", unanswered=3, unanswered_ms=now_ms()
    ),
    "oplog or images that no longer reach back to replication's position, or to the validation": short_oplog,
    "a table without a stream that holds both images": lambda world: setattr(world.streams, "images", False),
    "a process that replicates in reverse": lambda world: world.put(
        *REVERSE, owner="other", mark="alive", until=now_ms() + 60_000
    ),
    "a unique index that neither the file nor a key keeps, and that is not waived": lambda world: (
        world.source.unique.update({"users": (frozenset({"email"}),)})
    ),
    "a document with more than 99 children": wide,
    "no kind of fence would hold": lambda world: user(world, bypasses=True),
    "a transaction that has been open for longer than writes may wait": lambda world: world.mongo.begin(open_s=3600.0),
    "a lift of the fence that may be on its way": late_lift,
    "a user of the application who cannot read `docferry.leader`": lambda world: user(
        world, writes=True, reads_marker=False
    ),
    "no process of the application, or one that has not followed": no_application,
    "a program that writes to MongoDB without the client, and is not waived": lambda world: setattr(
        world, "clients", FakeClients([FOREIGN])
    ),
    "no table for the journals": lambda world: setattr(world.journal, "missing", True),
    "a process whose docferry knows no journal": lambda world: world.instance(lanes=0),
    "no approval of this evidence": unapproved,
}  # fmt: skip
DUAL_WRITE: dict[str, Break] = {
    **MARKER, **LOADED, **INDEXES,
    "the mode is none from which DUAL_WRITE": lambda world: world.set_mode(replace(READS, mode=Mode.FINAL)),
    "a collection that is not loaded": unloaded,
    "replication that does not run": lambda world: world.replicator(at=now_ms() - 3_600_000),
}  # fmt: skip
FLIP: dict[str, Break] = {
    **MARKER, **UNWELL, **LOADED, **INDEXES,
    "the mode is none from which DYNAMODB_READS": lambda world: world.set_mode(ALONE),
    "a collection that is not loaded": unloaded,
    "no full validation, one that is not EQUAL, or of another leader": different,
    "a validation that is over 26 hours old": old_report,
    "open dead letters": letter,
    "replication that does not run": lambda world: world.replicator(lag_s=3_600),
    "a call that DynamoDB cannot answer": lambda world: world.instance(unserved={"users.find(x)": 1}),
    "too few compared reads": lambda world: world.instance(counts={"shadow.equal": 300, "shadow.mismatch": 30}),
    "no process of the application, or one that has not followed": lambda world: world.instance(epoch=2),
    "no approval of this evidence": unapproved,
}  # fmt: skip
RETURN: dict[str, Break] = {
    **MARKER, **UNWELL, **LOADED, **STRAYS,
    "the mode is not DYNAMODB_ONLY": lambda world: world.set_mode(replace(READS, mode=Mode.FINAL)),
    "a process that vanished": lambda world: world.instance(until_ms=now_ms() - 120_000, lanes=0),
    "no full validation since DynamoDB leads": lambda world: report(world, direction="forward"),
    "open dead letters of reverse replication": lambda world: open_reverse_letter(
        world.ledger, "Tab", ("USER#7", "DATA"), id_bytes(7), ItemTooLarge("too large", id="7")
    ),
    "no start of reverse replication": lambda world: world.put(*REVERSE, reached=now_ms() - 25 * 3_600_000),
    "as far as DUAL_WRITE": unloaded,
}  # fmt: skip

END: dict[str, Break] = {
    **STRAYS,
    "the mode is none from which FINAL": lambda world: world.set_mode(READS),
    "no full validation, one that is not EQUAL": different,
    "a validation that is over 26 hours old": old_report,
    "no approval of this evidence": unapproved,
    "a watch of MongoDB that is not over": lambda world: begin_watch(
        world.ledger, Watch(old=Old.MONGODB, begun_ms=now_ms(), least_s=900.0, floor=read_mode(world.ledger).floor)
    ),
    "a program that still uses MongoDB": lambda world: setattr(world, "clients", FakeClients([FOREIGN])),
}
