"""The metrics in CloudWatch: their names, units and dimensions. What publishes them, and what alarms on them, reads this table.

Pure. Each metric has the dimension `Migration`, because an account may hold several, and at most one more: CloudWatch takes every
set of dimensions for a metric of its own, and bills it so.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

NAMESPACE = "MongoDB-Migration"
MIGRATION = "Migration"
"""The dimension that each metric has; its value is the migration's name in the file."""
PERIOD_S = 60
"""How often a process that runs long publishes: CloudWatch's own resolution."""

Missing = Literal["breaching", "ignore", "missing", "notBreaching"]
"""As CloudWatch's `TreatMissingData` has it."""


class Unit(StrEnum):
    """CloudWatch's units that are used here."""

    PERCENT = "Percent"
    MILLISECONDS = "Milliseconds"
    SECONDS = "Seconds"
    COUNT = "Count"
    COUNT_PER_SECOND = "Count/Second"
    NONE = "None"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricName:
    """One metric. `dimension` is the one beside `Migration`, "" if there is none, and `values` are those it may have.

    `missing`: what an alarm on it makes of a time without values. Lag that no process measures is `breaching`.
    """

    name: str
    unit: Unit
    what: str
    dimension: str = ""
    values: tuple[str, ...] = ()
    missing: Missing = "missing"

    def dimensions(self, migration: str, value: str = "") -> dict[str, str]:
        """The whole set, in the order in which it is published. Raises ValueError for a value that the metric has not."""
        if value not in (self.values or ("",)):
            raise ValueError(f"{self.name} has no {self.dimension or 'dimension'} {value!r}")
        return {MIGRATION: migration} | ({self.dimension: value} if self.dimension else {})


MIGRATION_PROGRESS = MetricName(
    name="MigrationProgress",
    unit=Unit.PERCENT,
    what="documents loaded, of those expected in all collections",
    dimension="MigrationType",
    values=("MongoDB-to-DynamoDB",),
)
DATA_CONSISTENCY = MetricName(
    name="DataConsistency",
    unit=Unit.PERCENT,
    what="documents that the last full validation found equal; what it could not judge is not equal",
)
QUERY_LATENCY = MetricName(
    name="QueryLatency",
    unit=Unit.MILLISECONDS,
    what="how long the application's calls take, by database",
    dimension="Database",
    values=("DynamoDB", "MongoDB"),
)
MONTHLY_COST = MetricName(
    name="MonthlyCost",
    unit=Unit.NONE,
    what="US dollars a month for requests, at list prices, if all goes on as in the last minutes",
    dimension="Service",
    values=("DynamoDB",),
)
REPLICATION_LAG = MetricName(
    name="ReplicationLag",
    unit=Unit.SECONDS,
    what="how far the following database is behind the leading one",
    dimension="Direction",
    values=("forward", "reverse"),
    missing="breaching",
)
DOCUMENT_RATE = MetricName(
    name="DocumentRate",
    unit=Unit.COUNT_PER_SECOND,
    what="documents that a flow deals with a second; of replication, changes",
    dimension="Flow",
    values=("backfill", "replicate", "reverse"),
)
DEAD_LETTERS = MetricName(
    name="DeadLetters",
    unit=Unit.COUNT,
    what="open dead letters of all collections, and documents that cannot be written back to MongoDB",
)
WINDOW_LEFT = MetricName(
    name="WindowLeft",
    unit=Unit.PERCENT,
    what="of the time for which the position is still there to go on from: MongoDB's oplog, its images, DynamoDB's streams",
    dimension="Window",
    values=("oplog", "images", "stream"),
    missing="breaching",
)
VALIDATION_AGE = MetricName(
    name="ValidationAge",
    unit=Unit.SECONDS,
    what="since the last full validation; from the begin of the load while there has been none",
)
HOLD_OVERDUE = MetricName(
    name="HoldOverdue",
    unit=Unit.SECONDS,
    what="since writes should no longer wait for a change of leader; 0 outside of HOLD and before its deadline",
    missing="breaching",
)
HELD_TIME = MetricName(
    name="HeldTime",
    unit=Unit.MILLISECONDS,
    what="how long the application's writes have waited for changes of leader so far, all processes together",
)
GUARD_CONFLICTS = MetricName(
    name="GuardConflicts",
    unit=Unit.COUNT,
    what="guards of unique values so far that were not those of the document that was to give them up",
)
STRAY_WRITES = MetricName(
    name="StrayWrites",
    unit=Unit.COUNT,
    what="writes so far that have reached the database that does not lead",
)
CALLS = MetricName(
    name="Calls",
    unit=Unit.COUNT,
    what="the application's calls, by database",
    dimension="Database",
    values=("DynamoDB", "MongoDB"),
)
FAILED_CALLS = MetricName(
    name="FailedCalls",
    unit=Unit.COUNT,
    what="the application's calls that a database has refused or not answered",
    dimension="Database",
    values=("DynamoDB", "MongoDB"),
)
UNSERVED_CALLS = MetricName(
    name="UnservedCalls",
    unit=Unit.COUNT,
    what="the application's calls so far that DynamoDB cannot answer as the file stands",
)

METRICS = (
    MIGRATION_PROGRESS,
    DATA_CONSISTENCY,
    QUERY_LATENCY,
    MONTHLY_COST,
    REPLICATION_LAG,
    DOCUMENT_RATE,
    DEAD_LETTERS,
    WINDOW_LEFT,
    VALIDATION_AGE,
    HOLD_OVERDUE,
    HELD_TIME,
    GUARD_CONFLICTS,
    STRAY_WRITES,
    CALLS,
    FAILED_CALLS,
    UNSERVED_CALLS,
)
