"""A fence in memory: transactions in its way, roles that are taken and given back, and everything that can go wrong with it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import bson
from bson.timestamp import Timestamp

from docferry.core.cutover.fence_plan import (
    FenceFacts,
    FenceKind,
    FencePlan,
    FenceState,
    Grant,
    OpenTransaction,
    RunningOperation,
    Scope,
    StrayWrite,
    UserFacts,
)
from docferry.core.cutover.mongodb_clients import Look, Sighting
from docferry.errors import MigrationError, RequestRefused, ResumeTokenLost, TimedOut
from docferry.testing.fakes.faults import Faults

OWN = "admin.docferry"
APP = "admin.app"


@dataclass(slots=True)
class _Passing:
    """Something that ends after it has been looked at so often; None: never by itself."""

    what: OpenTransaction | RunningOperation
    looks: int | None


class FakeFence:
    """Fence in memory. `begin` opens a transaction, `run` starts an operation, `write` is the application.

    `faults[method]` make its calls raise: before they do anything, or after. `break_off` makes the next revocation raise
    after the first of its users. `calls` names what was called.
    """

    def __init__(self, collections: Iterable[str] = ("users",), database: str = "myapp") -> None:
        scope = Scope(migration="fake", database=database, collections=tuple(collections))
        users = (UserFacts(id=OWN, bypasses=True, writes=True), UserFacts(id=APP, bypasses=False, writes=True))
        self.found = FenceFacts(own_user=OWN, users=users, scope=scope)
        self.roles: dict[str, set[tuple[str, str]]] = {APP: {(database, "readWrite"), (database, "dbAdmin")}}
        self.writing_roles = frozenset({"readWrite"})
        self.blocked = False
        self.closed_with: str | None = None
        """The memo with which the external fence was closed."""
        self.faults: defaultdict[str, Faults] = defaultdict(Faults)
        self.break_off: MigrationError | None = None
        self.calls: list[str] = []
        self.oldest = Timestamp(1, 0)
        self._now = Timestamp(1, 0)
        self._passing: list[_Passing] = []
        self._oplog: list[tuple[Timestamp, StrayWrite]] = []

    def __repr__(self) -> str:
        return f"FakeFence(blocked={self.blocked}, {self.roles})"

    # --- what the application does

    def begin(self, app: str = "shop", *, open_s: float = 5.0, looks: int | None = None) -> None:
        """A transaction is open; it ends after so many looks at it."""
        session = bson.encode({"id": len(self._passing), "uid": b"app"})
        client = f"127.0.0.1:{40_000 + len(self._passing)}"
        what = OpenTransaction(app=app, user=APP, client=client, open_s=open_s, session=session)
        self._passing.append(_Passing(what, looks))

    def run(self, what: str = "update in myapp.users", *, looks: int | None = None) -> None:
        """An operation runs that began before any revocation; each time it is looked at, it writes once more."""
        running = RunningOperation(app="shop", user=APP, client="127.0.0.1:50000", running_s=9.0, what=what)
        self._passing.append(_Passing(running, looks))

    def write(self, user: str = APP, collection: str = "users") -> Timestamp:
        """A write, if MongoDB lets it pass. Raises RequestRefused."""
        if (self.blocked and user != OWN) or (user in self.roles and not self._may_write(user)):
            raise RequestRefused(f"{user} may not write", operation="insert", code="13 Unauthorized")
        return self._log(user, collection)

    def _may_write(self, user: str) -> bool:
        return any(name in self.writing_roles for _, name in self.roles[user])

    def _log(self, user: str, collection: str) -> Timestamp:
        self._now = Timestamp(self._now.time, self._now.inc + 1)
        at = f"{self._now.time:010d}:{self._now.inc:010d}"
        namespace = f"{self.found.scope.database}.{collection}"
        self._oplog.append((self._now, StrayWrite(namespace=namespace, operation="insert", at=at, user=user)))
        return self._now

    # --- the port

    def facts(self) -> FenceFacts:
        self._called("facts")
        return replace(self.found, write_block=FenceState.UP if self.blocked else FenceState.DOWN)

    def grants(self, users: Sequence[str]) -> tuple[Grant, ...]:
        self._called("grants")
        return tuple(
            Grant(
                user=user,
                roles=tuple(sorted(role for role in self.roles.get(user, ()) if role[1] in self.writing_roles)),
                stand_in=f"docferry.fence.fake.{user}",
            )
            for user in users
        )

    def external_memo(self) -> str:
        self._called("external_memo")
        return "what the command needs"

    def open_transactions(self) -> Sequence[OpenTransaction]:
        self._called("open_transactions")
        return [one for one in self._look() if isinstance(one, OpenTransaction)]

    def _look(self) -> list[OpenTransaction | RunningOperation]:
        found = [one for one in self._passing if one.looks is None or one.looks > 0]
        for one in found:
            if one.looks is not None:
                one.looks -= 1
            if isinstance(one.what, RunningOperation):
                self._log(APP, "users")
        self._passing = found
        return [one.what for one in found]

    def kill_transactions(self, found: Sequence[OpenTransaction]) -> None:
        self._called("kill_transactions")
        self._passing = [one for one in self._passing if one.what not in found]

    def raise_fence(self, plan: FencePlan) -> None:
        self._called(f"raise_fence {plan.kind}")
        if plan.kind is FenceKind.EXTERNAL:
            self.closed_with = plan.memo
        if plan.kind is FenceKind.WRITE_BLOCK:
            if any(isinstance(one.what, OpenTransaction) and one.looks != 0 for one in self._passing):
                raise TimedOut("MongoDB did not block writes in time", operation="block writes", code="50")
            self.blocked = True
        for grant in plan.grants:
            self.roles[grant.user].add(("admin", grant.stand_in))
            self.roles[grant.user] -= set(grant.roles)
            if (error := self.break_off) is not None:
                self.break_off = None
                raise error
        self.faults["raise_fence"].after()

    def still_writing(self, plan: FencePlan) -> Sequence[RunningOperation | OpenTransaction]:
        self._called("still_writing")
        return self._look() if plan.kind is FenceKind.REVOKE else []

    def mark_time(self) -> Timestamp:
        self._called("mark_time")
        self._now = Timestamp(self._now.time, self._now.inc + 1)
        return self._now

    def lift_fence(self, plan: FencePlan) -> None:
        self._called(f"lift_fence {plan.kind}")
        if plan.kind is FenceKind.EXTERNAL:
            self.closed_with = None
        if plan.kind is FenceKind.WRITE_BLOCK:
            self.blocked = False
        for grant in plan.grants:
            self.roles[grant.user] |= set(grant.roles)
            self.roles[grant.user].discard(("admin", grant.stand_in))
        self.faults["lift_fence"].after()

    def fence_state(self, plan: FencePlan) -> FenceState:
        self._called("fence_state")
        if plan.kind is FenceKind.EXTERNAL:
            return FenceState.DOWN if self.closed_with is None else FenceState.UP
        if plan.kind is FenceKind.WRITE_BLOCK:
            return FenceState.UP if self.blocked else FenceState.DOWN
        states: set[FenceState] = set()
        for grant in plan.grants:
            held = self.roles[grant.user]
            taken, stands_in = not held & set(grant.roles), ("admin", grant.stand_in) in held
            whole = FenceState.DOWN if held >= set(grant.roles) and not stands_in else FenceState.UNKNOWN
            states.add(FenceState.UP if taken and stands_in else whole)
        return states.pop() if len(states) == 1 else FenceState.UNKNOWN

    def writes_after(self, time: Timestamp, limit: int = 100) -> Sequence[StrayWrite]:
        self._called("writes_after")
        if self.oldest > time:
            raise ResumeTokenLost("the oplog does not reach back to the fence")
        return [write for at, write in self._oplog if at > time and write.user != OWN][:limit]

    def _called(self, name: str) -> None:
        self.calls.append(name)
        self.faults[name.split()[0]].before()


class FakeClients:
    """Clients in memory: `looks` are given in turn, the last one again and again."""

    def __init__(self, *looks: Sequence[Sighting], unseen: Sequence[str] = ()) -> None:
        self.faults = Faults()
        self._looks, self._unseen = [tuple(one) for one in looks] or [()], tuple(unseen)

    def look(self) -> Look:
        self.faults.before()
        found = self._looks.pop(0) if len(self._looks) > 1 else self._looks[0]
        return Look(sightings=found, unseen=self._unseen)
