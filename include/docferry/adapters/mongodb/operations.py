"""What `$currentOp` says about connections, operations and transactions, and other commands of more than one adapter.

Source: https://www.mongodb.com/docs/v6.0/reference/operator/aggregation/currentOp/, read 2026-11-24; shapes as 6.0.5 gives them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

from pymongo import MongoClient, ReadPreference
from pymongo.database import Database
from pymongo.errors import OperationFailure

from docferry.adapters.mongodb.errors import mongo_errors

APP = "docferry"
"""docferry's own appName."""
NAMESPACE_EXISTS = 48
Operation = Mapping[str, Any]

WRITES = frozenset({"insert", "update", "remove"})
RESTING = frozenset({"hello", "isMaster", "ismaster", "ping"})
"""Commands by which a driver watches a server; `hello` may wait there for ten seconds."""
# fmt: off
READS = RESTING | {
    "find", "getMore", "count", "distinct", "aggregate", "explain", "dbStats", "collStats", "listCollections", "listIndexes",
    "listDatabases", "killCursors", "connectionStatus", "serverStatus", "buildInfo", "getParameter", "getLog", "hostInfo",
    "getCmdLineOpts", "replSetGetStatus", "usersInfo", "rolesInfo", "saslStart", "saslContinue", "endSessions",
    "abortTransaction", "currentOp", "top",
}
# fmt: on
_INTERNAL = frozenset({"NetworkInterfaceTL", "MongoDB Internal Client"})


def current_operations(
    client: MongoClient[Any], *, idle: bool, read_preference: Any = ReadPreference.PRIMARY
) -> list[Operation]:
    """All operations of all users and idle sessions of one member; with `idle` also connections that do nothing."""
    stage = {"$currentOp": {"allUsers": True, "idleSessions": True, "idleConnections": idle}}
    with mongo_errors("list the operations ($currentOp)"):
        return list(client.get_database("admin", read_preference=read_preference).aggregate([stage]))


def create_if_absent(database: Database[Any], collection: str, **options: Any) -> bool:
    """Create a collection with `options`; False if it is there, or another process creates it at the same time."""
    try:
        database.create_collection(collection, check_exists=False, **options)
    except OperationFailure as error:
        if error.code != NAMESPACE_EXISTS:
            raise
        return False
    return True


def kill_sessions(client: MongoClient[Any], sessions: Iterable[Mapping[str, Any]]) -> None:
    """End sessions, given by their `lsid`, and the transactions in them."""
    patterns = [{"lsid": {"id": one["id"], "uid": one["uid"]}} for one in sessions]
    if patterns:
        with mongo_errors("kill sessions (killAllSessionsByPattern)"):
            client.admin.command("killAllSessionsByPattern", patterns)


def user_of(operation: Operation, digests: Mapping[bytes, str]) -> str:
    """Whose it is, as `<database>.<name>`; '' if it does not say. An idle session says so by the digest of the name."""
    for user in operation.get("effectiveUsers") or ():
        return f"{user['db']}.{user['user']}"
    return digests.get(bytes((operation.get("lsid") or {}).get("uid", b"")), "")


def digests_of(users: Iterable[tuple[str, str]]) -> dict[bytes, str]:
    """digest -> `<database>.<name>` of users given as (database, name): sessions and the oplog name users by it."""
    return {sha256(f"{name}@{database}".encode()).digest(): f"{database}.{name}" for database, name in users}


def digest_of_own(client: MongoClient[Any]) -> bytes:
    """The digest by which a transaction of this connection's user names it; without access control that of no user."""
    with mongo_errors("connectionStatus"):
        users = client.admin.command("connectionStatus")["authInfo"]["authenticatedUsers"]
    return next(iter(digests_of((one["db"], one["user"]) for one in users)), sha256(b"").digest())


def own_actions(admin: Database[Any]) -> frozenset[str] | None:
    """What this connection's user may do on the cluster and in admin; None without access control."""
    with mongo_errors("connectionStatus"):
        found = admin.command("connectionStatus", showPrivileges=True)["authInfo"]
    if not found["authenticatedUsers"]:
        return None
    listed = [(one["resource"], one["actions"]) for one in found["authenticatedUserPrivileges"]]
    there = [actions for resource, actions in listed if _is_of_admin(resource)]
    return frozenset(action for actions in there for action in actions)


def _is_of_admin(resource: Mapping[str, Any]) -> bool:
    return bool(resource.get("cluster") or resource.get("anyResource") or resource.get("db") in ("", "admin"))


def app_of(operation: Operation) -> str:
    """The appName that the client gave itself, or ''."""
    metadata = operation.get("clientMetadata") or {}
    return str(operation.get("appName") or (metadata.get("application") or {}).get("name") or "")


def driver_of(operation: Operation) -> str:
    """The driver's name and version, or ''."""
    driver = (operation.get("clientMetadata") or {}).get("driver") or {}
    return f"{driver.get('name', '')} {driver.get('version', '')}".replace("| ", " ").strip("| ")  # PyMongo|c 4.20.0|


def is_internal(operation: Operation) -> bool:
    """MongoDB's own: a thread without a client, or a connection of another member."""
    if "client" not in operation:
        return True
    driver = (operation.get("clientMetadata") or {}).get("driver") or {}
    users = [user.get("user") for user in operation.get("effectiveUsers") or ()]
    return driver.get("name") in _INTERNAL or "__system" in users


def command_of(operation: Operation) -> str:
    """The command's name, or ''. One too large to be shown whole has the name `$truncated`."""
    return str(next(iter(operation.get("command") or {}), ""))


def is_resting(operation: Operation) -> bool:
    """Does nothing at the moment, or only watches the server."""
    if not operation.get("active") or operation.get("op") == "none":
        return True
    return operation.get("op") == "command" and command_of(operation) in RESTING


def may_write(operation: Operation) -> bool:
    """Whether an active operation may change documents; what is not known to read does."""
    if operation.get("op") in WRITES:
        return True
    if operation.get("op") in ("query", "getmore", "none"):
        return False
    command = operation.get("command") or {}
    name = command_of(operation)
    if name == "aggregate":
        stages = command.get("pipeline") or ()
        return any(stage for stage in stages if "$out" in stage or "$merge" in stage)
    return name not in READS
