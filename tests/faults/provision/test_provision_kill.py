"""A real provisioning process is killed at different requests; the next run ends in the undisturbed estate.

A proxy stands between the process and the emulator and counts what passes. At the chosen request it kills the process
with SIGKILL, either before passing the request on or after the emulator has answered and before the process hears of it.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from docferry.sandbox.aws import SandboxAws
from support.provision.deadly_proxy import Proxy, serving

CHANGES = {
    "CreateTable", "UpdateTable", "UpdateContinuousBackups", "UpdateTimeToLive", "UpdateContributorInsights", "TagResource",
    "UntagResource", "CreateKey", "CreateAlias", "EnableKeyRotation", "ReplicateKey", "CreateTopic", "PutMetricAlarm",
    "PutDashboard", "PUT backup-vaults", "PUT plans", "PUT selections", "POST untag",
}  # fmt: skip
POINTS = int(os.environ.get("DOCFERRY_KILL_POINTS", "6"))
"""Twenty take three minutes."""
SCRIPT = """
import sys
import botocore.session
from docferry.adapters.aws.estate import AwsEstate
from docferry.config import parse_migration
from docferry.wiring import desired
from docferry.flows.provision.run import Patience, add_replicas, provision

class Quiet:
    def say(self, text): pass
    def advance(self, *_): pass
    def is_set(self): return False

wanted = desired(parse_migration(sys.stdin.buffer.read()))
estate = AwsEstate(botocore.session.Session(), "us-east-1")
run = {"progress": Quiet(), "stop": Quiet(), "patience": Patience(poll_s=0.05, settle_s=20, agree_s=2, trouble_s=5)}
changed = provision(wanted, estate, **run).changed_anything
changed = add_replicas(wanted, estate, **run).changed_anything or changed
print("changed" if changed else "unchanged")
"""


FILE = """
migration: MARK
source: {database: d}
target: {account: "123456789012", replicas: [eu-west-1]}
ledger: {table: LedgerMARK}
cutover: {journal: false}
tables:
  ShopMARK: {indexes: [GSI1], tags: {Project: migration}, kms_key: alias/MARK, contributor_insights: true}
collections: {logs: {}}
estate:
  tags: {Project: migration}
  keys: {MARK: {multi_region: true}}
  alarms: {topic: MARK}
  backup:
    vault: MARK
    role_arn: arn:aws:iam::123456789012:role/backup
    rules: {nightly: {schedule: "cron(0 3 * * ? *)", delete_after_days: 35, copy_to: [eu-west-1]}}
"""


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxAws]:
    with SandboxAws(tmp_path_factory.mktemp("aws")) as aws:
        yield aws


def provision(emulator: SandboxAws, mark: str, proxy: Proxy) -> tuple[int, str]:
    """Exit code and last word of a provisioning process whose AWS is the proxy."""
    there = {name: proxy.url for name in emulator.env() if name.startswith("AWS_ENDPOINT_URL")}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], env={**os.environ, **emulator.env(), **there}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    proxy.victim = process
    try:
        out, err = process.communicate(FILE.replace("MARK", mark), timeout=120)
    finally:
        process.kill()
    assert process.returncode in {0, -signal.SIGKILL}, err
    return process.returncode, out.strip()


VOLATILE = re.compile(r"(mrk-)?[0-9a-f]{8}-?[0-9a-f-]{20,27}|\d{4}-\d\d-\d\d[T ][0-9:.+]*|[0-9a-f]{16}")
"""Ids, times, and what is computed of names."""
TIMES = {"CreationDateTime", "LastUpdateToPayPerRequestDateTime", "CreationDate", "LastExecutionDate", "VersionId"}


def estate_of(emulator: SandboxAws, mark: str) -> dict[str, Any]:
    """Everything AWS says about what the file asks for, without docferry, and without names, ids and times."""
    found = {name: json.dumps(_timeless(of), sort_keys=True, default=str) for name, of in _asked(emulator, mark)}
    return {name: VOLATILE.sub("*", text.replace(mark, "MARK")) for name, text in found.items()}


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            k: _timeless(v)
            for k, v in value.items()
            if k not in TIMES and "Timestamp" not in k and k != "ResponseMetadata"
        }
    return [_timeless(one) for one in value] if isinstance(value, list) else value


def _asked(emulator: SandboxAws, mark: str) -> Iterator[tuple[str, Any]]:
    def client(service: str, region: str = "us-east-1") -> Any:
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        return boto3.client(service, region_name=region, endpoint_url=emulator.endpoint, **keys)

    for region, base in (("us-east-1", "Ledger"), ("us-east-1", "Shop"), ("eu-west-1", "Shop")):
        dynamodb, name = client("dynamodb", region), base + mark
        table = dynamodb.describe_table(TableName=name)["Table"]
        yield f"{base} in {region}", table
        yield f"{base}'s tags in {region}", dynamodb.list_tags_of_resource(ResourceArn=table["TableArn"])
        yield f"{base}'s backups in {region}", dynamodb.describe_continuous_backups(TableName=name)
        yield f"{base}'s TTL in {region}", dynamodb.describe_time_to_live(TableName=name)
        yield f"{base}'s insights in {region}", dynamodb.list_contributor_insights(TableName=name)
    for region in ("us-east-1", "eu-west-1"):
        kms, backup = client("kms", region), client("backup", region)
        key = kms.describe_key(KeyId=f"alias/{mark}")["KeyMetadata"]
        yield f"key in {region}", [key, kms.list_resource_tags(KeyId=key["KeyId"])]
        named = [kms.list_resource_tags(KeyId=one["KeyId"])["Tags"] for one in kms.list_keys(Limit=1000)["Keys"]]
        yield f"keys in {region}", sum(mark in json.dumps(tags) for tags in named)
        vault = backup.describe_backup_vault(BackupVaultName=mark)
        yield f"vault in {region}", [vault, backup.list_tags(ResourceArn=vault["BackupVaultArn"])["Tags"]]
    backup, cloudwatch = client("backup"), client("cloudwatch")
    plans = [one for one in backup.list_backup_plans()["BackupPlansList"] if mark in one["BackupPlanName"]]
    for plan in plans:
        where = {"BackupPlanId": plan["BackupPlanId"]}
        of = [backup.get_backup_plan(**where), backup.list_tags(ResourceArn=plan["BackupPlanArn"])["Tags"]]
        yield "plan", of
        yield "selections", backup.list_backup_selections(**where)["BackupSelectionsList"]
    yield "plans", len(plans)
    alarms = cloudwatch.describe_alarms(AlarmNamePrefix=f"docferry-{mark}", MaxRecords=100)["MetricAlarms"]
    yield "alarms", [{**one, "StateValue": "", "StateReason": "", "StateReasonData": ""} for one in alarms]
    yield "tags of alarms", [cloudwatch.list_tags_for_resource(ResourceARN=one["AlarmArn"])["Tags"] for one in alarms]
    yield "dashboard", cloudwatch.get_dashboard(DashboardName=f"docferry-{mark}")["DashboardBody"]
    topic = f"arn:aws:sns:us-east-1:123456789012:{mark}"
    yield "tags of the topic", client("sns").list_tags_for_resource(ResourceArn=topic)["Tags"]


def _mark() -> str:
    return f"m{uuid.uuid4().hex[:8]}x"


@pytest.mark.slow
def test_provision_when_killed_anywhere_and_run_again_ends_in_the_same_estate(emulator: SandboxAws) -> None:
    undisturbed = _mark()
    with serving(Proxy(CHANGES, emulator.endpoint)) as whole:
        assert provision(emulator, undisturbed, whole) == (0, "changed")
    expected = estate_of(emulator, undisturbed)
    assert set(whole.changes) == CHANGES, "each kind of change must be there to be killed at"

    everywhere = [(at, after) for at in range(1, len(whole.changes) + 1) for after in (False, True)]
    for at, after_answer in random.Random(20261122).sample(everywhere, POINTS):
        mark, place = _mark(), f"{whole.changes[at - 1]} ({at}), after the answer: {after_answer}"
        with serving(Proxy(CHANGES, emulator.endpoint, at, after_answer=after_answer)) as deadly:
            assert provision(emulator, mark, deadly)[0] == -signal.SIGKILL, place
        assert deadly.changes == whole.changes[:at], place
        with serving(Proxy(CHANGES, emulator.endpoint)) as healed:
            assert provision(emulator, mark, healed)[0] == 0, place
        assert len(healed.changes) <= len(whole.changes) - at + 1, f"{place}: work was done twice"
        assert estate_of(emulator, mark) == expected, place
