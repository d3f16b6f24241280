"""Resources that no emulator has, or whose states it passes over: against botocore's models, with canned answers.

It proves the requests well formed and the answers understood; it cannot prove that AWS agrees (docs/resources.md says so).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from docferry.core.estate.kinds.backup import BackupSelection, Vault, VaultLock
from docferry.core.estate.kinds.functions import EventSourceMapping
from docferry.core.estate.kinds.keys import KmsReplicaKey
from docferry.core.estate.kinds.replica_scaling import ReplicaScaling
from docferry.core.estate.kinds.throughput import ContributorInsights, WarmThroughput
from docferry.core.estate.resources import MARKER, Resource
from docferry.core.estate.values import DesiredEstate, LedgerTableSpec
from docferry.core.estate.wanted import Around
from docferry.errors import EstateDrift
from docferry.flows.provision.report import ProvisionReport, render_plan
from docferry.flows.provision.run import provision
from support.provision.canned import Answers, CannedEstate
from support.provision.slow_estate import PATIENCE, Quiet

NOW = datetime(2026, 11, 30, tzinfo=UTC)
ARN = "arn:aws:backup:us-east-1:111122223333:backup-vault:shop"
UUID = "6b1d1c3e-0000-4000-8000-000000000001"
TABLE = "arn:aws:dynamodb:us-east-1:111122223333:table/Shop"


def run(spec: Resource, estate: CannedEstate, **more: Any) -> ProvisionReport:
    desired = DesiredEstate(region="us-east-1", tables=(LedgerTableSpec(name="Ledger"),), around=Around(after=(spec,)))
    return provision(desired, estate, progress=Quiet(), stop=Quiet(), patience=PATIENCE, **more)


def made(spec: Resource, *stages: Answers) -> list[tuple[str, Mapping[str, Any]]]:
    """The requests by which it was made: all of them, each read back, and a second run that finds nothing to do."""
    estate = CannedEstate(*stages)
    assert run(spec, estate).resources[-1].outcome.value == "created"
    assert estate.stage == len(stages) - 1
    before = len(estate.changes)
    assert not run(spec, estate).changed_anything
    assert len(estate.changes) == before
    return [(call.operation, call.arguments) for call in estate.changes]


# --- AWS Backup -------------------------------------------------------------------------------------------------------

LOCKED = Vault(
    name="shop", arn=ARN, tags={"Project": "migration"}, lock=VaultLock(compliance=True, min_days=7, max_days=400)
)


def vault(tags: Mapping[str, str], **more: Any) -> Answers:
    found = {"BackupVaultName": "shop", "BackupVaultArn": ARN, **more}
    return {"list_backup_vaults": [{"BackupVaultList": [found]}], "list_tags": [{"Tags": dict(tags)}]}


LOCK = {"Locked": True, "MinRetentionDays": 7, "MaxRetentionDays": 400, "LockDate": NOW}
BORN = LOCKED.birth_tags


def test_a_vault_is_tagged_from_its_first_moment_and_then_locked() -> None:
    stages: tuple[Answers, ...] = (
        {"list_backup_vaults": [{"BackupVaultList": []}]}, vault(BORN), vault(BORN, **LOCK), vault(LOCKED.tags, **LOCK),
    )  # fmt: skip
    create, lock, finish = made(LOCKED, *stages)
    assert create == ("create_backup_vault", {"BackupVaultName": "shop", "BackupVaultTags": BORN})
    days = {"MinRetentionDays": 7, "MaxRetentionDays": 400, "ChangeableForDays": 3}
    assert lock == ("put_backup_vault_lock_configuration", {"BackupVaultName": "shop", **days})
    assert finish == ("untag_resource", {"ResourceArn": ARN, "TagKeyList": [MARKER]})


def test_a_vault_whose_making_was_interrupted_is_locked_unasked_and_another_is_not() -> None:
    begun = CannedEstate(vault(BORN), vault(BORN, **LOCK), vault(LOCKED.tags, **LOCK))
    assert run(LOCKED, begun).resources[-1].applied == ("set lock", "mark as finished")
    other = CannedEstate(vault({}))
    with pytest.raises(EstateDrift, match="lock: is none, the file says compliance, 7 to 400 days"):
        run(LOCKED, other)
    assert other.changes == []
    assert other.tables == {}  # the ledger comes first, and was not made


def test_a_vault_with_another_key_and_a_selection_of_other_tables_are_refused_even_with_permission() -> None:
    key = {"EncryptionKeyArn": "arn:aws:kms:us-east-1:1:key/x", "EncryptionKeyType": "CUSTOMER_MANAGED_KMS_KEY"}
    with pytest.raises(EstateDrift, match="AWS cannot change it in place"):
        run(Vault(name="shop", arn=ARN), CannedEstate(vault({}, **key)), allow_changes=True)
    selection = BackupSelection(name="s", arn="*", plan="p", role_arn="arn:r", tables=(TABLE,))
    plan = {"BackupPlanId": "1", "BackupPlanName": "p", "BackupPlanArn": "a", "CreationDate": NOW}
    there: Answers = {
        "list_backup_plans": [{"BackupPlansList": [plan]}],
        "list_backup_selections": [{"BackupSelectionsList": [{"SelectionName": "s", "SelectionId": "2"}]}],
        "get_backup_selection": [
            {"BackupSelection": {"SelectionName": "s", "IamRoleArn": "arn:r", "Resources": ["*"]}}
        ],
    }
    with pytest.raises(EstateDrift, match="tables: is \\*"):
        run(selection, CannedEstate(there), allow_changes=True)


# --- what a table has beside itself -----------------------------------------------------------------------------------


def warm(units: int, status: str = "ACTIVE", index: str = "ACTIVE") -> dict[str, Any]:
    given = {"ReadUnitsPerSecond": units, "WriteUnitsPerSecond": units}
    indexes = [{"IndexName": "GSI1", "WarmThroughput": {**given, "Status": index}}]
    return {"Table": {"WarmThroughput": {**given, "Status": status}, "GlobalSecondaryIndexes": indexes}}


def test_warm_throughput_is_raised_waited_for_and_never_lowered() -> None:
    spec = WarmThroughput(name="Shop", arn=TABLE, read_units=9000, write_units=8000, indexes=("GSI1",))
    rising = [warm(9000, "UPDATING", "UPDATING"), warm(9000, "ACTIVE", "UPDATING"), warm(9000)]
    ((operation, arguments),) = made(spec, {"describe_table": [warm(4000)]}, {"describe_table": rising})
    units = {"ReadUnitsPerSecond": 9000, "WriteUnitsPerSecond": 8000}
    assert operation == "update_table"
    assert arguments["WarmThroughput"] == units
    assert arguments["GlobalSecondaryIndexUpdates"] == [{"Update": {"IndexName": "GSI1", "WarmThroughput": units}}]
    assert not run(spec, CannedEstate({"describe_table": [warm(50_000)]})).resources[-1].applied


def test_contributor_insights_are_waited_for_and_a_failure_is_no_success() -> None:
    spec = ContributorInsights(name="Shop", arn=TABLE, index="GSI1")
    off, moving, on, failed = (
        {"describe_contributor_insights": [{"ContributorInsightsStatus": one}]}
        for one in ("DISABLED", "ENABLING", "ENABLED", "FAILED")
    )
    waited: Answers = {
        "describe_contributor_insights": [
            *moving["describe_contributor_insights"], *on["describe_contributor_insights"]
        ]
    }  # fmt: skip
    ((_, arguments),) = made(spec, off, waited)
    assert arguments == {"TableName": "Shop", "IndexName": "GSI1", "ContributorInsightsAction": "ENABLE"}
    with pytest.raises(EstateDrift, match="status: is failed, the file says enabled"):
        run(spec, CannedEstate(failed))


def scaling(status: str, *, reads: bool) -> dict[str, Any]:
    policy = {"TargetTrackingScalingPolicyConfiguration": {"TargetValue": 70.0}}
    settings = {"MinimumUnits": 5, "MaximumUnits": 50, "ScalingPolicies": [policy]} if reads else {}
    key = "ReplicaProvisionedReadCapacityAutoScalingSettings"
    index = {"IndexName": "GSI1", "ProvisionedReadCapacityAutoScalingSettings": settings}
    there = {"RegionName": "eu-west-1", "ReplicaStatus": "ACTIVE", key: settings, "GlobalSecondaryIndexes": [index]}
    return {"TableAutoScalingDescription": {"TableStatus": status, "Replicas": [there]}}


def test_a_replicas_reads_are_scaled_as_the_first_regions_are() -> None:
    spec = ReplicaScaling(
        name="Shop", arn=TABLE, region="eu-west-1", min_units=5, max_units=50, target_percent=70, indexes=("GSI1",)
    )
    asked = "describe_table_replica_auto_scaling"
    estate = CannedEstate(
        {asked: [scaling("ACTIVE", reads=False)]},
        {asked: [scaling("UPDATING", reads=True), scaling("ACTIVE", reads=True)]},
    )
    with pytest.raises(EstateDrift):
        run(spec, estate)
    assert run(spec, estate, allow_changes=True).resources[-1].outcome.value == "changed"
    (call,) = estate.changes
    (update,) = call.arguments["ReplicaUpdates"]
    assert update["RegionName"] == "eu-west-1"
    assert [one["IndexName"] for one in update["ReplicaGlobalSecondaryIndexUpdates"]] == ["GSI1"]


# --- keys and functions -----------------------------------------------------------------------------------------------


def test_a_replica_of_a_key_is_waited_for_named_and_found_without_its_name() -> None:
    spec = KmsReplicaKey(name="alias/shop", region="eu-west-1")

    def key(region: str, state: str = "Enabled") -> dict[str, Any]:
        arn = f"arn:aws:kms:{region}:111122223333:key/mrk-1"
        return {"KeyMetadata": {"KeyId": "mrk-1", "Arn": arn, "KeyState": state}}

    main, born = key("us-east-1"), [{"Tags": [{"TagKey": MARKER, "TagValue": spec.digest}]}]
    nowhere: Answers = {"describe_key": [None, main, None, None, main, None, None, main, None, main]}
    assert _plan_shows(spec, nowhere, "+ KMS key alias/shop in eu-west-1: create")
    unnamed: Answers = {"describe_key": [None, main, key("eu-west-1", "Creating")], "list_resource_tags": born}
    seen = spec.observe(CannedEstate(unnamed).ask)
    assert seen is not None
    assert (seen.settled, seen.fields["alias"], seen.tags) == (False, "missing", {MARKER: spec.digest})
    named: Answers = {"describe_key": [key("eu-west-1")], "list_resource_tags": [{"Tags": []}]}
    assert not run(spec, CannedEstate(named)).resources[-1].applied


def _plan_shows(spec: Resource, answers: Answers, line: str) -> bool:
    return line in render_plan(run(spec, CannedEstate(answers), dry_run=True))


def test_a_function_that_aws_still_connects_is_waited_for() -> None:
    spec = EventSourceMapping(
        name="i", function="indexer", table="Shop", batch=10, filters=('{"eventName": ["INSERT"]}',),
        dead_letters="arn:aws:sqs:us-east-1:111122223333:q",
    )  # fmt: skip
    stream = {"describe_table": [{"Table": {"LatestStreamArn": f"{TABLE}/stream/2026"}}]}
    arn = f"arn:aws:lambda:us-east-1:111122223333:event-source-mapping:{UUID}"

    def mapping(state: str) -> dict[str, Any]:
        pattern = {"Pattern": '{"eventName":["INSERT"]}'}
        found = {k: v for k, v in spec.arguments().items() if k not in ("FunctionName", "Enabled")}
        found |= {"FilterCriteria": {"Filters": [pattern]}, "UUID": UUID, "EventSourceMappingArn": arn}
        return {"EventSourceMappings": [{**found, "State": state, "StartingPosition": "LATEST"}]}

    there = {"list_event_source_mappings": [mapping("Creating"), mapping("Enabled")], "list_tags": [{"Tags": {}}]}
    none: Answers = {**stream, "list_event_source_mappings": [{"EventSourceMappings": []}]}
    ((_, arguments),) = made(spec, none, {**stream, **there})
    assert arguments["EventSourceArn"] == f"{TABLE}/stream/2026"
    assert arguments["DestinationConfig"] == {"OnFailure": {"Destination": "arn:aws:sqs:us-east-1:111122223333:q"}}
    off: Answers = {**stream, **there, "list_event_source_mappings": [mapping("Disabled")]}
    with pytest.raises(EstateDrift, match="state: is Disabled, the file says Enabled"):
        run(spec, CannedEstate(off))


def test_what_waits_is_told_by_a_dry_run_and_by_a_run() -> None:
    waits = Around(waiting=("stream of table Shop to function i: waits for FINAL",))
    desired = DesiredEstate(region="us-east-1", tables=(LedgerTableSpec(name="Ledger"),), around=waits)
    for dry in (True, False):
        report = provision(desired, CannedEstate(), dry_run=dry, progress=Quiet(), stop=Quiet(), patience=PATIENCE)
        assert report.notes == waits.waiting
