"""The estate as a template: what CloudFormation's own schemas take, what Terraform must not undo, and nothing left out unsaid."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner
from docferry.cli.main import main
from docferry.config import parse_migration
from docferry.core.estate.resources import AwsPlace
from docferry.core.estate.templates.cloudformation import cloudformation
from docferry.core.estate.templates.parts import EstateTemplate
from docferry.core.estate.templates.terraform import terraform
from docferry.core.estate.values import DesiredEstate
from docferry.wiring import desired
from support.provision.whole import ACCOUNT, whole_file

PLACE = AwsPlace(account=ACCOUNT, region="us-east-1")


def estate(*, replicated: bool) -> DesiredEstate:
    return desired(parse_migration(whole_file("shop", replicated=replicated).encode()))


def resources(template: EstateTemplate) -> dict[str, dict[str, Any]]:
    """Of CloudFormation by type, each type's resources by name."""
    found: dict[str, dict[str, Any]] = {}
    for name, one in template.document["Resources"].items():
        found.setdefault(one["Type"], {})[name] = one["Properties"]
    return found


def test_cloudformations_own_schemas_find_no_fault_in_it() -> None:
    from cfnlint.api import ManualArgs, lint  # a second; only here

    template = json.dumps(cloudformation(estate(replicated=False), PLACE).document)
    found = lint(template, config=ManualArgs(regions=["us-east-1"]))
    assert [f"{one.rule.id} {one.message}" for one in found] == []


@pytest.mark.parametrize("make", [cloudformation, terraform])
def test_what_a_template_does_not_hold_is_named_in_it_and_beside_it(make: Any) -> None:
    template = make(estate(replicated=True), PLACE)
    told = "\n".join(template.left_out)
    for one in (
        "KMS key alias/shop in eu-west-1: it is in another region",
        "backup vault vshop in eu-west-1: it is in another region",
        "table Shopshop in eu-west-1: docferry replicas makes it",
        "autoscaling of table Scaledshop in eu-west-1: docferry replicas makes it",
        "stream of table Shopshop to function fshop: waits for FINAL",
    ):
        assert one in told
        assert one in json.dumps(template.document)


def test_of_one_region_cloudformation_leaves_nothing_out_and_terraform_what_its_provider_does_not_know() -> None:
    assert cloudformation(estate(replicated=False), PLACE).left_out == ()
    (only,) = terraform(estate(replicated=False), PLACE).left_out
    assert only.startswith("warm throughput of table Shopshop")


def test_what_holds_data_outlives_the_stack_and_the_module() -> None:
    of = estate(replicated=True)
    kept = {one["Type"] for one in cloudformation(of, PLACE).document["Resources"].values() if "DeletionPolicy" in one}
    assert kept == {"AWS::DynamoDB::Table", "AWS::KMS::Key", "AWS::Backup::BackupVault"}
    made = terraform(of, PLACE).document["resource"]
    for kind in ("aws_dynamodb_table", "aws_kms_key", "aws_backup_vault"):
        assert all(one["lifecycle"]["prevent_destroy"] for one in made[kind].values())


def test_tables_say_whose_they_are() -> None:
    tables = resources(cloudformation(estate(replicated=False), PLACE))["AWS::DynamoDB::Table"]
    assert {"Key": "docferry:owner:shop", "Value": "Ledgershop"} in tables["TableShopshop"]["Tags"]
    assert not any("docferry:provisioning" in json.dumps(one["Tags"]) for one in tables.values())
    made = terraform(estate(replicated=False), PLACE).document["resource"]["aws_dynamodb_table"]
    assert made["Shopshop"]["tags"]["docferry:owner:shop"] == "Ledgershop"


def test_terraform_undoes_neither_replicas_nor_what_autoscaling_does_and_sees_no_expression_in_a_text() -> None:
    template = terraform(estate(replicated=True), PLACE)
    tables = template.document["resource"]["aws_dynamodb_table"]
    assert tables["Shopshop"]["lifecycle"]["ignore_changes"] == ["replica"]
    assert set(tables["Scaledshop"]["lifecycle"]["ignore_changes"]) == {
        "read_capacity", "write_capacity", "global_secondary_index", "replica",
    }  # fmt: skip
    text = whole_file("shop", replicated=False).replace("INSERT", '"${x}"')
    made = terraform(desired(parse_migration(text.encode())), PLACE).document["resource"]
    (mapping,) = made["aws_lambda_event_source_mapping"].values()
    assert mapping["filter_criteria"]["filter"] == [{"pattern": '{"eventName": ["$${x}"]}'}]
    assert template.document["provider"]["aws"]["allowed_account_ids"] == [ACCOUNT]


def test_a_resource_is_named_by_reference_where_the_template_makes_it() -> None:
    of = estate(replicated=False)
    found = resources(cloudformation(of, PLACE))
    key = {"Fn::GetAtt": ["KeyAliasShop", "Arn"]}
    assert found["AWS::DynamoDB::Table"]["TableShopshop"]["SSESpecification"]["KMSMasterKeyId"] == key
    assert found["AWS::Backup::BackupVault"]["VaultVshop"]["EncryptionKeyArn"] == key
    assert all(one["AlarmActions"] == [{"Ref": "TopicTshop"}] for one in found["AWS::CloudWatch::Alarm"].values())
    made = terraform(of, PLACE).document["resource"]
    assert made["aws_dynamodb_table"]["Shopshop"]["server_side_encryption"]["kms_key_arn"] == (
        "${aws_kms_key.alias_shop.arn}"
    )
    assert made["aws_kms_alias"]["alias_shop"]["name"] == "alias/shop"


def test_the_command_prints_json_and_says_the_rest_beside_it(tmp_path: Any) -> None:
    file = tmp_path / "shop.yaml"
    file.write_text(whole_file("shop"))
    for form in ("cloudformation", "terraform"):
        done = CliRunner().invoke(main, ["provision", str(file), "--format", form])
        assert done.exit_code == 0, done.stderr
        assert json.loads(done.stdout)
        assert "left out: table Shopshop in eu-west-1: docferry replicas makes it, after the load" in done.stderr
    refused = CliRunner().invoke(main, ["provision", str(file), "--format", "terraform", "--dry-run"])
    assert refused.exit_code == 2
    assert "it takes no --dry-run" in refused.stderr
