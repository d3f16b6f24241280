"""A real process that removes a scratch stack is killed at different requests; the next one ends it, and nothing is left."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator

import boto3
import botocore.session
import pytest
from docferry.adapters.aws.estate import AwsEstate
from docferry.adapters.aws.ledger import DynamoLedger
from docferry.config import Migration, parse_migration
from docferry.flows.kernel.job import Job
from docferry.flows.provision.destroy import destroy
from docferry.flows.provision.run import Patience, add_replicas, provision
from docferry.sandbox.aws import SandboxAws
from docferry.testing.jobs import make_job
from docferry.wiring import desired
from support.provision.deadly_proxy import Proxy, serving

CHANGES = {
    "DeleteTable", "UpdateTable", "ScheduleKeyDeletion", "DeleteAlias", "DELETE backup-vaults", "DELETE plans",
    "DELETE selections",
}  # fmt: skip
POINTS = int(os.environ.get("DOCFERRY_KILL_POINTS", "4"))
PATIENCE = Patience(poll_s=0.05, settle_s=20, agree_s=2, trouble_s=5)
SCRIPT = """
import sys
from docferry.config import parse_migration
from faults.provision.test_destroy_kill import remove

remove(parse_migration(sys.stdin.buffer.read()))
"""
FILE = """
migration: MARK
source: {database: d}
target: {account: "123456789012", replicas: [eu-west-1], scratch: true}
ledger: {table: LedgerMARK}
cutover: {journal: false}
tables: {ShopMARK: {kms_key: alias/MARK}}
collections: {logs: {}}
estate:
  keys: {MARK: {multi_region: true}}
  backup:
    vault: MARK
    role_arn: arn:aws:iam::123456789012:role/backup
    rules: {nightly: {schedule: "cron(0 3 * * ? *)", delete_after_days: 35, copy_to: [eu-west-1]}}
"""


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxAws]:
    with SandboxAws(tmp_path_factory.mktemp("aws")) as aws:
        yield aws


def job_of(file: Migration) -> Job:
    ledger = DynamoLedger(boto3.Session(region_name="us-east-1"), file.ledger.table, file.name)
    return make_job(migration=file, ledger=ledger, estate=AwsEstate(botocore.session.Session(), "us-east-1"))


def remove(file: Migration) -> None:
    destroy(job_of(file), desired(file, final=True), dry_run=False, patience=PATIENCE)


def made(emulator: SandboxAws, patch: pytest.MonkeyPatch) -> Migration:
    reach(emulator.endpoint, emulator, patch)
    file = parse_migration(FILE.replace("MARK", f"m{uuid.uuid4().hex[:8]}x").encode())
    job = job_of(file)
    for flow in (provision, add_replicas):
        flow(desired(file), job.estate, progress=job.progress, stop=job.stop, patience=PATIENCE)
    return file


def reach(url: str, emulator: SandboxAws, patch: pytest.MonkeyPatch) -> None:
    for name, value in emulator.env().items():
        patch.setenv(name, url if name.startswith("AWS_ENDPOINT_URL") else value)


def killed(emulator: SandboxAws, file: Migration, proxy: Proxy, patch: pytest.MonkeyPatch) -> int:
    reach(proxy.url, emulator, patch)
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, text=True,
        stdin=subprocess.PIPE,
    )  # fmt: skip
    proxy.victim = process
    try:
        process.communicate(FILE.replace("MARK", file.name), timeout=120)
    finally:
        process.kill()
    return process.returncode


def left(emulator: SandboxAws, mark: str) -> Iterator[str]:
    """Everything of this name that AWS still has, but for keys that wait for their end."""
    for region in ("us-east-1", "eu-west-1"):

        def client(service: str, region: str = region) -> boto3.client:
            keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
            return boto3.client(service, region_name=region, endpoint_url=emulator.endpoint, **keys)

        yield from (one for one in client("dynamodb").list_tables()["TableNames"] if mark in one)
        yield from (one["AliasName"] for one in client("kms").list_aliases()["Aliases"] if mark in one["AliasName"])
        vaults = client("backup").list_backup_vaults()["BackupVaultList"]
        yield from (one["BackupVaultName"] for one in vaults if mark in one["BackupVaultName"])
        plans = client("backup").list_backup_plans()["BackupPlansList"]
        yield from (one["BackupPlanName"] for one in plans if mark in one["BackupPlanName"])
        for key in client("kms").list_keys(Limit=1000)["Keys"]:
            if mark in repr(client("kms").list_resource_tags(KeyId=key["KeyId"])["Tags"]):
                state = client("kms").describe_key(KeyId=key["KeyId"])["KeyMetadata"]["KeyState"]
                yield from () if state.startswith("Pending") else (key["KeyId"],)


@pytest.mark.cutover
def test_what_was_killed_anywhere_is_ended_by_the_next_run(
    emulator: SandboxAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = made(emulator, monkeypatch)
    with serving(Proxy(CHANGES, emulator.endpoint)) as whole:
        reach(whole.url, emulator, monkeypatch)
        remove(undisturbed)
    assert set(left(emulator, undisturbed.name)) == set()
    assert set(whole.changes) == CHANGES, "each kind of change must be there to be killed at"

    everywhere = [(at, after) for at in range(1, len(whole.changes) + 1) for after in (False, True)]
    for at, after_answer in random.Random(20261130).sample(everywhere, POINTS):
        file, place = made(emulator, monkeypatch), f"{whole.changes[at - 1]} ({at}), after the answer: {after_answer}"
        with serving(Proxy(CHANGES, emulator.endpoint, at, after_answer=after_answer)) as deadly:
            assert killed(emulator, file, deadly, monkeypatch) == -signal.SIGKILL, place
        assert deadly.changes == whole.changes[:at], place
        reach(emulator.endpoint, emulator, monkeypatch)
        remove(file)
        assert set(left(emulator, file.name)) == set(), place
