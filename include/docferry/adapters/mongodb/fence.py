"""MongoDB behind the Fence port: the write block of the whole cluster, or the roles of the application's users.

Write block. `setUserWriteBlockMode` waits for every open transaction, one that only reads included, and every client that wants
to read then waits behind it (83 s were seen): so it gives up after a second, and is tried again. It stops the TTL monitor. It
outlives restarts and fail-overs.

Revocation. A user loses the roles by which it writes to the collections, and gets a role that stands in for them: reading,
and writing elsewhere. An operation that runs goes on with the rights that it began with (17,402 documents were changed
after a revoke), and so does the commit of a transaction: `still_writing` lists them. The TTL monitor knows no users and goes
on deleting by the collections' TTL indexes; `choose_fence` therefore refuses revocation while there are any.

Users that a directory server names (LDAP) are not in usersInfo and not seen here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import bson
from bson.timestamp import Timestamp
from pymongo import MongoClient, ReadPreference

from docferry import errors
from docferry.adapters.mongodb.errors import mongo_errors
from docferry.adapters.mongodb.operations import (
    APP,
    Operation,
    app_of,
    command_of,
    current_operations,
    digests_of,
    is_resting,
    kill_sessions,
    may_write,
    own_actions,
    user_of,
)
from docferry.adapters.mongodb.others import changes_in, stray_in
from docferry.core.cutover.fence_plan import (
    BYPASS,
    DATA_ACTIONS,
    FenceFacts,
    FenceKind,
    FencePlan,
    FenceState,
    Grant,
    OpenTransaction,
    Privilege,
    Role,
    RunningOperation,
    Scope,
    StrayWrite,
    UserFacts,
    deletes,
    grant_of,
)
from docferry.core.cutover.marker import COLLECTION
from docferry.core.namespaces import Namespaces

ATTEMPT_MS = 1_000
"""How long one attempt at the write block may wait, and readers behind it."""
_MAJORITY = {"w": "majority", "wtimeout": 1_000}
"""No longer: writes wait, and what no majority has yet is asked for again."""
_SYSTEM = frozenset({"admin", "local", "config"})
_ROLE_EXISTS, _ROLE_MISSING = 51002, 31
_NO_MAJORITY_YET = "64"
"""WriteConcernFailed, as `_change` has it. Source: mongo/src/mongo/base/error_codes.yml (6.0)."""
_LOOK_SLACK_S = 0.05


class MongoFence:
    """Fence over a MongoClient. `uri` carries the credentials and stays out of every message."""

    def __init__(
        self, uri: str, where: Namespaces | str, migration: str, collections: Sequence[str], **options: Any
    ) -> None:
        settings: dict[str, Any] = {
            "serverSelectionTimeoutMS": 5_000,
            "socketTimeoutMS": 10_000,
            "appname": APP,
        } | options
        with mongo_errors("connect"):
            self._client: MongoClient[Any] = MongoClient(uri, **settings)
        self._admin = self._client.get_database("admin", read_preference=ReadPreference.PRIMARY)
        self._where, self._migration, self._collections = Namespaces.at(where), migration, tuple(collections)
        self._revoked_at: float | None = None

    def __repr__(self) -> str:
        return f"MongoFence({str(self._where)!r})"

    def close(self) -> None:
        self._client.close()

    # --- facts -------------------------------------------------------------------------------------------------------

    def facts(self) -> FenceFacts:
        scope = self._scope()
        with mongo_errors("list the indexes"):
            ttl = [name for name in self._collections if any(map(deletes, self._collection(name).list_indexes()))]
        return FenceFacts(
            own_user=self._own_user(),
            users=tuple(_user_facts(user, scope) for user in self._users()),
            scope=scope,
            ttl=tuple(ttl),
            write_block=self._block_state(),
            own_actions=own_actions(self._admin),
        )

    def grants(self, users: Sequence[str]) -> tuple[Grant, ...]:
        scope = self._scope()
        return tuple(grant_of(name, self._roles(name), scope) for name in users)

    def _scope(self) -> Scope:
        with mongo_errors("list databases and collections"):
            databases = set(self._client.list_database_names()) - _SYSTEM - {*self._where.databases}
            others = {one: self._others(one) for one in self._where.databases}
        main, ours = self._where.default, [self._where.place_of(name) for name in self._collections]
        return Scope(
            migration=self._migration,
            database=main,
            collections=tuple(collection for database, collection in ours if database == main),
            others=tuple(others.pop(main)),
            databases=tuple(sorted(databases)),
            places=tuple(place for place in ours if place[0] != main),
            beside=tuple((database, name) for database, names in others.items() for name in names),
        )

    def _others(self, database: str) -> list[str]:
        """The collections of a database that are not the migration's."""
        listed = self._client[database].list_collections()
        here = {one["name"] for one in listed if one.get("type") != "view" and not one["name"].startswith("system.")}
        ours = {*self._where.by_database(self._collections)[database], COLLECTION}
        return sorted(here - ours)

    def _collection(self, name: str) -> Any:
        database, collection = self._where.place_of(name)
        return self._client.get_database(database, read_preference=ReadPreference.PRIMARY)[collection]

    def _own_user(self) -> str | None:
        with mongo_errors("connectionStatus"):
            users = self._admin.command("connectionStatus")["authInfo"]["authenticatedUsers"]
        return f"{users[0]['db']}.{users[0]['user']}" if users else None

    def _users(self) -> list[Mapping[str, Any]]:
        """All users with their privileges, which only questions by name give."""
        with mongo_errors("usersInfo"):
            listed = self._admin.command("usersInfo", {"forAllDBs": True})["users"]
            named = [{"user": one["user"], "db": one["db"]} for one in listed]
            return list(self._admin.command("usersInfo", named, showPrivileges=True)["users"]) if named else []

    def _digests(self) -> dict[bytes, str]:
        with mongo_errors("usersInfo"):
            listed = self._admin.command("usersInfo", {"forAllDBs": True})["users"]
        return digests_of((one["db"], one["user"]) for one in listed)

    def _held(self, user: str) -> frozenset[tuple[str, str]] | None:
        """(database, role) of the roles that a user holds directly; None if there is no such user."""
        database, _, name = user.partition(".")
        with mongo_errors(f"usersInfo of {user}"):
            found = self._admin.command("usersInfo", {"user": name, "db": database})["users"]
        return frozenset((role["db"], role["role"]) for role in found[0]["roles"]) if found else None

    def _roles(self, user: str) -> list[Role]:
        held = sorted(self._held(user) or ())
        named = [{"role": name, "db": database} for database, name in held]
        with mongo_errors(f"rolesInfo of {user}"):
            found = self._admin.command("rolesInfo", named, showPrivileges=True)["roles"] if named else []
        return [
            Role(database=one["db"], name=one["role"], privileges=_privileges(one["inheritedPrivileges"]))
            for one in found
        ]

    def external_memo(self) -> str:
        raise errors.RequestRefused("this migration has no command that closes its fence", operation="plan")

    # --- transactions ------------------------------------------------------------------------------------------------

    def open_transactions(self) -> Sequence[OpenTransaction]:
        digests, own = self._digests(), self._own_user()
        found = [
            _transaction(one, user_of(one, digests))
            for one in current_operations(self._client, idle=False)
            if "transaction" in one and not (app_of(one) == APP and user_of(one, digests) == own)
        ]
        return sorted(found, key=lambda one: -one.open_s)

    def kill_transactions(self, found: Sequence[OpenTransaction]) -> None:
        kill_sessions(self._client, [bson.decode(one.session) for one in found])

    # --- up ----------------------------------------------------------------------------------------------------------

    def raise_fence(self, plan: FencePlan) -> None:
        if plan.kind is FenceKind.WRITE_BLOCK:
            self._change("block writes", {"setUserWriteBlockMode": 1, "global": True, "maxTimeMS": ATTEMPT_MS})
            return
        for grant in plan.grants:
            self._revoke(grant)
        self._revoked_at = time.monotonic()

    def _revoke(self, grant: Grant) -> None:
        database, _, name = grant.user.partition(".")
        privileges = [{"resource": dict(one.resource), "actions": sorted(one.actions)} for one in grant.kept]
        role = {"privileges": privileges, "roles": [], "writeConcern": _MAJORITY}
        what = f"revoke roles of {grant.user}"
        try:
            self._change(what, {"createRole": grant.stand_in} | role)
        except errors.StoreError as error:
            if not error.code.startswith(str(_ROLE_EXISTS)):
                raise
            self._change(what, {"updateRole": grant.stand_in} | role)
        # The stand-in first: between the two the user may read all the while.
        stand_in = [{"role": grant.stand_in, "db": "admin"}]
        self._change(what, {"grantRolesToUser": name, "roles": stand_in, "writeConcern": _MAJORITY}, database)
        self._change(what, {"revokeRolesFromUser": name, "roles": _named(grant), "writeConcern": _MAJORITY}, database)

    def _change(self, operation: str, command: Mapping[str, Any], database: str = "admin") -> Mapping[str, Any]:
        with mongo_errors(operation):
            reply: Mapping[str, Any] = self._client.get_database(database).command(dict(command))
        if lacking := reply.get("writeConcernError"):
            text = f"MongoDB did {operation}, but no majority has it yet: {lacking.get('errmsg', '')}"
            raise errors.TimedOut(text, operation=operation, code=str(lacking.get("code", "")))
        return reply

    def still_writing(self, plan: FencePlan) -> Sequence[RunningOperation | OpenTransaction]:
        """By revocation only: the write block returns when nothing holds the global lock any more."""
        if plan.kind is FenceKind.WRITE_BLOCK:
            return ()
        users = {grant.user for grant in plan.grants}
        since = 0.0 if self._revoked_at is None else time.monotonic() - self._revoked_at - _LOOK_SLACK_S
        digests = self._digests()
        found: list[RunningOperation | OpenTransaction] = []
        for one in current_operations(self._client, idle=False):
            user = user_of(one, digests)
            if user not in users:
                continue
            if "transaction" in one:
                transaction = _transaction(one, user)
                if transaction.open_s >= since:
                    found.append(transaction)
            elif not is_resting(one) and may_write(one) and _running_s(one) >= since:
                found.append(_running(one, user))
        return found

    def mark_time(self) -> Timestamp:
        note = {"appendOplogNote": 1, "data": {"docferry": "fence"}, "writeConcern": _MAJORITY}
        found: Timestamp = self._change("note the fence's time (appendOplogNote)", note)["operationTime"]
        return found

    # --- down --------------------------------------------------------------------------------------------------------

    def lift_fence(self, plan: FencePlan) -> None:
        if plan.kind is FenceKind.WRITE_BLOCK:
            self._change("lift the write block", {"setUserWriteBlockMode": 1, "global": False, "maxTimeMS": ATTEMPT_MS})
            return
        unconfirmed = [one for grant in plan.grants for one in self._give_back(grant)]
        self._revoked_at = None
        if unconfirmed:
            raise unconfirmed[0]

    def _give_back(self, grant: Grant) -> list[errors.TimedOut]:
        """What the primary has done, and no majority has yet: the application may write all the same."""
        database, _, name = grant.user.partition(".")
        what = f"give {grant.user} its roles back"
        given = self._try(what, {"grantRolesToUser": name, "roles": _named(grant), "writeConcern": _MAJORITY}, database)
        try:
            # Takes it from its holder, too. Where there is no majority, it is waited for once.
            concern = {"w": 1} if given else _MAJORITY
            return given + self._try(what, {"dropRole": grant.stand_in, "writeConcern": concern})
        except errors.StoreError as error:
            if not error.code.startswith(f"{_ROLE_MISSING} "):
                raise
            return given

    def _try(self, operation: str, command: Mapping[str, Any], database: str = "admin") -> list[errors.TimedOut]:
        """Nothing, or that no majority has it yet. Raises what else went wrong."""
        try:
            self._change(operation, command, database)
        except errors.TimedOut as error:
            if error.code != _NO_MAJORITY_YET:
                raise
            return [error]
        return []

    # --- state and proof ---------------------------------------------------------------------------------------------

    def fence_state(self, plan: FencePlan) -> FenceState:
        if plan.kind is FenceKind.WRITE_BLOCK:
            return self._block_state()
        states = {self._grant_state(grant) for grant in plan.grants}
        return states.pop() if len(states) == 1 else FenceState.UNKNOWN

    def _grant_state(self, grant: Grant) -> FenceState:
        held = self._held(grant.user)
        if held is None:
            return FenceState.UNKNOWN
        taken, stands_in = not held & set(grant.roles), ("admin", grant.stand_in) in held
        if taken and stands_in:
            return FenceState.UP
        return FenceState.DOWN if held >= set(grant.roles) and not stands_in else FenceState.UNKNOWN

    def _block_state(self) -> FenceState:
        try:
            with mongo_errors("serverStatus"):
                status = self._admin.command("serverStatus")
        except errors.AccessDenied:
            return FenceState.UNKNOWN
        mode = int((status.get("repl") or {}).get("userWriteBlockMode", 0))
        return {1: FenceState.DOWN, 2: FenceState.UP}.get(mode, FenceState.UNKNOWN)

    def writes_after(self, time: Timestamp, limit: int = 100) -> Sequence[StrayWrite]:
        digests, own = self._digests(), self._own_user()
        names = set(map(self._where.shown, self._collections))
        commands = {f"{one}.$cmd" for one in self._where.databases}
        query = {
            "ts": {"$gt": time},
            "$or": [{"ns": {"$in": sorted(names)}}, {"ns": {"$in": ["admin.$cmd", *sorted(commands)]}, "op": "c"}],
        }
        fields = {"ts": 1, "op": 1, "ns": 1, "lsid.uid": 1, "o": 1}
        oplog = self._client.get_database("local", read_preference=ReadPreference.PRIMARY)["oplog.rs"]
        found: list[StrayWrite] = []
        with mongo_errors("read the oplog"):
            first = oplog.find({}, {"ts": 1}).sort("$natural", 1).limit(1).next()["ts"]
            if first > time:
                raise errors.ResumeTokenLost(
                    "the oplog does not reach back to the fence: it cannot be told who wrote since"
                )
            for entry in oplog.find(query, fields):
                user = digests.get(bytes((entry.get("lsid") or {}).get("uid", b"")), "")
                if own is None or user != own:
                    found += [stray_in(entry, one, user) for one in changes_in(entry, names, commands)]
                if len(found) >= limit:
                    break
        return found[:limit]


# --- reading what MongoDB says ---------------------------------------------------------------------------------------


def _privileges(listed: Sequence[Mapping[str, Any]]) -> tuple[Privilege, ...]:
    return tuple(Privilege(resource=dict(one["resource"]), actions=frozenset(one["actions"])) for one in listed)


def _user_facts(user: Mapping[str, Any], scope: Scope) -> UserFacts:
    privileges = _privileges(user.get("inheritedPrivileges", ()))
    over_all = [one for one in privileges if one.resource.get("anyResource")]
    cluster = [*over_all, *(one for one in privileges if one.resource.get("cluster"))]
    return UserFacts(
        id=f"{user['db']}.{user['user']}",
        bypasses=any({BYPASS, "anyAction"} & one.actions for one in cluster),
        writes=scope.is_written_by(privileges),
        any_resource=any(one.actions & DATA_ACTIONS for one in over_all),
        reads_marker=any(
            {"find", "anyAction"} & one.actions and one.covers(scope.database, COLLECTION) for one in privileges
        ),
    )


def _named(grant: Grant) -> list[dict[str, str]]:
    return [{"role": name, "db": database} for database, name in grant.roles]


def _transaction(operation: Operation, user: str) -> OpenTransaction:
    return OpenTransaction(
        app=app_of(operation),
        user=user,
        client=str(operation.get("client", "")),
        open_s=float(operation["transaction"].get("timeOpenMicros", 0)) / 1e6,
        session=bson.encode(operation.get("lsid") or {}),
    )


def _running_s(operation: Operation) -> float:
    return float(operation.get("microsecs_running", 0)) / 1e6


def _running(operation: Operation, user: str) -> RunningOperation:
    name = operation["op"] if operation.get("op") != "command" else command_of(operation)
    return RunningOperation(
        app=app_of(operation),
        user=user,
        client=str(operation.get("client", "")),
        running_s=_running_s(operation),
        what=f"{name} in {operation.get('ns', '')}",
    )
