"""What each phase needs to be allowed, and lacks: all of it at once, before a phase fails for want of the first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from docferry.config import Migration
from docferry.core.cutover.marker import COLLECTION
from docferry.errors import AccessDenied, StoreError
from docferry.ports.flows import Estate, Source

Privilege = Mapping[str, Any]
"""As `connectionStatus` has it: `{resource: {db, collection} or {cluster: true} or {anyResource: true}, actions: [...]}`."""

_CLUSTER = {"cluster": True}
_OPLOG = {"db": "local", "collection": "oplog.rs"}
_ADMIN = {"db": "admin", "collection": ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lacking:
    """Actions that a phase needs on a resource, and the user may not do."""

    phase: str
    actions: tuple[str, ...]
    resource: str

    def __str__(self) -> str:
        return f"{self.phase}: MongoDB's user lacks {', '.join(self.actions)} on {self.resource}"


def lacking_in_mongodb(migration: Migration, privileges: Sequence[Privilege]) -> list[Lacking]:
    """What phases need and these privileges do not give. Pure."""
    found = [_lacking(need, privileges) for need in _needs(migration)]
    fences = {kind: [_lacking(need, privileges) for need in needs] for kind, needs in _FENCES.items()}
    fences = {kind: [one for one in lacks if one.actions] for kind, lacks in fences.items()}
    wanted = migration.cutover.fence
    if wanted in fences:
        found += fences[wanted]
    elif all(fences.values()):  # either would do
        found += [one for lacks in fences.values() for one in lacks]
    return [one for one in found if one.actions]


_Need = tuple[str, Mapping[str, Any], tuple[str, ...]]
_FENCES: Mapping[str, Sequence[_Need]] = {
    "write_block": [
        ("stop-mongo-writes (write block)", _CLUSTER, ("setUserWriteBlockMode", "bypassWriteBlockingMode")),
    ],
    "revoke": [
        (
            "stop-mongo-writes (revocation)",
            _ADMIN,
            ("createRole", "dropRole", "grantRole", "revokeRole", "viewRole", "viewUser"),
        ),
    ],
}


def _needs(migration: Migration) -> Iterator[_Need]:
    database = migration.source.database
    whole = {"db": database, "collection": ""}
    yield "check", whole, ("listCollections",)
    yield "replicate", whole, ("changeStream", "find")
    for name in migration.mappings:
        one = {"db": database, "collection": name}
        yield "check", one, ("collStats", "find", "listIndexes")
        yield "provision", one, ("collMod", "createCollection") if name in migration.to_create else ("collMod",)
        yield "reverse", one, ("insert", "remove", "update")
    marker = {"db": database, "collection": COLLECTION}
    yield "provision", marker, ("createCollection", "find", "insert", "update")
    yield "backfill", _OPLOG, ("collStats", "find")
    yield "replicate", _CLUSTER, ("getClusterParameter",)
    yield "health", _CLUSTER, ("replSetGetStatus",)
    yield "stop-mongo-writes", _CLUSTER, ("inprog", "listDatabases")
    if migration.cutover.kill_transactions:
        yield "stop-mongo-writes", _CLUSTER, ("killAnySession",)


def _lacking(need: _Need, privileges: Sequence[Privilege]) -> Lacking:
    phase, resource, actions = need
    allowed = {action for one in privileges if _covers(one["resource"], resource) for action in one["actions"]}
    missing = () if "anyAction" in allowed else tuple(action for action in actions if action not in allowed)
    return Lacking(phase=phase, actions=missing, resource=_named(resource))


def _covers(given: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether a privilege's resource includes another (MongoDB's manual: Resource Document)."""
    if given.get("anyResource"):
        return True
    if "db" not in wanted or "db" not in given:
        return bool(given.get("cluster") and wanted.get("cluster"))
    same_database = given["db"] in ("", wanted["db"])
    if wanted["collection"].startswith("system.") or (wanted["db"], given["db"]) == ("local", ""):
        return bool(given == wanted)  # "any database" leaves local out
    return same_database and given["collection"] in ("", wanted["collection"])


def _named(resource: Mapping[str, Any]) -> str:
    return "the cluster" if "db" not in resource else f"{resource['db']}.{resource['collection'] or '*'}"


# --- AWS -------------------------------------------------------------------------------------------------------------

_AWS: Mapping[str, tuple[str, ...]] = {
    "provision": (
        "CreateTable", "UpdateTable", "UpdateContinuousBackups", "UpdateTimeToLive", "TagResource", "DescribeContinuousBackups",
        "DescribeTimeToLive", "ListTagsOfResource",
    ),
    "backfill and replicate": ("BatchWriteItem", "GetItem", "PutItem", "Query", "Scan", "UpdateItem", "DeleteItem"),
    "the application": ("GetItem", "BatchGetItem", "Query", "Scan", "PutItem", "ConditionCheckItem"),
    "reverse": ("DescribeStream", "GetShardIterator", "GetRecords"),
    "rollback points": ("CreateBackup", "DescribeBackup", "DeleteBackup"),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PermissionReport:
    """`lacking` refuses a phase; `unchecked` says what can only be known by doing it."""

    lacking: tuple[str, ...]
    unchecked: tuple[str, ...]


def permissions_of(migration: Migration, source: Source, estate: Estate | None) -> PermissionReport:
    """Ask both sides, without changing anything. `estate` None: AWS is not configured. Raises StoreError of MongoDB."""
    lacking: list[str] = []
    unchecked: list[str] = []
    privileges = source.privileges()
    if privileges is None:
        unchecked.append(
            "MongoDB: the connection has no user; without access control everything is allowed, with it nothing is"
        )
    else:
        lacking += map(str, lacking_in_mongodb(migration, privileges))
    if estate is None:
        unchecked.append("AWS: no credentials are configured, so nothing was asked")
    else:
        lacking += _describe(migration, estate, unchecked)
    for phase, actions in _AWS.items():
        told = ", ".join(f"dynamodb:{one}" for one in actions)
        unchecked.append(f"AWS, {phase}: {told}: only the call itself can show it, and it was not tried")
    return PermissionReport(lacking=tuple(lacking), unchecked=tuple(unchecked))


def _describe(migration: Migration, estate: Estate, unchecked: list[str]) -> Iterator[str]:
    for name in (*(table.name for table in migration.tables), migration.ledger.table):
        try:
            estate.fetch_table(name)
        except AccessDenied as error:
            yield f"every phase: AWS refuses to describe the table {name}: {error}"
        except StoreError as error:
            unchecked.append(f"AWS: the table {name} could not be described: {error}")
