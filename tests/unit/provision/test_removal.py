"""What is removed and what must stay, of what no emulator has: with canned answers, held against botocore's models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from docferry.core.estate.kinds.backup import Vault
from docferry.core.estate.kinds.replica_scaling import ReplicaScaling
from docferry.core.estate.removal.plan import plan_resource_removal, plan_table_removal
from docferry.core.estate.tables import created_table
from docferry.core.estate.tags import owner_tag
from docferry.core.estate.values import Action, EstatePlan, EstateStep, TableSpec
from support.provision.canned import Answers, CannedEstate

NOW = datetime(2026, 11, 30, tzinfo=UTC)
OWNER = owner_tag("m", "Ledger")
ARN = "arn:aws:backup:us-east-1:111122223333:backup-vault:shop"
VAULT = Vault(name="shop", arn=ARN, owner=OWNER)
POINT = "arn:aws:backup:us-east-1:111122223333:recovery-point:1"
TABLE = TableSpec(name="Shop", owner_tag=OWNER)


def vault(tags: Mapping[str, str], *points: str, **more: Any) -> Answers:
    found = {"BackupVaultName": "shop", "BackupVaultArn": ARN, **more}
    listed = [{"RecoveryPointArn": one, "Status": "COMPLETED"} for one in points]
    return {
        "list_backup_vaults": [{"BackupVaultList": [found]}], "list_tags": [{"Tags": dict(tags)}],
        "list_recovery_points_by_backup_vault": [{"RecoveryPoints": listed}],
    }  # fmt: skip


GONE: Answers = {"list_backup_vaults": [{"BackupVaultList": []}]}


def planned(spec: Any, estate: CannedEstate) -> EstatePlan:
    return plan_resource_removal(spec, spec.observe(estate.ask), estate.ask)


def test_a_vault_with_recovery_points_goes_only_if_they_are_asked_for_and_they_go_first() -> None:
    with_point = CannedEstate(vault(OWNER, POINT), vault(OWNER), GONE)
    (stays,) = planned(VAULT, with_point).blocked
    assert "1 recovery point(s), which only --recovery-points deletes" in str(stays)
    emptied = replace(VAULT, emptied=True)
    for step in iter(lambda: planned(emptied, with_point).steps, ()):
        with_point.apply(step[0])
    asked = [(call.operation, call.arguments.get("RecoveryPointArn")) for call in with_point.changes]
    assert asked == [("delete_recovery_point", POINT), ("delete_backup_vault", None)]


@pytest.mark.parametrize("emptied", [False, True])
def test_a_locked_vault_stays_whatever_is_asked(emptied: bool) -> None:
    lock = {"Locked": True, "MinRetentionDays": 7, "MaxRetentionDays": 400, "LockDate": NOW}
    plan = planned(replace(VAULT, emptied=emptied), CannedEstate(vault(OWNER, **lock)))
    assert plan.steps == ()
    assert "it is locked (compliance, 7 to 400 days)" in str(plan.blocked[0])


@pytest.mark.parametrize("tags", [{}, owner_tag("m", "AnotherLedger"), owner_tag("other", "Ledger")])
def test_what_does_not_bear_this_migrations_tag_is_left(tags: Mapping[str, str]) -> None:
    plan = planned(VAULT, CannedEstate(vault(tags)))
    assert (plan.steps, plan.blocked) == ((), ())
    assert "bears no tag of this migration's; left alone" in plan.notes[0]


def test_what_a_stack_of_cloudformation_made_is_that_stacks() -> None:
    tags = {**OWNER, "aws:cloudformation:stack-name": "shop-stack"}
    assert "CloudFormation stack shop-stack: delete that" in str(planned(VAULT, CannedEstate(vault(tags))).blocked[0])
    table = replace(created_table(TABLE), tags=tags)
    assert plan_table_removal(TABLE, table, {}).steps == ()


def test_autoscaling_of_a_replica_is_switched_off_once() -> None:
    spec = ReplicaScaling(name="Shop", region="eu-west-1", arn="*", min_units=5, max_units=50, target_percent=70)
    policy = {"TargetTrackingScalingPolicyConfiguration": {"TargetValue": 70.0}}

    def scaled(settings: Mapping[str, Any]) -> Answers:
        key = "ReplicaProvisionedReadCapacityAutoScalingSettings"
        there = {"RegionName": "eu-west-1", "ReplicaStatus": "ACTIVE", key: settings}
        table = {"TableStatus": "ACTIVE", "Replicas": [there]}
        return {"describe_table_replica_auto_scaling": [{"TableAutoScalingDescription": table}]}

    on = {"MinimumUnits": 5, "MaximumUnits": 50, "ScalingPolicies": [policy]}
    estate = CannedEstate(scaled(on), scaled({"AutoScalingDisabled": True}))
    (step,) = planned(spec, estate).steps
    estate.apply(step)
    assert planned(spec, estate) == EstatePlan()
    (update,) = estate.changes[0].arguments["ReplicaUpdates"]
    assert update["ReplicaProvisionedReadCapacityAutoScalingUpdate"] == {"AutoScalingDisabled": True}


def test_replicas_go_before_their_table_and_protection_falls_just_before_each() -> None:
    state = replace(created_table(TABLE), replicas={"eu-west-1": "ACTIVE", "eu-west-2": "ACTIVE"})
    open_there = replace(created_table(TABLE), deletion_protection=False)
    plan = plan_table_removal(TABLE, state, {"eu-west-1": created_table(TABLE), "eu-west-2": open_there})
    assert [_told(one) for one in plan.steps] == [
        (Action.UNPROTECT, "eu-west-1", "eu-west-1"), (Action.REMOVE_REPLICA, "eu-west-1", None),
        (Action.REMOVE_REPLICA, "eu-west-2", None), (Action.UNPROTECT, "", None), (Action.DELETE_TABLE, "", None),
    ]  # fmt: skip


def _told(step: EstateStep) -> tuple[Action, str, str | None]:
    return step.action, step.detail, step.region
