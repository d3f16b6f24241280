"""What the form of a file cannot say of its section `estate`, and of what its tables say beside themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from docferry.config.names import bad_tags
from docferry.config.schema import MigrationFile
from docferry.config.yaml_lines import Lines, Path_, problem_at
from docferry.core.settings_estate import BackupRuleSettings, BackupSettings, FunctionSettings
from docferry.errors import Problem

_NAME = r"[A-Za-z0-9_-]{1,200}"
_VAULT = r"[A-Za-z0-9_-]{2,50}"
_REGION = r"[a-z]{2,4}(-[a-z]+){1,2}-\d"
COLD_DAYS = 90
"""So long a recovery point stays in cold storage at least, once it is there: AWS's rule."""
MOST_UNITS = 10_000_000


def check_estate(file: MigrationFile, lines: Lines) -> Iterator[Problem]:
    """Every problem of it."""
    for path, what, advice in _found(file):
        yield problem_at(lines, path, what, advice)


_Told = tuple[Path_, str, str]


def _found(file: MigrationFile) -> Iterator[_Told]:
    estate = file.estate
    for name in ("backup", "alarms", "functions"):
        if getattr(estate, name) and not file.target.account:
            advice = 'set target.account: "111122223333"'
            yield ("estate", name), "needs the number of the AWS account, of which ARNs are made", advice
    for tag, what in bad_tags(estate.tags):
        yield ("estate", "tags", *([tag] if tag is not None else [])), what, "choose another"
    yield from _keys(file)
    yield from _tables(file)
    if estate.backup is not None:
        yield from _backup(file, estate.backup)
    if estate.alarms is not None:
        if not re.fullmatch(_NAME, estate.alarms.topic):
            at = ("estate", "alarms", "topic")
            yield at, f"'{estate.alarms.topic}' is no name of a topic", "letters, digits, _ and -"
        for field in estate.alarms.__dataclass_fields__:
            yield from _within(("estate", "alarms", field), getattr(estate.alarms, field), 0, 1e12)
    for name, function in estate.functions.items():
        yield from _function(file, name, function)


def _within(path: Path_, value: Any, low: float, high: float) -> Iterator[_Told]:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and not low <= value <= high:  # not <=: NaN is in no range
        yield path, f"{value} is out of range", f"from {low:,} to {high:,}"


def _keys(file: MigrationFile) -> Iterator[_Told]:
    for name, key in file.estate.keys.items():
        if not re.fullmatch(_NAME, name) or name.startswith("aws"):
            yield ("estate", "keys", name), "is no name for a key's alias", "letters, digits, _ and -; not aws..."
        users = [table for table, one in file.tables.items() if one.kms_key == f"alias/{name}"]
        if users and file.target.replicas and not key.multi_region:
            what = f"encrypts {', '.join(users)}, which has replicas, and exists in one region only"
            yield ("estate", "keys", name), what, "set multi_region: true"


def _tables(file: MigrationFile) -> Iterator[_Told]:
    for name, table in file.tables.items():
        if (warm := table.warm_throughput) is not None:
            for field in ("read_units", "write_units"):
                yield from _within(("tables", name, "warm_throughput", field), getattr(warm, field), 1, MOST_UNITS)


def _backup(file: MigrationFile, backup: BackupSettings) -> Iterator[_Told]:
    at = ("estate", "backup")
    if not re.fullmatch(_VAULT, backup.vault):
        yield (*at, "vault"), f"'{backup.vault}' is no name of a vault", "2 to 50 letters, digits, _ or -"
    if not re.fullmatch(r"arn:aws[a-z-]*:iam::\d{12}:role/.+", backup.role_arn):
        yield (*at, "role_arn"), f"'{backup.role_arn}' is no ARN of a role", "arn:aws:iam::111122223333:role/..."
    if not backup.rules:
        yield (*at, "rules"), "says no rule, so nothing would be backed up", "add one"
    for name, rule in backup.rules.items():
        yield from _rule(file, backup, name, rule)
    if (lock := backup.lock) is not None:
        yield from _within((*at, "lock", "min_days"), lock.min_days, 1, 36_500)
        yield from _within((*at, "lock", "max_days"), lock.max_days, lock.min_days, 36_500)


def _rule(file: MigrationFile, backup: BackupSettings, name: str, rule: BackupRuleSettings) -> Iterator[_Told]:
    at: Path_ = ("estate", "backup", "rules", name)
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,50}", name):
        yield at, "is no name of a rule", "1 to 50 letters, digits, _ . or -"
    if not re.fullmatch(r"cron\(\S+( \S+){5}\)", rule.schedule):
        advice = "as in cron(0 3 * * ? *): minute, hour, day, month, day of the week, year; in UTC"
        yield (*at, "schedule"), f"'{rule.schedule}' is no schedule of AWS Backup", advice
    yield from _within((*at, "delete_after_days"), rule.delete_after_days, 1, 36_500)
    cold = rule.cold_after_days
    if cold is not None and not 1 <= cold <= rule.delete_after_days - COLD_DAYS:
        advice = f"at most {rule.delete_after_days - COLD_DAYS}, or keep them longer"
        what = f"{cold} leaves less than {COLD_DAYS} days in cold storage before deletion, which AWS refuses"
        yield (*at, "cold_after_days"), what, advice
    if (lock := backup.lock) is not None and not lock.min_days <= rule.delete_after_days <= lock.max_days:
        what = f"{rule.delete_after_days} is not within the vault's lock, so each backup would fail"
        yield (*at, "delete_after_days"), what, f"from {lock.min_days} to {lock.max_days}"
    ours = backup.kms_key.removeprefix("alias/") in file.estate.keys
    for region in rule.copy_to:
        path = (*at, "copy_to")
        if not re.fullmatch(_REGION, region):
            yield path, f"'{region}' is no AWS region", "such as eu-west-1"
        elif region == file.target.region:
            yield path, f"{region} is the tables' own region", "leave it out"
        elif ours and (region not in file.target.replicas or not _multi_region(file, backup.kms_key)):
            what = (
                f"{region} has no {backup.kms_key}: only keys with multi_region are there, in the regions of replicas"
            )
            yield path, what, "leave kms_key out, or add the replica"


def _multi_region(file: MigrationFile, alias: str) -> bool:
    key = file.estate.keys.get(alias.removeprefix("alias/"))
    return key is not None and key.multi_region


def _function(file: MigrationFile, name: str, one: FunctionSettings) -> Iterator[_Told]:
    at: Path_ = ("estate", "functions", name)
    table = file.tables.get(one.table)
    if table is None:
        yield (*at, "table"), f"there is no table {one.table}", "one of " + ", ".join(file.tables)
    elif not table.stream:
        yield (*at, "table"), f"{one.table} has no stream", "set its stream: true"
    yield from _within((*at, "batch"), one.batch, 1, 10_000)
    yield from _within((*at, "retries"), one.retries, -1, 10_000)
    if one.dead_letters and not re.fullmatch(r"arn:aws[a-z-]*:(sqs|sns):[a-z0-9-]+:\d{12}:.+", one.dead_letters):
        advice = "arn:aws:sqs:REGION:ACCOUNT:NAME"
        yield (*at, "dead_letters"), f"'{one.dead_letters}' is no ARN of a queue or topic", advice
