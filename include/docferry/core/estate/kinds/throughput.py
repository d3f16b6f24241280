"""What a table has beside CreateTable: warm throughput, and Contributor Insights of a table or an index."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from docferry.core.estate.resources import Ask, AwsCall, OfTable, Seen

_ABSENT = ("ResourceNotFoundException",)


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmThroughput(OfTable):
    """Units a second that a table and its indexes bear at once. `name` is the table. It only ever rises, so lower is absent."""

    reads: ClassVar[tuple[str, ...]] = ("dynamodb:DescribeTable",)
    writes: ClassVar[tuple[str, ...]] = ("dynamodb:UpdateTable",)

    read_units: int
    write_units: int
    indexes: tuple[str, ...] = ()

    @property
    def resource(self) -> str:
        return f"warm throughput of table {self.name}"

    def wanted(self) -> Mapping[str, str]:
        text = f"at least {self.read_units:,} read, {self.write_units:,} write units a second"
        return dict.fromkeys(("table", *(f"index {one}" for one in self.indexes)), text)

    def observe(self, ask: Ask) -> Seen | None:
        call = AwsCall(
            service="dynamodb", operation="describe_table", arguments={"TableName": self.name}, absent=_ABSENT
        )
        reply = ask(call)
        if reply is None:
            return None
        warm = dict(_warm_of(reply["Table"]))
        settled = all(one.get("Status", "ACTIVE") == "ACTIVE" for one in warm.values())
        if settled and not all(self._reached(warm.get(field, {})) for field in self.wanted()):
            return None
        return Seen(fields=self.wanted(), settled=settled)

    def _reached(self, warm: Mapping[str, Any]) -> bool:
        have = (warm.get("ReadUnitsPerSecond", 0), warm.get("WriteUnitsPerSecond", 0))
        return bool(have[0] >= self.read_units and have[1] >= self.write_units)

    def create(self, ask: Ask, tags: Mapping[str, str]) -> AwsCall:
        units = {"ReadUnitsPerSecond": self.read_units, "WriteUnitsPerSecond": self.write_units}
        updates = [{"Update": {"IndexName": one, "WarmThroughput": units}} for one in self.indexes]
        more = {"GlobalSecondaryIndexUpdates": updates} if updates else {}
        return AwsCall(
            service="dynamodb",
            operation="update_table",
            arguments={"TableName": self.name, "WarmThroughput": units, **more},
        )

    def change(self, seen: Seen, changed: Sequence[str]) -> AwsCall:
        raise NotImplementedError("warm throughput is there, or is raised")


def _warm_of(table: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield "table", table.get("WarmThroughput", {})
    for index in table.get("GlobalSecondaryIndexes", ()):
        yield f"index {index['IndexName']}", index.get("WarmThroughput", {})


@dataclass(frozen=True, slots=True, kw_only=True)
class ContributorInsights(OfTable):
    """The keys that are used and throttled most, of a table or one of its indexes. `name` is the table. It has no tags."""

    reads: ClassVar[tuple[str, ...]] = ("dynamodb:DescribeContributorInsights",)
    writes: ClassVar[tuple[str, ...]] = ("dynamodb:UpdateContributorInsights",)
    removes: ClassVar[tuple[str, ...]] = writes

    index: str = ""

    @property
    def resource(self) -> str:
        where = f" in {self.region}" if self.region else ""
        return f"Contributor Insights of table {self.name}{f', index {self.index}' if self.index else ''}{where}"

    @property
    def arns(self) -> tuple[str, ...]:
        return (f"{self.arn}/index/{self.index}" if self.index else self.arn,)

    def wanted(self) -> Mapping[str, str]:
        return {"status": "enabled"}

    def observe(self, ask: Ask) -> Seen | None:
        reply = ask(self._call("describe_contributor_insights", absent=_ABSENT))
        status = reply.get("ContributorInsightsStatus", "DISABLED") if reply else "DISABLED"
        if status == "DISABLED":
            return None
        moving = status in ("ENABLING", "DISABLING")
        return Seen(fields={"status": "enabled" if moving else status.lower()}, settled=not moving)

    def create(self, ask: Ask, tags: Mapping[str, str]) -> AwsCall:
        return self._call("update_contributor_insights", ContributorInsightsAction="ENABLE")

    def change(self, seen: Seen, changed: Sequence[str]) -> AwsCall:
        return self._call("update_contributor_insights", ContributorInsightsAction="ENABLE")

    def removal(self, seen: Seen, ask: Ask) -> AwsCall:
        return self._call("update_contributor_insights", ContributorInsightsAction="DISABLE")

    def _call(self, operation: str, *, absent: tuple[str, ...] = (), **more: Any) -> AwsCall:
        where = {"TableName": self.name, **({"IndexName": self.index} if self.index else {})}
        return AwsCall(
            service="dynamodb", operation=operation, region=self.region, arguments={**where, **more}, absent=absent
        )
