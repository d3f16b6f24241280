"""Policies and roles name what the file names, and nothing beyond it; the page of permissions is what the code says."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner
from docferry.cli.main import main
from docferry.config import load_migration, parse_migration
from docferry.core.permissions.aws import COMMANDS, Actor, policy
from docferry.core.permissions.mongodb import application_role, atlas_role, lacking, role
from docferry.core.permissions.statements import AwsAccount
from docferry.flows.ledger.approvals import ANSWERS, APPROVALS
from docferry.flows.ledger.dead_letters import LOOKS
from docferry.flows.preflight.permissions import resources_of, wanted_of
from support.place import ROOT, SHOP_FILE

PLACE = AwsAccount(region="us-east-1", account="111122223333")
PAGE = ROOT / "docs" / "permissions.md"
FILE = """
migration: m
source: {database: d}
target: {replicas: [eu-west-1]}
tables:
  Plain: {}
  Scaled: {indexes: [GSI1], billing: provisioned, kms_key: "arn:aws:kms:us-east-1:1:key/k",
           capacity: {read_units: 5, write_units: 5, max_read_units: 50, max_write_units: 50}}
collections: {docs: {table: Plain}}
rollback_points: {to: "s3://kept/there"}
dax: {cluster: c, subnet_group: g, security_groups: [sg-1], role_arn: "arn:aws:iam::1:role/dax"}
"""


PLAIN = "migration: m\nsource: {database: d}\ntables: {Things: {}}\ncollections: {docs: {}}\n"


def statements(actor: Actor, text: str = FILE) -> dict[str, Any]:
    of = resources_of(parse_migration(text.encode()))
    return {one["Sid"]: one for one in policy(actor, of, PLACE)["Statement"]}


def plain(actor: Actor) -> dict[str, Any]:
    return statements(actor, PLAIN)


@pytest.mark.parametrize("actor", Actor)
@pytest.mark.parametrize("text", [FILE, PLAIN])
def test_statements_have_names_of_their_own(actor: Actor, text: str) -> None:
    names = [one["Sid"] for one in policy(actor, resources_of(parse_migration(text.encode())), PLACE)["Statement"]]
    assert len(set(names)) == len(names), "AWS takes no other policy"


@pytest.mark.parametrize("actor", Actor)
def test_no_policy_has_a_wildcard_for_actions_or_tables_and_each_action_once(actor: Actor) -> None:
    for one in (*statements(actor).values(), *plain(actor).values()):
        assert not [action for action in one["Action"] if "*" in action]
        assert len(set(one["Action"])) == len(one["Action"])
        if one["Action"] == ["dynamodb:ListTables"]:
            assert one["Resource"] == ["*"], "AWS knows no narrower one"
        elif any(action.startswith("dynamodb:") for action in one["Action"]):
            assert all(":table/" in resource and ":111122223333:" in resource for resource in one["Resource"])


@pytest.mark.parametrize("actor", [one for one in Actor if one not in (Actor.PROVISION, Actor.ANALYST)])
def test_only_provisioning_may_change_tables(actor: Actor) -> None:
    actions = {action for one in statements(actor).values() for action in one["Action"]}
    assert not actions & {"dynamodb:CreateTable", "dynamodb:UpdateTable", "dynamodb:TagResource", "iam:PassRole"}


@pytest.mark.parametrize("actor", Actor)
def test_nobody_may_delete_a_table_and_records_of_another_migration_are_out_of_reach(actor: Actor) -> None:
    for one in statements(actor).values():
        if "dynamodb:DeleteTable" in one["Action"]:
            assert actor is Actor.ANALYST
            assert all(":table/docferry-scratch-" in resource for resource in one["Resource"])
        ledger = [resource for resource in one["Resource"] if resource.endswith("table/DocferryLedger")]
        if ledger and "dynamodb:GetItem" in one["Action"]:
            keys = one["Condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"]
            assert all(key.startswith(("m#", "table:Plain#", "table:Scaled#", "table:Things#")) for key in keys)
            assert one["Condition"]["Null"] == {"dynamodb:LeadingKeys": "false"}


def test_only_of_a_scratch_stack_tables_may_be_deleted_and_only_its_own() -> None:
    assert statements(Actor.DESTROY) == {}
    made = statements(Actor.DESTROY, FILE.replace("replicas:", "scratch: true, replicas:"))
    assert all(one["Resource"] == ["*"] for sid, one in made.items() if sid == "Autoscaling")
    assert {resource.rsplit("/")[-1] for resource in made["Tables"]["Resource"]} == {
        "Plain", "Scaled", "DocferryLedger", "DocferryLedgerJournal",
    }  # fmt: skip
    assert made["WhoseRecords"]["Action"] == ["dynamodb:Scan"]


def test_where_items_have_parts_who_writes_items_may_delete_and_no_other() -> None:
    split = FILE.replace("docs: {table: Plain}", "docs: {table: Plain, overflow: split}")
    deletes = {
        actor: "dynamodb:DeleteItem" in statements(actor, split).get("Items", {}).get("Action", ()) for actor in Actor
    }
    assert {actor for actor, one in deletes.items() if one} == {
        Actor.LOAD, Actor.VALIDATE, Actor.CUTOVER, Actor.APPLICATION, Actor.APPLICATION_LEADING,
    }  # fmt: skip
    assert "dynamodb:DeleteItem" not in statements(Actor.APPLICATION)["Items"]["Action"]


def test_objects_are_reached_below_the_migrations_own_prefix_by_who_reads_and_writes_items() -> None:
    text = FILE.replace("replicas:", 'objects: "s3://kept/items", replicas:').replace("Plain}", "Plain, overflow: s3}")
    may = {actor: statements(actor, text).get("Objects", {}) for actor in Actor}
    assert {actor for actor, one in may.items() if "s3:PutObject" in one.get("Action", ())} == {
        Actor.LOAD, Actor.VALIDATE, Actor.CUTOVER, Actor.APPLICATION, Actor.APPLICATION_LEADING,
    }  # fmt: skip
    assert may[Actor.REVERSE]["Action"] == ["s3:GetObject"]
    assert {one["Resource"][0] for one in may.values() if one} == {"arn:aws:s3:::kept/items/m/*"}
    for actor in (actor for actor, one in may.items() if one):
        listed = statements(actor, text)["ListOfObjects"]
        assert listed["Condition"] == {"StringLikeIfExists": {"s3:prefix": "items/m/*"}}, (
            "a missing one is forbidden else"
        )
    assert not any("Objects" in statements(actor) for actor in Actor)


def test_a_load_by_import_may_import_its_tables_and_no_other() -> None:
    text = FILE.replace("replicas:", 'account: "111122223333", replicas:')
    made = statements(Actor.LOAD, text + 'backfill: {strategy: import, import_to: "s3://rows/here"}\n')
    assert made["Rows"]["Resource"] == ["arn:aws:s3:::rows/here/m/*"]
    assert {one.rsplit("/")[-1] for one in made["ImportedTables"]["Resource"]} == {"Plain", "Scaled"}
    assert made["ImportLog"]["Resource"] == ["arn:aws:logs:us-east-1:111122223333:log-group:/aws-dynamodb/*"]
    assert "ImportedTables" not in statements(Actor.LOAD)


def test_what_the_file_does_not_have_needs_no_permission() -> None:
    assert {"Replicas", "Keys", "Autoscaling", "Dax"} <= set(statements(Actor.PROVISION))
    assert set(plain(Actor.PROVISION)) == {"Tables", "Ledger", "Owners"}
    assert "Dumps" in statements(Actor.POINTS)
    assert "Dumps" not in plain(Actor.POINTS)
    assert statements(Actor.POINTS)["Dumps"]["Resource"] == ["arn:aws:s3:::kept/there/*"]


def test_without_a_journal_nobody_reaches_for_one() -> None:
    text = "migration: m\nsource: {database: d}\ntables: {Things: {}}\ncollections: {docs: {}}\ncutover: {journal: false}\n"
    for actor in Actor:
        assert "Journal" not in json.dumps(statements(actor, text))
    assert "Journal" in statements(Actor.APPLICATION_LEADING)


def test_metrics_are_published_in_their_namespace_alone_by_those_whom_the_file_names() -> None:
    (flows,) = [one for one in statements(Actor.REVERSE, FILE + "monitoring: {}\n").values() if one["Sid"] == "Metrics"]
    assert flows["Action"] == ["cloudwatch:PutMetricData"]
    assert flows["Condition"] == {"StringEquals": {"cloudwatch:namespace": "MongoDB-Migration"}}
    assert "Metrics" not in statements(Actor.APPLICATION_LEADING, FILE + "monitoring: {}\n")
    assert "Metrics" in statements(Actor.APPLICATION_LEADING, FILE + "monitoring: {application: true}\n")
    assert not any("Metrics" in statements(actor) for actor in Actor)


def test_a_viewer_and_an_approver_reach_no_document() -> None:
    for actor in (Actor.VIEWER, Actor.APPROVER):
        for one in statements(actor).values():
            data = [action for action in one["Action"] if "Describe" not in action and "List" not in action]
            assert not data or all(resource.endswith("DocferryLedger") for resource in one["Resource"])


def test_an_approver_may_write_every_record_that_an_answer_or_a_look_leaves_and_no_other() -> None:
    writes = [one for one in statements(Actor.APPROVER).values() if "dynamodb:PutItem" in one["Action"]]
    keys = [key for one in writes for key in one["Condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"]]
    assert {key.partition("#")[2] for key in keys} == {APPROVALS, ANSWERS, LOOKS}


@pytest.mark.parametrize("fence", ["write_block", "revoke"])
def test_role_lacks_nothing_that_the_phases_need(fence: str) -> None:
    of = wanted_of(load_migration(SHOP_FILE))
    made = role(of, "docferry", fence)
    assert lacking(of, made["privileges"]) == []
    assert lacking(of, made["privileges"][1:]) != []


def test_of_several_databases_the_role_follows_the_cluster_and_reaches_no_more_than_its_collections() -> None:
    text = "migration: two\nsource: {database: live}\ntables: {Two: {}}\n"
    text += "collections: {a: {}, b: {database: past, collection: a}}\n"
    of = wanted_of(parse_migration(text.encode()))
    made = role(of, "docferry", "revoke")
    assert lacking(of, made["privileges"]) == []
    actions = {tuple(one["resource"].values()): one["actions"] for one in made["privileges"]}
    assert actions["", ""] == ["changeStream", "find"]
    assert "insert" in actions["past", "a"]
    assert ("past", "b") not in actions
    assert ("past", "docferry.leader") not in actions
    (missing,) = lacking(of, [one for one in made["privileges"] if one["resource"] != {"db": "", "collection": ""}])
    assert str(missing) == "replicate: MongoDB's user lacks changeStream, find on *.*"


def test_application_needs_to_read_who_leads_and_no_more() -> None:
    made = application_role(wanted_of(load_migration(SHOP_FILE)), "app")
    assert [one["actions"] for one in made["privileges"]] == [["find"]]
    assert made["privileges"][0]["resource"]["collection"] == "docferry.leader"


def test_atlas_names_resources_below_each_action_in_capitals() -> None:
    command = {
        "createRole": "r", "roles": [],
        "privileges": [
            {"resource": {"db": "d", "collection": ""}, "actions": ["changeStream", "find"]},
            {"resource": {"cluster": True}, "actions": ["inprog"]},
        ],
    }  # fmt: skip
    assert atlas_role(command) == {
        "roleName": "r",
        "inheritedRoles": [],
        "actions": [
            {"action": "CHANGE_STREAM", "resources": [{"db": "d", "collection": ""}]},
            {"action": "FIND", "resources": [{"db": "d", "collection": ""}]},
            {"action": "INPROG", "resources": [{"cluster": True}]},
        ],
    }


def test_commands_print_what_a_tool_can_take() -> None:
    def printed(*words: str) -> Any:
        done = CliRunner().invoke(main, list(words))
        assert done.exit_code == 0, done.stderr
        return json.loads(done.stdout)

    assert set(printed("iam", str(SHOP_FILE))) == {one.value for one in Actor}
    one = printed("iam", str(SHOP_FILE), "--for", "approver", "--account", "111122223333")
    assert one["Version"] == "2012-10-17"
    assert "111122223333" in json.dumps(one)
    assert printed("privileges", str(SHOP_FILE))["createRole"] == "docferry"
    assert "roleName" in printed("privileges", str(SHOP_FILE), "--atlas", "--fence", "revoke")


def test_page_lists_each_who_acts_with_the_actions_that_the_code_gives() -> None:
    of = resources_of(load_migration(SHOP_FILE))
    for actor in Actor:
        actions = {a for one in policy(actor, of, PLACE)["Statement"] for a in one["Action"]}
        told = (
            ", ".join(sorted(one.removeprefix("dynamodb:") for one in actions))
            or "none: the file is no scratch stack's"
        )
        who = ", ".join(f"`{one}`" for one in COMMANDS.get(actor, ())) or "the application"
        assert f"| `{actor}` | {who} | {told} |" in PAGE.read_text()


def test_a_fence_that_a_command_raises_needs_no_privilege_for_one_of_ours() -> None:
    text = FILE + "cutover: {fence: {external: [fence-it]}, hold_s: 120, app_users: [a]}\n"
    of = wanted_of(parse_migration(text.encode()))
    assert lacking(of, role(of, "docferry", of.fence)["privileges"]) == []
    assert [one.phase for one in lacking(replace(of, fence="auto"), role(of, "docferry", "none")["privileges"])] == [
        "stop-mongo-writes (write block)",
        "stop-mongo-writes (revocation)",
    ]
