"""What a fence on MongoDB is made of, and which kind will hold. Pure: nothing is fenced here.

    choose_fence(facts, settings) -> FenceKind | problems    the write block, the application's roles, or why neither
    grant_of(user, roles, scope)  -> Grant                   what revocation takes from one user, and what it leaves
    without_writes(privileges, scope)                        privileges, less the writes to the migration's collections

Users and roles are named as MongoDB names them in `admin.system.users`: `<database>.<name>`.

Source: https://www.mongodb.com/docs/v6.0/reference/command/setUserWriteBlockMode/, .../reference/privilege-actions/ and
        .../reference/resource-document/, read 2026-11-24.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from docferry.core.settings import CutoverSettings
from docferry.errors import Problem

BYPASS = "bypassWriteBlockingMode"
DATA_ACTIONS = frozenset(
    {"insert", "update", "remove", "dropCollection", "dropDatabase", "renameCollectionSameDB", "convertToCapped"}
    | {"emptycapped", "anyAction"}
)
"""Privilege actions that change documents. `anyAction` is what the role __system has."""
WRITE_ACTIONS = DATA_ACTIONS | {"createCollection", "createIndex", "dropIndex", "collMod", "bypassDocumentValidation"}
"""What a stand-in role does not get: the above, and what changes collections."""
NEVER_EXPIRES_S = 2**31 - 1
"""The largest `expireAfterSeconds`: 68 years."""


class FenceKind(StrEnum):
    """How MongoDB is made to refuse the application's writes."""

    WRITE_BLOCK = "write_block"
    """The whole cluster refuses everybody without bypassWriteBlockingMode. Stops the TTL monitor, too."""
    REVOKE = "revoke"
    """The application's users lose the roles by which they write to the collections. The TTL monitor goes on deleting."""
    EXTERNAL = "external"
    """A command of the operator's closes it, where MongoDB has none; what it closed is proved by the change stream."""


class FenceState(StrEnum):
    """What MongoDB itself says about a fence."""

    UP = "up"
    DOWN = "down"
    UNKNOWN = "unknown"
    """It cannot be told, or some of what the fence takes is taken and some is not: raise it again, or lift it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenTransaction:
    """A transaction that is open on the primary. `session` is BSON of its lsid.

    Whether it has written cannot be told: one that reads holds the same locks (shown on 6.0.5), and they keep a fence out.
    """

    app: str
    user: str
    client: str
    open_s: float
    session: bytes = field(repr=False)

    def __str__(self) -> str:
        who = f"{self.app or 'no appName'} (user {self.user or 'unknown'}, {self.client})"
        return f"{who}: transaction open for {self.open_s:.1f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningOperation:
    """An operation that began before its user lost the right to it, and goes on."""

    app: str
    user: str
    client: str
    running_s: float
    what: str

    def __str__(self) -> str:
        return f"{self.app or 'no appName'} (user {self.user}, {self.client}): {self.what}, running for {self.running_s:.1f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class StrayWrite:
    """An entry of the oplog that docferry did not write: where and when, never what. `user` '' where it does not tell."""

    namespace: str
    operation: str
    at: str
    user: str

    def __str__(self) -> str:
        return f"{self.operation} in {self.namespace} at {self.at} by {self.user or 'an unknown user'}"


# --- roles and privileges --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Privilege:
    """Some actions on one resource, which is {db, collection} ('' is any), {cluster: true} or {anyResource: true}."""

    resource: Mapping[str, Any]
    actions: frozenset[str]

    def covers(self, database: str, collection: str) -> bool:
        """Whether it is about this collection."""
        if self.resource.get("anyResource"):
            return True
        if "collection" not in self.resource or self.resource.get("db") not in ("", database):
            return False
        named = self.resource["collection"]
        # A resource without a name means all but system collections.
        return bool(named == collection or (named == "" and not collection.startswith("system.")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What the fence is about: the migration's collections. `others` are other collections of its database, `databases` the
    other databases that hold something; admin, local and config are in neither. Where the migration's collections are in several
    databases, `places` are those outside of `database`, and `beside` the others there: (database, collection)."""

    migration: str
    database: str
    collections: tuple[str, ...]
    others: tuple[str, ...] = ()
    databases: tuple[str, ...] = ()
    places: tuple[tuple[str, str], ...] = ()
    beside: tuple[tuple[str, str], ...] = ()

    @property
    def ours(self) -> tuple[tuple[str, str], ...]:
        """(database, collection) of all of the migration."""
        return (*((self.database, name) for name in self.collections), *self.places)

    @property
    def neighbours(self) -> tuple[tuple[str, str], ...]:
        """(database, collection) of what else is in these databases."""
        return (*((self.database, name) for name in self.others), *self.beside)

    @property
    def elsewhere(self) -> tuple[tuple[str, str], ...]:
        """(database, collection) of all that must go on being written; collection '' is all of a database."""
        return (*self.neighbours, *((name, "") for name in self.databases))

    def is_written_by(self, privileges: Sequence[Privilege]) -> bool:
        """Whether these privileges let a user change a document of the migration's collections."""
        return any(one.actions & DATA_ACTIONS and any(one.covers(*place) for place in self.ours) for one in privileges)


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """One role that a user holds directly, with all that it grants, inherited privileges included."""

    database: str
    name: str
    privileges: tuple[Privilege, ...] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What revocation takes from one user: `roles` are (database, role).

    `stand_in` is the role in admin that the user gets meanwhile, with `kept` as its privileges: everything that the roles
    grant, but for writes to the migration's collections. `to_body` leaves `kept` out: lifting needs only names.
    """

    user: str
    roles: tuple[tuple[str, str], ...]
    stand_in: str
    kept: tuple[Privilege, ...] = field(default=(), repr=False)

    def to_body(self) -> dict[str, Any]:
        return {"user": self.user, "roles": [list(role) for role in self.roles], "stand_in": self.stand_in}

    @staticmethod
    def from_body(body: Mapping[str, Any]) -> Grant:
        roles = tuple((str(database), str(name)) for database, name in body["roles"])
        return Grant(user=body["user"], roles=roles, stand_in=body["stand_in"])


@dataclass(frozen=True, slots=True, kw_only=True)
class FencePlan:
    """A fence that can be raised and, by every process that reads it in the ledger, lifted."""

    kind: FenceKind
    grants: tuple[Grant, ...] = ()
    memo: str = field(default="", repr=False)
    """What the command of an external fence needs to open it again, as it said before it closed it."""

    def to_body(self) -> dict[str, Any]:
        body: dict[str, Any] = {"kind": self.kind.value, "grants": [one.to_body() for one in self.grants]}
        return body | ({"memo": self.memo} if self.memo else {})

    @staticmethod
    def from_body(body: Mapping[str, Any]) -> FencePlan:
        grants = tuple(map(Grant.from_body, body["grants"]))
        return FencePlan(kind=FenceKind(body["kind"]), grants=grants, memo=str(body.get("memo", "")))


def user_id(name: str) -> str:
    """`app` -> `admin.app`; `myapp.app` stays: a database's name has no dot, a user's may have one."""
    return name if "." in name else f"admin.{name}"


def grant_of(user: str, roles: Sequence[Role], scope: Scope) -> Grant:
    """The roles by which `user` can write to the migration's collections, and the one that stands in for them."""
    taken = [role for role in roles if scope.is_written_by(role.privileges)]
    mark = hashlib.sha256(user.encode()).hexdigest()[:12]
    return Grant(
        user=user,
        roles=tuple((role.database, role.name) for role in taken),
        stand_in=f"docferry.fence.{scope.migration}.{mark}",
        kept=tuple(without_writes([one for role in taken for one in role.privileges], scope)),
    )


def without_writes(privileges: Sequence[Privilege], scope: Scope) -> list[Privilege]:
    """The privileges, less the writes to the migration's collections.

    A privilege on a whole database, or on all, cannot leave a collection out: its writes are granted anew for each
    collection and database beside the migration's. One that is made later is not among these.
    """
    kept: list[Privilege] = []
    for one in privileges:
        if not any(one.covers(*place) for place in scope.ours):
            kept.append(one)
            continue
        if reading := one.actions - WRITE_ACTIONS:
            kept.append(Privilege(resource=one.resource, actions=reading))
        kept += _elsewhere(one, scope)
    return kept


def _elsewhere(one: Privilege, scope: Scope) -> Iterator[Privilege]:
    """What a privilege that reaches beyond the migration's collections allows there."""
    named = one.resource.get("collection")
    for database, collection in scope.elsewhere if named is not None else ():
        if one.resource["db"] in ("", database) and (named == "" or collection in ("", named)):
            yield Privilege(resource={"db": database, "collection": collection or named}, actions=one.actions)


# --- which kind will hold --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class UserFacts:
    """One user. `bypasses` the write block; `writes` to the migration's collections; `any_resource`: by a role over
    every resource (anyResource), which cannot be taken in part; `reads_marker`: may find in `docferry.leader`."""

    id: str
    bypasses: bool
    writes: bool
    any_resource: bool = False
    reads_marker: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class FenceFacts:
    """What the cluster says. `own_user` None: no access control. `ttl` are collections of the migration whose TTL index
    deletes; `write_block` whether the cluster refuses writes already."""

    own_user: str | None
    users: tuple[UserFacts, ...]
    scope: Scope
    ttl: tuple[str, ...] = ()
    write_block: FenceState = FenceState.DOWN
    own_actions: frozenset[str] | None = None
    """What docferry's user may do on the cluster and in admin; None: not known."""

    def may_not(self, needed: frozenset[str]) -> str:
        """Which of these actions it may not do, in words; '' if all, or if that is not known."""
        if self.own_actions is None or "anyAction" in self.own_actions:
            return ""
        return ", ".join(sorted(needed - self.own_actions))


_TO_BLOCK = frozenset({"setUserWriteBlockMode"})
_TO_REVOKE = frozenset({"createRole", "dropRole", "grantRole", "revokeRole", "viewRole", "viewUser"})


def against_each(facts: FenceFacts, settings: CutoverSettings) -> dict[FenceKind, tuple[Problem, ...]]:
    """What keeps each of MongoDB's own kinds of fence from holding, whichever of them the file allows."""
    return {
        FenceKind.WRITE_BLOCK: _against_write_block(facts, settings),
        FenceKind.REVOKE: _against_revoke(facts, settings),
    }


def no_access_control(facts: FenceFacts) -> Problem | None:
    if facts.own_user is not None:
        return None
    what = "has no access control, or docferry does not log in: every client passes any fence"
    return Problem(where="source", what=what, suggestion="start mongod with --keyFile, and give docferry a user")


def choose_fence(facts: FenceFacts, settings: CutoverSettings) -> FenceKind | tuple[Problem, ...]:
    """The kind of fence that will hold, or everything that keeps both kinds from holding.

    The write block, if the migration's collections are all that the cluster holds and no user but docferry can pass it; else
    revocation, if the file names the application's users and no other user may write. `cutover.fence` allows one of them
    only. Users in `waived_writers` are left out.
    """
    if without := no_access_control(facts):
        return (without,)
    against_block = _against_write_block(facts, settings)
    if settings.fence != "revoke" and not against_block:
        return FenceKind.WRITE_BLOCK
    if settings.fence == "write_block":
        return against_block
    against_revoke = _against_revoke(facts, settings)
    if not against_revoke:
        return FenceKind.REVOKE
    return against_revoke if settings.fence == "revoke" else (*against_block, *against_revoke)


def _waived(settings: CutoverSettings) -> frozenset[str]:
    return frozenset(map(user_id, settings.waived_writers))


def _against_write_block(facts: FenceFacts, settings: CutoverSettings) -> tuple[Problem, ...]:
    where, scope = "cutover.fence write_block", facts.scope
    waived = _waived(settings) | {facts.own_user}
    problems: list[Problem] = []
    if lacking := facts.may_not(_TO_BLOCK):
        what = f"docferry's own user may not do {lacking}"
        problems.append(Problem(where=where, what=what, suggestion="grant it a role with that action on the cluster"))
    if facts.write_block is not FenceState.DOWN:
        state = {FenceState.UP: "blocks writes already, and not by docferry"}.get(facts.write_block)
        what = f"the cluster {state or 'does not tell whether it blocks writes'}"
        problems.append(Problem(where=where, what=what, suggestion="see setUserWriteBlockMode, and who has set it"))
    if held := [*scope.databases, *map(".".join, scope.neighbours)]:
        what = f"the cluster also holds {', '.join(held)}, which would be blocked, too"
        problems.append(Problem(where=where, what=what, suggestion="name the application's users in cutover.app_users"))
    if own := [one for one in facts.users if one.id == facts.own_user and not one.bypasses]:
        what = f"docferry's own user {own[0].id} has no {BYPASS}: it could not write what comes back from DynamoDB"
        problems.append(Problem(where=where, what=what, suggestion=f"grant it a role with {BYPASS} on the cluster"))
    for user in facts.users:
        if user.bypasses and user.id not in waived:
            what = f"{user.id} holds {BYPASS} and would write on"
            problems.append(
                Problem(where=where, what=what, suggestion=f"take it away, or waive it: waived_writers: [{user.id}]")
            )
    return tuple(problems)


def _against_revoke(facts: FenceFacts, settings: CutoverSettings) -> tuple[Problem, ...]:
    where, known = "cutover.app_users", {user.id: user for user in facts.users}
    named = frozenset(map(user_id, settings.app_users))
    waived = _waived(settings) | {facts.own_user}
    if not named:
        what = "names no user, so no roles can be revoked"
        return (Problem(where=where, what=what, suggestion="app_users: [the users by which the application logs in]"),)
    problems: list[Problem] = []
    if lacking := facts.may_not(_TO_REVOKE):
        what = f"docferry's own user may not do {lacking}"
        problems.append(Problem(where="cutover.fence revoke", what=what, suggestion="grant it userAdminAnyDatabase"))
    for name in sorted(named):
        user = known.get(name)
        if name == facts.own_user:
            problems.append(
                Problem(where=where, what=f"{name} is docferry's own user", suggestion="give docferry its own")
            )
        elif user is None:
            problems.append(
                Problem(where=where, what=f"there is no user {name}", suggestion="<database>.<name>, as in usersInfo")
            )
        elif user.any_resource:
            what = f"{name} has a role over every resource (anyResource), which cannot be taken in part"
            problems.append(
                Problem(where=where, what=what, suggestion="give the application readWrite on its database")
            )
    for user in facts.users:
        if user.writes and user.id not in named | waived:
            what = f"{user.id} may write to the migration's collections, too"
            problems.append(Problem(where=where, what=what, suggestion="name it here, or in waived_writers"))
    problems += map(ttl_problem, facts.ttl)
    return tuple(problems)


def ttl_problem(collection: str) -> Problem:
    """MongoDB's own deletes pass every fence but the write block."""
    what = f"{collection} has a TTL index, and only the write block stops MongoDB from deleting by it"
    hint = f"collMod its expireAfterSeconds to {NEVER_EXPIRES_S}: DynamoDB's TTL takes over"
    return Problem(where=f"collections.{collection}", what=what, suggestion=hint)


def deletes(index: Mapping[str, Any]) -> bool:
    """Whether MongoDB deletes documents by this index."""
    return float(index.get("expireAfterSeconds", NEVER_EXPIRES_S)) < NEVER_EXPIRES_S
