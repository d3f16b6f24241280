"""What another tool makes of a template, provision finds as the file says. ministack's CloudFormation passes over much, and
knows some types not at all: each of these is named here. Terraform is run where a plugin directory holds its provider."""

from __future__ import annotations

import io
import json
import os
import subprocess
import uuid
import zipfile
from pathlib import Path
from typing import Any

import boto3
import pytest
from docferry.adapters.aws.estate import AwsEstate
from docferry.config import Migration, parse_migration
from docferry.core.estate.resources import AwsPlace
from docferry.core.estate.templates.cloudformation import cloudformation
from docferry.core.estate.templates.terraform import terraform
from docferry.flows.provision.run import plan_provision
from docferry.wiring import desired
from support.backfill.rig import eventually
from support.provision.estate import REGION, _environment, emulators, estate, run
from support.provision.whole import ACCOUNT, whole_file

__all__ = ["_environment", "emulators", "estate"]

PLUGINS = os.environ.get("DOCFERRY_TERRAFORM_PLUGINS", "")
PLACE = AwsPlace(account=ACCOUNT, region=REGION)
UNKNOWN_TYPES = ("AWS::ApplicationAutoScaling::", "AWS::Backup::BackupSelection", "AWS::DAX::")
PASSED_OVER = {
    "set encryption", "set point-in-time recovery", "enable TTL",  # of tables
    "set autoscaling /read", "set autoscaling /write", "set autoscaling GSI1/read", "set autoscaling GSI1/write",
}  # fmt: skip


@pytest.fixture
def migration(emulators: Any) -> Migration:
    mark = f"m{uuid.uuid4().hex[:8]}"
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("index.py", "def handler(event, context):\n    return None\n")
    role = f"arn:aws:iam::{ACCOUNT}:role/any"
    boto3.client("lambda", region_name=REGION).create_function(
        FunctionName=f"f{mark}", Runtime="python3.11", Role=role, Handler="index.handler", Code={"ZipFile": code.getvalue()}
    )  # fmt: skip
    # DAX's subnets and groups would have to exist, and no emulator has all of them.
    return parse_migration(whole_file(mark, replicated=False).partition("dax:")[0].encode())


def steps_left(migration: Migration, estate: AwsEstate) -> set[tuple[str, str]]:
    """(resource without the migration's mark, action)."""
    plan = plan_provision(desired(migration), estate).estate
    assert plan.blocked == ()
    mark = migration.name
    return {(step.resource.replace(mark, ""), f"{step.action} {step.detail}".rstrip()) for step in plan.steps}


def test_provision_finds_a_stack_of_cloudformations_as_the_file_says(migration: Migration, estate: AwsEstate) -> None:
    body = dict(cloudformation(desired(migration), PLACE).document)
    known = {k: v for k, v in body["Resources"].items() if not v["Type"].startswith(UNKNOWN_TYPES)}
    stacks, name = boto3.client("cloudformation", region_name=REGION), f"s{migration.name}"
    stacks.create_stack(StackName=name, TemplateBody=json.dumps({**body, "Resources": known}))

    def status() -> str:
        return str(stacks.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"])

    eventually(lambda: not status().endswith("IN_PROGRESS"), "the stack")
    assert status() == "CREATE_COMPLETE"
    left = steps_left(migration, estate)
    of_tables = {action for resource, action in left if resource.startswith("table ")}
    assert of_tables == PASSED_OVER
    assert {one for one in left if not one[0].startswith("table ")} == {
        ("warm throughput of table Shop", "create"),
        ("Contributor Insights of table Shop", "create"),
        ("Contributor Insights of table Shop, index GSI1", "create"),
        ("backup vault v", "set lock"),
        ("backup selection docferry-", "create"),
        ("stream of table Shop to function f", "tag"),
    }
    shown = run(desired(migration), estate, dry_run=True)
    assert not [note for note in shown.notes if "aws:cloudformation" in note], "AWS's own tags are no news"


@pytest.mark.slow
@pytest.mark.terraform
@pytest.mark.timeout(900)
@pytest.mark.skipif(not PLUGINS, reason="DOCFERRY_TERRAFORM_PLUGINS names no directory with Terraform's provider")
def test_provision_finds_what_terraform_made_as_the_file_says(
    migration: Migration, estate: AwsEstate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_CLI_CONFIG_FILE", os.devnull)
    body: Any = json.loads(json.dumps(terraform(desired(migration), PLACE).document))
    made = body["resource"]
    # ministack has no locks of vaults; of moto's answer to a target the provider's process dies.
    for kind in ("aws_backup_vault_lock_configuration", "aws_appautoscaling_target", "aws_appautoscaling_policy"):
        del made[kind]
    (tmp_path / "docferry.tf.json").write_text(json.dumps(body))
    for words in (["init", f"-plugin-dir={PLUGINS}"], ["validate"], ["apply", "-auto-approve"]):
        told = subprocess.run(
            ["terraform", *words, "-no-color"], cwd=tmp_path, capture_output=True, text=True, timeout=300
        )
        assert told.returncode == 0, f"{words}: {told.stdout[-3000:]} {told.stderr[-3000:]}"
    scaled = {("table Scaled", f"set autoscaling {one}") for one in ("/read", "/write", "GSI1/read", "GSI1/write")}
    assert steps_left(migration, estate) == {
        *scaled, ("warm throughput of table Shop", "create"), ("backup vault v", "set lock")
    }  # fmt: skip
