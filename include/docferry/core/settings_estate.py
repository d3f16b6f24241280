"""What a migration file says under `estate`: what is made in AWS beside tables and DAX. What is not named is not made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from docferry.core.settings import _Strict


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySettings(_Strict):
    """A KMS key, made as `alias/<name>`. `multi_region`: with a replica in each of the target's replica regions."""

    multi_region: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupRuleSettings(_Strict):
    """`schedule` as AWS Backup has it, in UTC: `cron(0 3 * * ? *)`. `copy_to` are regions, whose vault has the same name."""

    schedule: str
    delete_after_days: int
    cold_after_days: int | None = None
    copy_to: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LockSettings(_Strict):
    """A vault's lock: for so many days a recovery point is kept. `compliance`: after three days not even AWS takes it off."""

    mode: Literal["governance", "compliance"]
    min_days: int
    max_days: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupSettings(_Strict):
    """AWS Backup of the file's tables. The role must exist. `kms_key`: an alias or an ARN; '' is AWS's own key."""

    vault: str
    role_arn: str
    rules: Mapping[str, BackupRuleSettings]
    kms_key: str = ""
    lock: LockSettings | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmSettings(_Strict):
    """Alarms that tell SNS topic `topic`, and a dashboard. Each number is what must be passed for an alarm.

    `throttles` and `system_errors` a minute, of each table; `window_left_percent` is passed from above. `monthly_cost_usd` None:
    cost has no alarm.
    """

    topic: str
    dashboard: bool = True
    throttles: int = 0
    system_errors: int = 0
    replication_lag_s: float = 30.0
    dead_letters: int = 0
    validation_age_s: float = 26 * 3600.0
    window_left_percent: float = 50.0
    hold_overdue_s: float = 0.0
    monthly_cost_usd: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionSettings(_Strict):
    """A Lambda function (name or ARN; it must exist) that is called with what happens in `table`.

    `filters` are Lambda's event patterns, of which one must match. `dead_letters`: ARN of a queue or topic for batches
    that were refused `retries` times.
    """

    function: str
    table: str
    batch: int = 100
    filters: tuple[Mapping[str, Any], ...] = ()
    dead_letters: str = ""
    retries: int = 10
    start: Literal["LATEST", "TRIM_HORIZON"] = "LATEST"


@dataclass(frozen=True, slots=True, kw_only=True)
class EstateSettings(_Strict):
    """`tags` go onto all of it that can have tags; `keys` and `functions` by their names."""

    tags: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[str, KeySettings] = field(default_factory=dict)
    backup: BackupSettings | None = None
    alarms: AlarmSettings | None = None
    functions: Mapping[str, FunctionSettings] = field(default_factory=dict)
