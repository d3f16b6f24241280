"""A transaction of MongoDB ends, or is refused, before a change of the leader: none is committed across it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from docferry.client.transport.sync_driver import run
from docferry.core.cutover.instances import Instance
from docferry.core.cutover.modes import MODE, Mode, ModeState
from docferry.errors import WritesFenced, WriteUnconfirmed
from docferry.flows.ledger.modes import list_instances
from support.backfill.rig import eventually
from support.client.doors import MANY, MONGO, Client, DriverError, TransientError

HOLD = ModeState(mode=Mode.HOLD, epoch=4, behind=Mode.MONGO_ONLY, ahead=Mode.DYNAMODB_ONLY, deadline_ms=2**53)


class Session:
    """pymongo's, as far as the client looks at it."""

    def __init__(self) -> None:
        self.in_transaction, self.aborted, self.committed = True, 0, 0
        self.fails: Exception | None = None

    def abort_transaction(self) -> None:
        self.in_transaction = False
        self.aborted += 1

    def commit_transaction(self) -> None:
        if self.fails is not None:
            raise self.fails
        self.in_transaction = False
        self.committed += 1


class InTransaction(Client):
    def __init__(self) -> None:
        super().__init__()
        self.session = Session()
        self.transactions.begun(self.session)

    def change(self) -> Any:
        return run(self.delegated.run("users", "delete_many", MANY, self._change, (), {"session": self.session}))

    def _change(self, session: Any) -> str:
        self.door.meanwhile()
        return "written"

    def commit(self) -> None:
        run(self.transactions.commit(self.session, self.session.commit_transaction))

    def lead(self, state: ModeState) -> None:
        self.ledger.write(*MODE, state.to_body(), expect=self.ledger.read(*MODE))
        eventually(lambda: self.member.state.epoch == state.epoch, "the mode to be seen")

    def acknowledged(self) -> int:
        return self._instance().epoch

    def after_a_beat(self) -> int:
        """What is acknowledged once the record has been written again."""
        before = self._instance().beat_ms
        eventually(lambda: self._instance().beat_ms > before, "the lease to be renewed")
        return self.acknowledged()

    def _instance(self) -> Instance:
        (instance,) = list_instances(self.ledger)
        return instance


@pytest.fixture
def client() -> Iterator[InTransaction]:
    made = InTransaction()
    made.member.join()
    yield made
    made.member.leave()


def test_transaction_under_one_mode_is_committed(client: InTransaction) -> None:
    assert client.change() == client.change() == "written"
    client.commit()
    assert (client.session.committed, client.session.aborted) == (1, 0)


def test_nothing_is_in_flight_between_its_operations_and_a_hold_does_not_wait_for_it(client: InTransaction) -> None:
    client.change()
    client.lead(HOLD)
    eventually(lambda: client.acknowledged() == HOLD.epoch, "the hold to be acknowledged")


@pytest.mark.parametrize("state", [HOLD, ModeState(mode=Mode.DUAL_WRITE, epoch=4)], ids=["hold", "another mode"])
@pytest.mark.parametrize("by", ["change", "commit"])
def test_its_next_operation_after_a_change_of_the_mode_ends_it_as_one_that_may_begin_anew(
    client: InTransaction, state: ModeState, by: str
) -> None:
    client.change()
    client.lead(state)
    with pytest.raises(TransientError):
        getattr(client, by)()
    assert (client.session.committed, client.session.aborted) == (0, 1)


def test_it_ends_before_its_commit_once_dynamodb_leads_and_may_begin_anew_there(client: InTransaction) -> None:
    client.change()
    client.lead(ModeState(mode=Mode.DYNAMODB_ONLY, epoch=5, floor=1))
    with pytest.raises(TransientError):
        client.commit()
    assert (client.session.committed, client.session.aborted) == (0, 1)


def test_commit_whose_answer_was_lost_is_not_told_as_undone_under_another_leader(client: InTransaction) -> None:
    client.change()
    client.session.fails = DriverError("connection lost")
    with pytest.raises(DriverError):
        client.commit()
    client.lead(ModeState(mode=Mode.DYNAMODB_ONLY, epoch=5, floor=1))
    with pytest.raises(WriteUnconfirmed):
        client.commit()
    assert client.session.aborted == 0


def test_commit_whose_answer_was_lost_is_asked_again_under_another_mode_of_the_same_leader(
    client: InTransaction,
) -> None:
    client.change()
    client.session.fails = DriverError("connection lost")
    with pytest.raises(DriverError):
        client.commit()
    client.session.fails = None
    client.lead(ModeState(mode=Mode.DUAL_WRITE, epoch=4))
    client.commit()
    assert client.session.committed == 1


def test_commit_counts_as_in_flight(client: InTransaction) -> None:
    client.change()
    going, go = threading.Event(), threading.Event()

    def commit() -> None:
        going.set()
        assert go.wait(10)

    session: Any = client.session
    session.commit_transaction = commit
    thread = threading.Thread(target=client.commit)
    thread.start()
    assert going.wait(10)
    client.lead(HOLD)
    assert client.after_a_beat() == MONGO.epoch
    go.set()
    thread.join()
    eventually(lambda: client.acknowledged() == HOLD.epoch, "the hold to be acknowledged")


def test_write_that_the_fence_refused_is_not_made_again_alone(client: InTransaction) -> None:
    made = []

    def fence() -> None:
        made.append(1)
        raise WritesFenced("no writes", operation="write")

    client.door.meanwhile = fence
    with pytest.raises(TransientError):
        client.change()
    assert len(made) == 1


def test_transaction_that_only_reads_is_held_against_the_mode_too(client: InTransaction) -> None:
    client.transactions.read(client.session)
    client.lead(HOLD)
    with pytest.raises(TransientError):
        client.change()


def test_transaction_without_anything_of_this_migration_is_mongodbs_own(client: InTransaction) -> None:
    client.lead(HOLD)
    client.commit()
    assert client.session.committed == 1


# --- once DynamoDB leads ---------------------------------------------------------------------------------------------

LED = ModeState(mode=Mode.DYNAMODB_ONLY, epoch=5, floor=1)
HELD = ModeState(mode=Mode.HOLD, epoch=6, behind=Mode.DYNAMODB_ONLY, ahead=Mode.MONGO_ONLY, deadline_ms=2**53)
BACK = ModeState(mode=Mode.MONGO_ONLY, epoch=7)


class Optimistic(InTransaction):
    def write(self, error: Exception | None = None) -> str:
        async def mongo(state: ModeState) -> str:
            raise AssertionError("MongoDB does not lead")

        async def dynamodb(state: ModeState) -> str:
            if error is not None:
                raise error
            return f"written under {state.epoch}"

        return run(self.transactions.write(self.session, "update_one", mongo, dynamodb))


@pytest.fixture
def led() -> Iterator[Optimistic]:
    made = Optimistic()
    made.member.join()
    made.lead(LED)
    yield made
    made.member.leave()


def test_transaction_of_dynamodb_is_committed_under_its_mode_and_nothing_is_in_flight_before(led: Optimistic) -> None:
    assert led.write() == led.write() == "written under 5"
    led.commit()
    led.commit()  # pymongo, too, takes it twice
    led.write()
    led.lead(HELD)
    eventually(lambda: led.acknowledged() == HELD.epoch, "the hold to be acknowledged")


@pytest.mark.parametrize("state", [HELD, BACK], ids=["hold", "another mode"])
@pytest.mark.parametrize("by", ["write", "commit"])
def test_transaction_of_dynamodb_is_not_committed_across_a_change_of_the_mode(
    led: Optimistic, state: ModeState, by: str
) -> None:
    led.write()
    led.lead(state)
    with pytest.raises(TransientError):
        getattr(led, by)()


def test_error_ends_a_transaction_of_dynamodb(led: Optimistic) -> None:
    with pytest.raises(DriverError):
        led.write(DriverError("refused"))
    with pytest.raises(TransientError, match="DriverError"):
        led.commit()


def test_transaction_that_has_begun_in_mongodb_reads_nothing_of_dynamodb(client: InTransaction) -> None:
    client.transactions.read(client.session)
    client.lead(LED)
    with pytest.raises(TransientError):
        client.transactions.read(client.session)
