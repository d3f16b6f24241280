"""What each phase needs to be allowed on MongoDB, as roles, and what a user's privileges lack of it. Pure.

Source: https://www.mongodb.com/docs/v6.0/reference/privilege-actions/ and .../reference/resource-document/;
https://www.mongodb.com/docs/atlas/reference/api-resources-spec/ (custom database roles), read 2026-11-29.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from docferry.core.cutover.marker import COLLECTION
from docferry.core.namespaces import Namespaces

Privilege = Mapping[str, Any]
"""As `connectionStatus` has it: `{resource: {db, collection} or {cluster: true} or {anyResource: true}, actions: [...]}`."""

_CLUSTER = {"cluster": True}
_OPLOG = {"db": "local", "collection": "oplog.rs"}
_ADMIN = {"db": "admin", "collection": ""}
WRITE_BLOCK, REVOKE = "write_block", "revoke"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What of the file matters here. `fence` is a kind of fence; "external" needs nothing of ours, and of any other word ("auto")
    either kind will do."""

    database: str
    collections: tuple[str, ...]
    where: Namespaces | None = None
    """Where the collections are, if not all in `database`."""
    to_create: frozenset[str] = frozenset()
    fence: str = "auto"
    kill_transactions: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Actions on one resource, for a phase."""

    phase: str
    resource: Mapping[str, Any]
    actions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lacking:
    """Actions that a phase needs on a resource, and the user may not do."""

    phase: str
    actions: tuple[str, ...]
    resource: str

    def __str__(self) -> str:
        return f"{self.phase}: MongoDB's user lacks {', '.join(self.actions)} on {self.resource}"


_FENCES: Mapping[str, Sequence[Need]] = {
    WRITE_BLOCK: [
        Need(
            phase="stop-mongo-writes (write block)",
            resource=_CLUSTER,
            actions=("setUserWriteBlockMode", "bypassWriteBlockingMode"),
        ),
    ],
    REVOKE: [
        Need(
            phase="stop-mongo-writes (revocation)",
            resource=_ADMIN,
            actions=("createRole", "dropRole", "grantRole", "revokeRole", "viewRole", "viewUser"),
        ),
    ],
}


def lacking(of: Wanted, privileges: Sequence[Privilege]) -> list[Lacking]:
    """What phases need and these privileges do not give."""
    found = [_lacking(need, privileges) for need in needs(of)]
    fences = {kind: [_lacking(need, privileges) for need in wanted] for kind, wanted in _FENCES.items()}
    fences = {kind: [one for one in lacks if one.actions] for kind, lacks in fences.items()}
    if of.fence in fences:
        found += fences[of.fence]
    elif of.fence != "external" and all(fences.values()):  # either would do
        found += [one for lacks in fences.values() for one in lacks]
    return [one for one in found if one.actions]


def needs(of: Wanted) -> Iterator[Need]:
    """What all kinds of fence have in common. Of several databases the change stream is the cluster's."""
    where = of.where or Namespaces(of.database)
    for database in where.databases:
        yield Need(phase="check", resource={"db": database, "collection": ""}, actions=("listCollections",))
    watched = {"db": "" if where.several else of.database, "collection": ""}
    yield Need(phase="replicate", resource=watched, actions=("changeStream", "find"))
    for name in of.collections:
        one = dict(zip(("db", "collection"), where.place_of(name), strict=True))
        yield Need(phase="check", resource=one, actions=("collStats", "find", "listIndexes"))
        made = ("collMod", "createCollection") if name in of.to_create else ("collMod",)
        yield Need(phase="provision", resource=one, actions=made)
        yield Need(phase="reverse", resource=one, actions=("insert", "remove", "update"))
    marker = {"db": of.database, "collection": COLLECTION}
    yield Need(phase="provision", resource=marker, actions=("createCollection", "find", "insert", "update"))
    yield Need(phase="backfill", resource=_OPLOG, actions=("collStats", "find"))
    yield Need(phase="replicate", resource=_CLUSTER, actions=("getClusterParameter",))
    yield Need(phase="health", resource=_CLUSTER, actions=("replSetGetStatus",))
    yield Need(phase="stop-mongo-writes", resource=_CLUSTER, actions=("inprog", "listDatabases"))
    if of.kill_transactions:
        yield Need(phase="stop-mongo-writes", resource=_CLUSTER, actions=("killAnySession",))


# --- roles ------------------------------------------------------------------------------------------------------------


def role(of: Wanted, name: str, fence: str) -> dict[str, Any]:
    """The `createRole` command of a role that may do all of it, with one kind of fence. It is made in database `admin`."""
    merged: dict[tuple[tuple[str, Any], ...], set[str]] = {}
    for need in (*needs(of), *_FENCES.get(fence, ())):
        merged.setdefault(tuple(need.resource.items()), set()).update(need.actions)
    privileges = [{"resource": dict(resource), "actions": sorted(actions)} for resource, actions in merged.items()]
    return {"createRole": name, "privileges": privileges, "roles": []}


def application_role(of: Wanted, name: str) -> dict[str, Any]:
    """The `createRole` command of what docferry.connect adds to the application's own rights: it reads who leads."""
    marker = {"db": of.database, "collection": COLLECTION}
    return {"createRole": name, "privileges": [{"resource": marker, "actions": ["find"]}], "roles": []}


def atlas_role(command: Mapping[str, Any]) -> dict[str, Any]:
    """The same as a custom database role of Atlas's Admin API: resources under each action, which it writes in capitals."""
    by_action: dict[str, list[Mapping[str, Any]]] = {}
    for privilege in command["privileges"]:
        for action in privilege["actions"]:
            by_action.setdefault(action, []).append(privilege["resource"])
    actions = [
        {"action": _in_capitals(action), "resources": [_of_atlas(one) for one in resources]}
        for action, resources in sorted(by_action.items())
    ]
    return {"roleName": command["createRole"], "actions": actions, "inheritedRoles": []}


def _in_capitals(action: str) -> str:
    return "".join(f"_{one}" if one.isupper() else one for one in action).upper()


def _of_atlas(resource: Mapping[str, Any]) -> dict[str, Any]:
    if "cluster" in resource:
        return {"cluster": True}
    return {"db": resource["db"], "collection": resource["collection"]}


# --- whether a privilege covers a need --------------------------------------------------------------------------------


def _lacking(need: Need, privileges: Sequence[Privilege]) -> Lacking:
    allowed = {action for one in privileges if _covers(one["resource"], need.resource) for action in one["actions"]}
    missing = () if "anyAction" in allowed else tuple(action for action in need.actions if action not in allowed)
    return Lacking(phase=need.phase, actions=missing, resource=_named(need.resource))


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
    return "the cluster" if "db" not in resource else f"{resource['db'] or '*'}.{resource['collection'] or '*'}"
