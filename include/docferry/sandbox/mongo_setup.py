"""How a throw-away replica set is made: the command line of each mongod, the set's configuration, and its two users."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pymongo.errors import AutoReconnect, OperationFailure

from docferry.sandbox.processes import ChildProcess, ReservedPort, wait_until

User = Literal["docferry", "app"]
Admin = Any
"""The `admin` database of a member, as pymongo has it."""

SET_NAME = "rs0"
ROLES: Mapping[User, str] = {
    # root may set and bypass the write block; the application's role is the one that a fence revokes.
    "docferry": "root",
    "app": "readWriteAnyDatabase",
}
START_TIMEOUT_S = 60.0
FIRST_ELECTION_MS = 500

USER_EXISTS = 51003
NOT_YET_RECONFIGURABLE = (103, 109, 308)
"""Another reconfiguration runs, or the last one has not reached a majority yet."""


@dataclass(slots=True)
class Member:
    """One mongod of the set."""

    index: int
    directory: Path
    port: ReservedPort
    arbiter: bool
    process: ChildProcess | None = None
    paused: bool = False

    @property
    def name(self) -> str:
        return f"mongod-{self.index}"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port.number}"


def mongod_command(
    mongod: Path, member: Member, parameters: Mapping[str, str], *, oplog_mb: int, cache_mb: int, checkpoint_s: int
) -> list[str | Path]:
    """The command line of a member. The key file is in the directory above the member's own."""
    sizes = ["--syncdelay", str(checkpoint_s), "--oplogSize", str(oplog_mb)]
    sizes += ["--wiredTigerCacheSizeGB", f"{cache_mb / 1024:g}"]
    # Without this each member fills 300 MB of journal in advance.
    sizes += ["--wiredTigerEngineConfigString", "log=(prealloc=false,file_max=16MB)"]
    where = ["--dbpath", str(member.directory), "--bind_ip", "127.0.0.1", "--port", str(member.port.number)]
    secure = ["--keyFile", str(member.directory.parent / "keyfile"), "--nounixsocket"]
    settings = [word for k, v in parameters.items() for word in ("--setParameter", f"{k}={v}")]
    return [mongod, "--replSet", SET_NAME, *where, *secure, *sizes, *settings]


def initiate(admin: Admin, members: Sequence[Member]) -> None:
    """Form the set. The first election waits out its timeout, which is short here and raised afterwards."""
    hosts = [
        {"_id": m.index, "host": m.address, "arbiterOnly": m.arbiter, "priority": 0 if m.arbiter else 1}
        for m in members
    ]
    settings = {"electionTimeoutMillis": FIRST_ELECTION_MS, "heartbeatIntervalMillis": 500}
    admin.command("replSetInitiate", {"_id": SET_NAME, "members": hosts, "settings": settings})


def create_user(primary_admin: Callable[[], Admin], user: User, password: str) -> None:
    """The user with its role. An election may happen meanwhile, as the set is young: then the next primary is asked."""
    roles = [{"role": ROLES[user], "db": "admin"}]

    def create() -> bool:
        try:
            primary_admin().command("createUser", user, pwd=password, roles=roles, writeConcern={"w": "majority"})
        except AutoReconnect:
            return False
        except OperationFailure as error:
            if error.code == USER_EXISTS:  # The answer was lost, not the write.
                return True
            raise
        return True

    wait_until(create, timeout_s=START_TIMEOUT_S, what=f"the user {user}")


def raise_election_timeout(primary_admin: Callable[[], Admin], election_timeout_ms: int) -> None:
    """Give the set the election timeout that it keeps."""

    def reconfigure() -> bool:
        try:
            admin = primary_admin()
            config = admin.command("replSetGetConfig")["config"]
            if config["settings"]["electionTimeoutMillis"] == election_timeout_ms:
                return True
            config["settings"]["electionTimeoutMillis"] = election_timeout_ms
            config["version"] += 1
            admin.command("replSetReconfig", config)
        except AutoReconnect:
            return False
        except OperationFailure as error:
            if error.code in NOT_YET_RECONFIGURABLE:
                return False
            raise
        return True

    wait_until(reconfigure, timeout_s=START_TIMEOUT_S, what="the election timeout to be set", every_s=0.1)
