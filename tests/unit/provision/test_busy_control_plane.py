"""AWS that is busy with a resource, or has as many changes in flux as it takes, is waited for; a quota that is used up is not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from docferry.adapters.aws.errors import error_for
from docferry.core.estate.values import Action, EstateStep
from docferry.errors import ControlPlaneBusy, PermanentStoreError, RequestRefused, RetryExhausted, StoreError
from docferry.flows.provision.run import provision
from support.provision.slow_estate import DESIRED, PATIENCE, Quiet, SlowEstate

IN_FLUX = "Subscriber limit exceeded: Only 500 tables can be created, updated, or deleted simultaneously"
ONE_INDEX = "Subscriber limit exceeded: Only 1 online index can be created or deleted simultaneously per table"
QUOTA = "Subscriber limit exceeded: There is a limit of 2500 tables per subscriber"
TTL_LOCK = "Time to live has been modified multiple times within a fixed interval"
PITR = "Backups are being enabled for the table: Shop. Please retry later"
ANSWERS = [
    (Action.CREATE_TABLE, "LimitExceededException", IN_FLUX),
    (Action.CREATE_TABLE, "ResourceInUseException", "Table is being created: Shop"),
    (Action.SET_PITR, "ContinuousBackupsUnavailableException", PITR),
    (Action.SET_TTL, "ValidationException", TTL_LOCK),
    (Action.FINISH, "ResourceInUseException", "Table is being updated: Shop"),
    (Action.FINISH, "LimitExceededException", ONE_INDEX),
]


class Busy(SlowEstate):
    """Refuses an action so many times, and then takes it."""

    def __init__(self, action: Action, error: StoreError, times: int = 5) -> None:
        super().__init__(looks=1)
        self.action, self.error, self.left = action, error, times

    def apply(self, step: EstateStep) -> None:
        if step.action is self.action and self.left:
            self.left -= 1
            raise self.error
        super().apply(step)


@pytest.mark.parametrize(("action", "code", "message"), ANSWERS, ids=[f"{a}: {c}" for a, c, _ in ANSWERS])
def test_provision_goes_on_when_aws_has_time_again_however_short_its_patience_with_trouble(
    action: Action, code: str, message: str
) -> None:
    estate = Busy(action, error_for("Op", code, message, 400))
    patience = replace(PATIENCE, trouble_s=0.0, poll_s=0.001)
    report = provision(DESIRED, estate, progress=Quiet(), stop=Quiet(), patience=patience)
    assert estate.left == 0
    assert [one.outcome.value for one in report.resources] == ["created", "created"]


def test_provision_gives_up_on_a_control_plane_that_stays_busy_when_a_change_of_its_own_would_be_given_up() -> None:
    estate = Busy(Action.SET_TTL, error_for("Op", "ValidationException", TTL_LOCK, 400), times=10**9)
    with pytest.raises(RetryExhausted, match="modified multiple times"):
        provision(
            DESIRED, estate, progress=Quiet(), stop=Quiet(), patience=replace(PATIENCE, settle_s=0.3, poll_s=0.01)
        )


def test_a_quota_that_is_used_up_ends_provision_at_once() -> None:
    estate = Busy(Action.CREATE_TABLE, error_for("Op", "LimitExceededException", QUOTA, 400))
    with pytest.raises(PermanentStoreError, match="2500 tables"):
        provision(DESIRED, estate, progress=Quiet(), stop=Quiet(), patience=PATIENCE)
    assert estate.left == 4


def test_the_messages_tell_apart_what_the_codes_do_not() -> None:
    assert isinstance(error_for("Op", "LimitExceededException", IN_FLUX, 400), ControlPlaneBusy)
    assert isinstance(error_for("Op", "LimitExceededException", ONE_INDEX, 400), ControlPlaneBusy)
    assert not error_for("Op", "LimitExceededException", QUOTA, 400).retryable
    assert isinstance(
        error_for("Op", "ValidationException", "One or more parameter values were invalid"), RequestRefused
    )
