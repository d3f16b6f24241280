"""A real MongoDB replica set on this machine, with authentication, and the switches that tests of failure need."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote_plus

from pymongo import MongoClient
from pymongo.errors import AutoReconnect, ConfigurationError, OperationFailure, PyMongoError

from docferry.errors import InvariantBroken, RequestRefused, Unavailable
from docferry.sandbox.mongo_setup import (
    ROLES,
    SET_NAME,
    START_TIMEOUT_S,
    Member,
    User,
    create_user,
    initiate,
    mongod_command,
    raise_election_timeout,
)
from docferry.sandbox.processes import ChildProcess, ReservedPort, start_child, wait_until
from docferry.sandbox.tools import ensure_mongod

Client = MongoClient[dict[str, Any]]


class SandboxReplicaSet:
    """mongod processes with a key file and two users, `docferry` (root) and `app` (readWriteAnyDatabase).

    `members` bear data; `arbiter` adds one more that does not, with the highest index. Majority read concern is always
    on (MongoDB 5+). `parameters` are passed as --setParameter; `test_commands` allows hold_back(). The default election
    timeout is half the server's: failover tests are short, yet a busy machine holds no elections for nothing. `cache_mb`
    is the storage engine's: a change of a 15 MB document with both images needs more than the default. The oplog is cut
    off at `oplog_mb` only up to the last checkpoint, of which there is one each `checkpoint_s`.
    Everything is in `directory`, which must exist and is not removed. Use as a context manager, or open() and close().
    Raises: PreflightFailed without a mongod, Unavailable or TimedOut when it does not come up.
    """

    def __init__(
        self,
        directory: Path,
        members: int = 1,
        *,
        oplog_mb: int = 256,
        cache_mb: int = 256,
        checkpoint_s: int = 60,
        arbiter: bool = False,
        test_commands: bool = False,
        parameters: Mapping[str, str] | None = None,
        election_timeout_ms: int = 5_000,
        mongod: Path | None = None,
        outlive_parent: bool = False,
    ) -> None:
        self.directory, self.oplog_mb, self._election_timeout_ms = directory, oplog_mb, election_timeout_ms
        self._cache_mb, self._checkpoint_s = cache_mb, checkpoint_s
        self._parameters = {"diagnosticDataCollectionEnabled": "false", **(parameters or {})}
        if test_commands:
            self._parameters["enableTestCommands"] = "1"
        self._test_commands, self._mongod, self._outlive_parent = test_commands, mongod, outlive_parent
        self._members = [self._member(i, arbiter=False) for i in range(members)]
        if arbiter:
            self._members.append(self._member(members, arbiter=True))
        # Letters and digits only: safe in a URI and in a shell.
        self._passwords: dict[User, str] = {user: secrets.token_hex(16) for user in ROLES}
        self._clients: dict[int, Client] = {}
        self._users_exist = self._closed = False

    def _member(self, index: int, *, arbiter: bool) -> Member:
        return Member(index, self.directory / f"mongod-{index}", ReservedPort(), arbiter)

    def __repr__(self) -> str:
        return f"SandboxReplicaSet({', '.join(m.address for m in self._members)})"

    def __enter__(self) -> SandboxReplicaSet:
        try:
            return self.open()
        except BaseException:
            self.close()
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # --- life -------------------------------------------------------------------------------------------------------

    def open(self) -> SandboxReplicaSet:
        """Start every member, form the set, create the users, and wait until all are healthy."""
        self._mongod = self._mongod or ensure_mongod()
        self._write_key_file()
        for member in self._members:
            member.directory.mkdir()
            self._spawn(member)
        for member in self._members:
            wait_until(
                partial(self._hello, member), timeout_s=START_TIMEOUT_S, what="it listened", child=member.process
            )
        initiate(self.member_client(0).admin, self._members)
        self._create_users()
        raise_election_timeout(self._primary_admin, self._election_timeout_ms)
        self.wait_until_healthy()
        return self

    def close(self) -> None:
        """Stop every process. Idempotent. The data is not needed again, so a clean shutdown is not waited for."""
        self._closed = True
        for member in self._members:
            if member.paused and member.process is not None:
                member.process.resume()  # Or its client would wait for an answer to its goodbye.
        for client in self._clients.values():
            client.close()
        self._clients.clear()
        for member in self._members:
            if member.process is not None and member.process.is_alive():
                member.process.signal(signal.SIGKILL)
                member.process.wait(10)
            member.port.close()

    def processes(self) -> list[ChildProcess]:
        return [m.process for m in self._members if m.process is not None]

    def uri(self, user: User = "docferry", **options: str) -> str:
        """A mongodb:// URI with credentials. `options` are added to its query, such as readPreference="secondary"."""
        hosts = ",".join(m.address for m in self._members if not m.arbiter)
        query = "&".join(f"{k}={quote_plus(v)}" for k, v in self._uri_options(options).items())
        return f"mongodb://{user}:{self._passwords[user]}@{hosts}/?{query}"

    @staticmethod
    def _uri_options(options: Mapping[str, str]) -> dict[str, str]:
        return {"replicaSet": SET_NAME, "authSource": "admin", **options}

    def client(self, user: User = "docferry", **options: str) -> Client:
        """A client of the whole set; the caller closes it."""
        return MongoClient(self.uri(user, **options))

    # --- failures on purpose ----------------------------------------------------------------------------------------

    def kill(self, index: int, number: int = signal.SIGKILL) -> None:
        """Send a deadly signal to one member and wait for its end. Its member_client() is closed; ask for another."""
        member = self._members[index]
        process = self._running(member)
        process.resume()
        # Now, while it still answers: a client that says goodbye to a dead server waits until it gives up.
        if client := self._clients.pop(index, None):
            client.close()
        process.signal(number)
        process.wait(30)
        member.paused = False

    def start(self, index: int) -> None:
        """Start a member that was killed, on its old data and port, and wait until it takes part again."""
        member = self._members[index]
        if member.process is not None and member.process.is_alive():
            raise RequestRefused(f"{member.name} is running already")
        self._spawn(member)
        wait_until(
            lambda: self._takes_part(member),
            timeout_s=START_TIMEOUT_S,
            what=f"{member.name} takes part again",
            child=member.process,
        )
        self._wait_until_it_knows_the_time(member)

    def pause(self, index: int) -> None:
        """Freeze one member: its connections stay open and nothing answers."""
        self._members[index].paused = True
        self._running(self._members[index]).pause()

    def resume(self, index: int) -> None:
        self._running(self._members[index]).resume()
        self._members[index].paused = False

    def hold_back(self, index: int) -> None:
        """Stop one secondary from applying the oplog, and return once it has stopped. It answers reads, ever staler.

        Needs test_commands=True and a secondary. The stop shows at the next entry, so this writes one (a no-op).
        """
        if not self._test_commands:
            raise RequestRefused("hold_back needs SandboxReplicaSet(test_commands=True)")
        if index == self.primary():
            raise RequestRefused(f"{self._members[index].name} is the primary; only a secondary can be held back")
        admin = self.member_client(index).admin
        count = admin.command("configureFailPoint", "rsSyncApplyStop", mode="alwaysOn")["count"]
        self._append_noop("hold_back")
        admin.command("waitForFailPoint", "rsSyncApplyStop", timesEntered=count + 1, maxTimeMS=20_000)

    def let_go(self, index: int) -> None:
        """Undo hold_back, and wait until the member has caught up with what was written before this call."""
        self.member_client(index).admin.command("configureFailPoint", "rsSyncApplyStop", mode="off")
        target = self._append_noop("let_go")["operationTime"]
        wait_until(lambda: self._applied(index) >= target, timeout_s=60, what=f"member {index} to catch up")

    def step_down(self, seconds: int = 10) -> int:
        """Make the primary step down and return the index of the next one. With one member it is the same again."""
        old = self.primary()
        alone = sum(not m.arbiter for m in self._members) == 1
        # The server closes the connection now and then; the new primary is the proof.
        with contextlib.suppress(AutoReconnect):
            self.member_client(old).admin.command(
                "replSetStepDown", 1 if alone else seconds, force=alone, secondaryCatchUpPeriodSecs=0 if alone else 10
            )
        found = wait_until(
            lambda: [i for i in self._primaries() if alone or i != old],
            timeout_s=60,
            what="a new primary",
        )
        return found[0]

    # --- looking ----------------------------------------------------------------------------------------------------

    def primary(self) -> int:
        """Index of the primary; waits for one. Raises: TimedOut."""
        return wait_until(self._primaries, timeout_s=60, what="a primary")[0]

    def secondaries(self) -> list[int]:
        """Indexes of the members that bear data and follow, paused ones left out."""
        return [m.index for m in self._members if (hello := self._hello(m)) and hello.get("secondary")]

    def address(self, index: int) -> str:
        """host:port of a member, as the set itself names it."""
        return self._members[index].address

    def member_client(self, index: int) -> Client:
        """A client of one member alone, as `docferry` (arbiters know no users). Closed by close()."""
        if index not in self._clients:
            user: User = "docferry"
            auth: dict[str, Any] = {}
            if self._users_exist and not self._members[index].arbiter:
                auth = {"username": user, "password": self._passwords[user], "authSource": "admin"}
            self._clients[index] = MongoClient(
                self._members[index].address, directConnection=True, serverSelectionTimeoutMS=5_000, **auth
            )
        return self._clients[index]

    def wait_until_healthy(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until there is a primary and every member takes part and can acknowledge a majority."""
        for member in self._members:
            wait_until(
                partial(self._takes_part, member),
                timeout_s=timeout_s,
                what=f"{member.name} to take part",
                child=member.process,
            )
        for member in self._members:
            self._wait_until_it_knows_the_time(member)

    def _wait_until_it_knows_the_time(self, member: Member) -> None:
        """Wait until a member accepts the primary's cluster time, which every driver passes on.

        Why: a member that has just started may not have read the keys yet that sign this time, and answers the first
        commands with KeyNotFound (211).
        """
        if member.arbiter:
            return
        client = self.member_client(member.index)

        def accepted() -> bool:
            now = self._append_noop("clock").get("$clusterTime")
            if now is None:  # it signs no time at all as long as it has no keys
                return False
            try:
                with client.start_session() as session:
                    session.advance_cluster_time(now)
                    client.admin.command("ping", session=session)
            except (AutoReconnect, ConfigurationError):  # it does not answer, or not as a member of a set yet
                return False
            except OperationFailure as error:
                if error.code in (18, 211):  # Nor has it read the users yet, perhaps.
                    return False
                raise
            return True

        what = f"{member.name} to know the cluster's time"
        # One answer takes up to 30 s: so long the member waits for a key that it lacks.
        wait_until(accepted, timeout_s=3 * START_TIMEOUT_S, what=what, child=member.process)

    def _running(self, member: Member) -> ChildProcess:
        if member.process is None or not member.process.is_alive():
            raise Unavailable(f"{member.name} is not running")
        return member.process

    def _hello(self, member: Member) -> dict[str, Any] | None:
        """The member's own view of itself, None while it does not answer. A fresh connection: never a stale view."""
        if member.paused or member.process is None or not member.process.is_alive():
            return None
        try:
            with MongoClient[dict[str, Any]](
                member.address, directConnection=True, serverSelectionTimeoutMS=500, connectTimeoutMS=500
            ) as client:
                return dict(client.admin.command("hello"))
        except PyMongoError:
            return None

    def _takes_part(self, member: Member) -> bool:
        hello = self._hello(member) or {}
        return bool(hello.get("isWritablePrimary") or hello.get("secondary") or hello.get("arbiterOnly"))

    def _primaries(self) -> list[int]:
        if self._closed:  # by another thread: none will come
            raise Unavailable("the replica set was closed meanwhile")
        return [m.index for m in self._members if (hello := self._hello(m)) and hello.get("isWritablePrimary")]

    def _applied(self, index: int) -> Any:
        status = self.member_client(index).admin.command("replSetGetStatus")
        return status["optimes"]["appliedOpTime"]["ts"]

    def _append_noop(self, why: str) -> dict[str, Any]:
        """Write one entry to the oplog, without touching anyone's data, and return the server's answer."""

        def append() -> dict[str, Any] | None:
            # The primary may change between the question and the note.
            try:
                admin = self.member_client(self.primary()).admin
                return admin.command("appendOplogNote", data={"docferry": why})
            except AutoReconnect:
                return None

        return wait_until(append, timeout_s=START_TIMEOUT_S, what="a primary that writes")

    # --- making -----------------------------------------------------------------------------------------------------

    def _write_key_file(self) -> None:
        # mongod refuses a key that others may read.
        descriptor = os.open(self.directory / "keyfile", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w") as file:
            file.write(secrets.token_hex(48))

    def _spawn(self, member: Member) -> None:
        if self._mongod is None:
            raise InvariantBroken("open() comes first")
        member.process = start_child(
            mongod_command(
                self._mongod,
                member,
                self._parameters,
                oplog_mb=self.oplog_mb,
                cache_mb=self._cache_mb,
                checkpoint_s=self._checkpoint_s,
            ),
            name=member.name,
            log=self.directory / f"{member.name}.log",
            outlive_parent=self._outlive_parent,
        )

    def _create_users(self) -> None:
        """By the localhost exception, which allows the first user only, and only on the primary."""
        create_user(self._primary_admin, "docferry", self._passwords["docferry"])
        self._users_exist = True
        for client in self._clients.values():
            client.close()
        self._clients.clear()
        create_user(self._primary_admin, "app", self._passwords["app"])

    def _primary_admin(self) -> Any:
        return self.member_client(self.primary()).admin
