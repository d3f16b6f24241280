"""This process as a member of the migration: it holds a lease, follows the mode, and acknowledges each change of it.

A thread asks the ledger for the mode several times a second, and renews the lease. A write begins under the state that was
last seen and counts as in flight until it has ended; an epoch is acknowledged when no write of an earlier one is in flight.
Whether the lease still holds is looked at on the monotonic clock at the moment a request is signed.

A lease that has run out is over: others may have changed the leader without this process. It is renewed only on condition that
the mode is still the one that was just read, as when a process registers, and nothing that began under the old one is signed.

While MongoDB leads, a process that cannot reach the ledger goes on with MongoDB alone; once DynamoDB leads, it may not write.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from docferry.client.following import ModeReader
from docferry.client.journal.lanes import InstanceLanes
from docferry.client.tally import Tally
from docferry.client.ticket import CARRIED_OUT, WriteTicket
from docferry.core.cutover.instances import INSTANCES, KEPT_S, Instance
from docferry.core.cutover.modes import MODE, MOVES, Mode, ModeState
from docferry.errors import (
    CallRefused,
    ConditionFailed,
    LeaderUnknown,
    LeaseLost,
    MembershipBroken,
    MigrationError,
    WritesHeld,
)
from docferry.flows.ledger.modes import instance_in, is_one_of, mode_in, strike_off
from docferry.ports.client import DynamoCalls
from docferry.ports.flows import Identity, Journal, Ledger, Record

LEASE_S = 10.0
HOLD_GRACE_S = 5.0
"""How much longer than its deadline a hold is waited for: another process must see that it has passed, and put it back."""
MOST_HOLD_S = 60.0
MOST_SENT = 200
"""What was to become the record since it was written last is known that far back: one of these may have."""
STEP_S = 0.01


class Membership:
    """One process's part in the migration. Thread-safe; survives a fork, as a new instance."""

    def __init__(
        self,
        open_ledger: Callable[[], Ledger],
        identity: Callable[[], Identity],
        *,
        open_journal: Callable[[], Journal] | None = None,
        region: str = "",
        indexes: str = "",
        lease_s: float = LEASE_S,
    ) -> None:
        """Without `open_journal` it writes no entries, and does not say that it could. `indexes`: a digest of its file's."""
        self._open_ledger, self._identity, self._lease_s = open_ledger, identity, lease_s
        self._region, self._indexes, self._open_journal = region, indexes, open_journal
        self.on_fork: list[Callable[[], None]] = []
        self.tally = Tally()
        self._begin()
        _ALL.add(self)

    def __repr__(self) -> str:
        return f"Membership({self._id!r}, {self._state})"

    def _begin(self) -> None:
        """Before it is an instance: nothing is registered, nothing in flight."""
        self._lock = threading.Lock()  # never held while the ledger is asked
        self._asking = threading.Lock()
        self._opened: Ledger | None = None
        self._id = uuid.uuid4().hex
        self._reader = ModeReader()
        self._state, self._revision = ModeState(), 0
        self.alone_known: tuple[int, int] | None = None  # the term, and the mode's revision by MongoDB's marker
        self._record: Record | None = None
        self._sent: deque[Mapping[str, Any]] = deque(maxlen=MOST_SENT)
        self._acknowledged = -1
        self._deadline = 0.0
        self._term, self._renewed = 0, 0.0
        self._in_flight: dict[int, int] = {}
        self.tally.begin()
        self._closing, self._wake = threading.Event(), threading.Event()
        self.own_lanes = InstanceLanes(self._id, self._wake.set, self._open_journal)
        self._thread: threading.Thread | None = None
        self.trouble: MigrationError | None = None

    @property
    def _ledger(self) -> Ledger:
        """A process has connections of its own."""
        if self._opened is None:
            self._opened = self._open_ledger()
        return self._opened

    # --- beginning and ending ----------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        return self._id

    @property
    def state(self) -> ModeState:
        """The mode as it was last seen."""
        return self._state

    def follow(self) -> ModeState:
        """The mode as it was last seen, by a process that is registered. Raises as `join`."""
        if self._thread is None:
            self.join()
        return self._state

    def join(self) -> None:
        """Register, and follow the mode from now on. Nothing is done twice.

        Raises: StoreError, if the ledger cannot be reached; CallRefused, once this process has left.
        """
        if self._thread is not None:
            return
        if self._closing.is_set():
            raise CallRefused(what="a call to a client that is closed", suggestion="connect anew")
        with self._asking:
            if self._thread is not None:
                return
            self._register()
            self._thread = threading.Thread(target=self._follow, name="docferry membership", daemon=True)
            self._thread.start()

    def leave(self) -> None:
        """Say that this process has ended. What is in flight must have ended."""
        self._closing.set()
        self._wake.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(timeout=5)
        self._deadline = 0.0
        with self._asking:
            # What may still arrive is made impossible first; a process that cannot do so does not say that it has ended.
            if self._record is not None and self.own_lanes.close(every=self._state.journal):
                self._write_instance(self._acknowledged, ended=True)

    def _register(self) -> None:
        """Under the epoch of now: while it is being written, the mode may not change."""
        self._sent.clear()
        self.own_lanes = InstanceLanes(self._id, self._wake.set, self._open_journal)
        while True:
            asked = time.monotonic()
            mode = self._ledger.read(*MODE)
            try:
                if mode is None:
                    if self._ledger.list(MOVES):
                        raise LeaderUnknown(
                            "the ledger has lost its record of the mode, which was changed: restore its table"
                        )
                    mode = self._ledger.write(*MODE, ModeState().to_body(), expect=None)
                state = mode_in(mode)
                self._record, self._state, self._revision = None, state, mode.revision
                body = self._instance(state.epoch, ended=False).to_body()
                self._record = self._ledger.write(INSTANCES, self._id, body, expect=None, unchanged=[mode])
            except ConditionFailed:
                continue
            self._acknowledged = state.epoch
            self._begin_term(asked)
            self.own_lanes.grant(body["lanes"])
            return

    def after_fork(self) -> None:
        """In the child: it is another process, and knows nothing yet."""
        self._begin()
        for forget in self.on_fork:
            forget()

    # --- writes ------------------------------------------------------------------------------------------------------

    def ended(self, begun: WriteTicket) -> None:
        """This write is in flight no more."""
        epoch = begun.state.epoch
        with self._lock:
            left = self._in_flight[epoch] - 1
            if left:
                self._in_flight[epoch] = left
            else:
                del self._in_flight[epoch]
        if epoch != self._state.epoch:
            self._wake.set()  # the change of leader may be waiting for the acknowledgement

    def holds(self, begun: WriteTicket) -> bool:
        """Whether the lease under which a write began has held ever since: no leader was changed meanwhile."""
        with self._lock:
            return time.monotonic() <= self._deadline and begun.term == self._term

    async def begin(self, calls: DynamoCalls) -> WriteTicket:
        """Begin a write that has to wait: when the leader has been changed.

        Raises: WritesHeld, if that does not end in time; LeaderUnknown, if DynamoDB led when the ledger was last reached;
                MembershipBroken, if the lease ran out because following the mode fails, and not for want of the ledger.
        """
        began = time.monotonic()
        while (begun := self.begin_now()) is None:
            if self._gives_up(time.monotonic() - began):
                raise WritesHeld(f"writes are held since {time.monotonic() - began:.1f} s: {self._state}")
            await calls.sleep(STEP_S)
        if held_ms := int((time.monotonic() - began) * 1000):
            self.tally.count("held_ms", held_ms)
        return begun

    def begin_now(self) -> WriteTicket | None:
        """As `begin`; None if it has to wait."""
        if self._thread is None:
            self.join()
        with self._lock:
            state = self._state
            if self.own_lanes.abandoned:  # another instance begins in its place
                return None
            held = state.mode is Mode.HOLD
            if time.monotonic() <= self._deadline:
                if held:
                    return None
                self._in_flight[state.epoch] = self._in_flight.get(state.epoch, 0) + 1
                return WriteTicket(state, term=self._term, revision=self._revision)
        # The ledger may well be there: nothing tells that MongoDB still leads.
        if isinstance(self.trouble, MembershipBroken):
            raise MembershipBroken(str(self.trouble)) from self.trouble.__cause__
        if held:
            return None
        if state.mode.dynamodb_leads:
            raise LeaderUnknown(
                f"the ledger has not been reached for {self._lease_s:.0f} s, and DynamoDB led then: {state}"
            )
        return WriteTicket(state, alone=True, term=self._term)

    def _gives_up(self, waited_s: float) -> bool:
        """Whether a write has waited for too long: past the hold's deadline, and what putting it back may take."""
        overdue_s = time.time() - self._state.deadline_ms / 1000 - HOLD_GRACE_S
        return waited_s > MOST_HOLD_S or (waited_s > HOLD_GRACE_S and overdue_s > 0)

    def check(self) -> None:
        """The guard of every signature. Raises LeaseLost, also for a write that began under an earlier lease than this one."""
        begun = CARRIED_OUT.get()
        with self._lock:
            deadline, term = self._deadline, self._term
        if time.monotonic() > deadline or (begun is not None and begun.term != term):
            raise LeaseLost(f"{INSTANCES}/{self._id}")

    @property
    def lanes(self) -> InstanceLanes | None:
        """The journal's lanes, for the write that is carried out; None if it needs no entry."""
        begun = CARRIED_OUT.get()
        return self.own_lanes if begun is not None and begun.state.journal else None

    def look(self) -> ModeState:
        """Ask the ledger for the mode now. Raises StoreError."""
        self._see(self._ledger.read(*MODE))
        return self._state

    # --- following ---------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        closing = self._closing
        while not closing.is_set():
            self._wake.wait(self._reader.pause_s(self._state.mode))
            self._wake.clear()
            try:
                with self._asking:
                    self._beat()
                self.trouble = None
            except MigrationError as error:
                self.trouble = error  # the lease runs out unless a later beat works; `check` and `begin` look at that
            except Exception as error:  # noqa: BLE001 - the next beat is tried; `_begun` refuses writes once the lease is over
                self.tally.count(f"membership.failed.{type(error).__name__}")
                self.trouble = broken = MembershipBroken(f"following the mode fails: {type(error).__name__}")
                broken.__cause__ = error
            except BaseException as error:
                self._deadline = 0.0
                self.trouble = MembershipBroken(f"the thread that follows the mode was ended: {type(error).__name__}")
                raise

    def _beat(self) -> None:
        mode = self._reader.look(self._ledger, self._state.mode)
        self._see(mode)
        if self._closing.is_set():
            return
        now = time.monotonic()
        over, late = now > self._deadline, now - self._renewed > self._reader.renewal_s(self._lease_s)
        late = late or self.own_lanes.wanted > self.own_lanes.granted > 0
        with self._lock:
            epoch = self._state.epoch
            if any(begun < epoch for begun in self._in_flight):
                epoch = self._acknowledged
        held = epoch != self._acknowledged and self._state.mode is Mode.HOLD
        if held and not self.own_lanes.close(every=self._state.journal):
            epoch = self._acknowledged
        if self.own_lanes.abandoned:
            self._strike_off()
        elif over or late or epoch != self._acknowledged:
            self._write_instance(epoch, ended=False, unchanged=[mode] if over and mode else [])

    def _see(self, record: Record | None) -> None:
        state = mode_in(record) if record else ModeState()
        with self._lock:
            if state.epoch >= self._state.epoch:
                self._state, self._revision = state, record.revision if record else 0

    def _write_instance(self, epoch: int, *, ended: bool, unchanged: Sequence[Record] = ()) -> None:
        """Renew the lease. One that is over by the time that it is written begins anew, if the mode is `unchanged`."""
        asked, deadline = time.monotonic(), self._deadline
        body = self._instance(epoch, ended=ended).to_body()
        self._sent.append(body)
        try:
            written = self._ledger.write(INSTANCES, self._id, body, expect=self._record, unchanged=unchanged)
        except ConditionFailed:
            self._not_written(epoch, body, ended=ended, unchanged=unchanged)
            return
        self._sent.clear()
        self._record, self._acknowledged, self._renewed = written, epoch, asked
        self.own_lanes.grant(body["lanes"])
        if ended:
            self._deadline = 0.0
        elif unchanged:
            self._begin_term(asked)
        elif time.monotonic() <= deadline:
            self._deadline = asked + self._lease_s * 0.8

    def _not_written(self, epoch: int, body: Mapping[str, Any], *, ended: bool, unchanged: Sequence[Record]) -> None:
        current = self._ledger.read(INSTANCES, self._id)
        if current is not None and self._record is not None and current.revision == self._record.revision:
            return  # the mode has changed meanwhile: the next beat sees it
        if current is not None and is_one_of(current, self._sent):
            self._record = current  # an earlier write of ours, whose answer was lost
            self._write_instance(epoch, ended=ended, unchanged=unchanged)
            return
        self._deadline = 0.0  # struck off; or a copy of this process writes as the same instance
        if not ended:
            self._strike_off()

    def _strike_off(self) -> None:
        """Say in its record that this instance writes no more, and register as another: a copy of it may think itself alive."""
        strike_off(self._ledger, self._id)
        self._register_anew()

    def _register_anew(self) -> None:
        self._id = uuid.uuid4().hex
        self._register()

    def _begin_term(self, asked: float) -> None:
        with self._lock:
            self._term += 1
            self._deadline, self._renewed = asked + self._lease_s * 0.8, asked

    def _instance(self, epoch: int, *, ended: bool) -> Instance:
        now, identity = time.time_ns() // 1_000_000, self._identity()
        return Instance(
            id=self._id,
            name=identity.name,
            mark=identity.mark,
            epoch=epoch,
            registered_ms=instance_in(self._record).registered_ms if self._record else now,
            beat_ms=now,
            until_ms=now + int(self._lease_s * 1000),
            ended=ended,
            mode=str(self._state.mode),
            region=self._region,
            indexes=self._indexes,
            **self.tally.recorded(),
            lanes=self.own_lanes.wanted,
            at=self.own_lanes.at,
            expires_s=now // 1000 + KEPT_S if self._state.mode is Mode.FINAL else 0,
        )


_ALL: weakref.WeakSet[Membership] = weakref.WeakSet()


def _after_fork() -> None:
    for membership in list(_ALL):
        membership.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
