"""A migration file that asks for every kind of resource."""

from __future__ import annotations

ACCOUNT = "123456789012"
REPLICATED = """
migration: MARK
source: {database: d}
target: {account: "123456789012", replicas: [eu-west-1]}
ledger: {table: LedgerMARK}
tables:
  ShopMARK:
    {indexes: [GSI1], tags: {Project: migration}, kms_key: alias/MARK, contributor_insights: true,
     warm_throughput: {read_units: 13000, write_units: 5000}}
  ScaledMARK:
    {indexes: [GSI1], billing: provisioned,
     capacity: {read_units: 5, write_units: 5, max_read_units: 50, max_write_units: 50}}
collections: {logs: {table: ShopMARK}, more: {table: ScaledMARK}}
estate:
  tags: {Project: migration}
  keys: {MARK: {multi_region: true}}
  alarms: {topic: tMARK, monthly_cost_usd: 500}
  backup:
    vault: vMARK
    role_arn: arn:aws:iam::123456789012:role/backup
    kms_key: alias/MARK
    lock: {mode: governance, min_days: 7, max_days: 400}
    rules:
      nightly: {schedule: "cron(0 3 * * ? *)", delete_after_days: 365, cold_after_days: 30, copy_to: [eu-west-1]}
  functions:
    indexer:
      {function: fMARK, table: ShopMARK, filters: [{eventName: [INSERT]}],
       dead_letters: "arn:aws:sqs:us-east-1:123456789012:failed"}
dax:
  {cluster: cMARK, subnet_group: gMARK, subnets: [subnet-0123abcd], parameter_group: pMARK,
   parameters: {query-ttl-millis: "1000"}, security_groups: [sg-0123abcd], role_arn: "arn:aws:iam::123456789012:role/dax"}
"""


def whole_file(mark: str, *, replicated: bool = True) -> str:
    """`mark` ends every name. Without replicas the functions need not wait, and all of it is in one region."""
    text = REPLICATED.replace("MARK", mark)
    return text if replicated else text.replace(", replicas: [eu-west-1]", "").replace(", copy_to: [eu-west-1]", "")
