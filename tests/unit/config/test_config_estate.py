"""The section `estate`: what it holds, and what of it is refused, with its place."""

# ruff: noqa: E501 - one case a line

from __future__ import annotations

import pytest
from docferry.config import parse_migration
from docferry.core.settings_estate import EstateSettings
from support.config import problems_of

FILE = """\
migration: small
source: {database: d}
target: {account: "111122223333", replicas: [eu-west-1]}
tables:
  Tab: {indexes: [GSI1], kms_key: alias/shop, contributor_insights: true, warm_throughput: {read_units: 9000, write_units: 8000}}
collections: {logs: {}}
estate:
  tags: {Project: migration}
  keys: {shop: {multi_region: true}}
  backup:
    vault: shop
    role_arn: arn:aws:iam::111122223333:role/backup
    kms_key: alias/shop
    lock: {mode: governance, min_days: 7, max_days: 400}
    rules:
      nightly: {schedule: "cron(0 3 * * ? *)", delete_after_days: 365, cold_after_days: 30, copy_to: [eu-west-1]}
  alarms: {topic: shop-migration, monthly_cost_usd: 500}
  functions:
    indexer: {function: indexer, table: Tab, filters: [{eventName: [INSERT]}], dead_letters: "arn:aws:sqs:us-east-1:111122223333:q"}
"""

RULES = FILE[FILE.index("rules:") : FILE.index("\n  alarms")]

WRONG: dict[str, tuple[str, str, str, str]] = {
    "unknown key of the section": ("  tags: {Pro", "  tag: {Pro", "estate.tag", "tags"),
    "unknown key of a lock": ("max_days: 400", "max_day: 400", "estate.backup.lock.max_day", "max_days"),
    "unknown key of an alarm": ("monthly_cost_usd", "monthly_cost", "estate.alarms.monthly_cost", "monthly_cost_usd"),
    "unknown key of a function": ("function: indexer", "function: indexer, batches: 3", "estate.functions.indexer.batches", "batch"),
    "unknown key of warm throughput": ("read_units: 9000", "reed_units: 9000", "tables.Tab.warm_throughput.reed_units", "read_units"),
    "no account": ('account: "111122223333", ', "", "estate.backup", "target.account"),
    "a number that is none": ("monthly_cost_usd: 500", "monthly_cost_usd: .nan", "estate.alarms.monthly_cost_usd", "from 0"),
    "a key for one region, with replicas": ("multi_region: true", "multi_region: false", "estate.keys.shop", "multi_region"),
    "AWS's tag": ("Project:", "'aws:x':", "estate.tags.aws:x", "another"),
    "warm throughput of nothing": ("read_units: 9000", "read_units: 0", "tables.Tab.warm_throughput.read_units", "from 1"),
    "no rule": (RULES, "rules: {}", "estate.backup.rules", "add one"),
    "a schedule as cron has it": ("\"cron(0 3 * * ? *)\"", "0 3 * * *", "estate.backup.rules.nightly.schedule", "cron(0 3"),
    "cold for too short a time": ("cold_after_days: 30", "cold_after_days: 300", "estate.backup.rules.nightly.cold_after_days", "at most 275"),
    "kept for longer than the lock allows": ("max_days: 400", "max_days: 100", "estate.backup.rules.nightly.delete_after_days", "from 7 to 100"),
    "a copy to where it is": ("copy_to: [eu-west-1]", "copy_to: [us-east-1]", "estate.backup.rules.nightly.copy_to", "leave it out"),
    "a copy to where the key is not": ("copy_to: [eu-west-1]", "copy_to: [eu-west-2]", "estate.backup.rules.nightly.copy_to", "replica"),
    "a role that is none": ("arn:aws:iam::111122223333:role/backup", "backup", "estate.backup.role_arn", "arn:aws:iam"),
    "a table that is not there": ("table: Tab,", "table: Tob,", "estate.functions.indexer.table", "Tab"),
    "a queue that is none": ("arn:aws:sqs:us-east-1:111122223333:q", "queue", "estate.functions.indexer.dead_letters", "arn:aws:sqs"),
}  # fmt: skip


def test_the_section_is_optional_and_read_whole() -> None:
    assert (
        parse_migration(b"migration: s\nsource: {database: d}\ntables: {Tab: {}}\ncollections: {logs: {}}").estate
        == EstateSettings()
    )
    found = parse_migration(FILE.encode())
    assert found.estate.backup is not None
    assert found.estate.backup.rules["nightly"].copy_to == ("eu-west-1",)
    assert found.table("Tab").warm_throughput is not None


@pytest.mark.parametrize("kind", WRONG)
def test_what_could_not_be_carried_out_is_refused(kind: str) -> None:
    old, new, where, advice = WRONG[kind]
    assert FILE.count(old) == 1
    found = {problem.where: problem for problem in problems_of(FILE.replace(old, new))}
    assert where in found, found
    assert advice in found[where].suggestion + found[where].what
    assert found[where].line
