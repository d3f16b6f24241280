"""A table's stream as a Lambda function's source."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from docferry.core.estate.resources import Ask, AwsCall, Resource, Seen, page_through

_MOVING = ("Creating", "Enabling", "Disabling", "Updating", "Deleting")


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSourceMapping(Resource):
    """`function` is called with what happens to the items of `table`. `filters` are Lambda's patterns, as JSON: one must match.

    `dead_letters` is the ARN of a queue or topic for batches that the function has refused `retries` times.
    """

    fixed: ClassVar[frozenset[str]] = frozenset({"starts at"})
    reads: ClassVar[tuple[str, ...]] = ("lambda:ListEventSourceMappings", "lambda:ListTags")
    writes: ClassVar[tuple[str, ...]] = (
        "lambda:CreateEventSourceMapping", "lambda:TagResource", "lambda:UpdateEventSourceMapping",
    )  # fmt: skip

    removes: ClassVar[tuple[str, ...]] = ("lambda:DeleteEventSourceMapping",)

    function: str
    table: str
    batch: int
    filters: tuple[str, ...] = ()
    dead_letters: str = ""
    retries: int = 10
    start: str = "LATEST"

    @property
    def resource(self) -> str:
        return f"stream of table {self.table} to function {self.function}"

    def wanted(self) -> Mapping[str, str]:
        return {**_fields(self.arguments()), "state": "Enabled", "starts at": self.start}

    def arguments(self) -> dict[str, Any]:
        """What can be changed in place."""
        return {
            "FunctionName": self.function,
            "Enabled": True,
            "BatchSize": self.batch,
            "FilterCriteria": {"Filters": [{"Pattern": one} for one in self.filters]},
            "DestinationConfig": {"OnFailure": {"Destination": self.dead_letters} if self.dead_letters else {}},
            "MaximumRetryAttempts": self.retries,
            "BisectBatchOnFunctionError": True,
        }

    def observe(self, ask: Ask) -> Seen | None:
        stream = self._stream(ask)
        if not stream:
            return None
        listed = _lambda("list_event_source_mappings", EventSourceArn=stream, FunctionName=self.function)
        absent = AwsCall(service="lambda", operation=listed.operation, arguments=listed.arguments, absent=_ABSENT)
        found = next(page_through(ask, absent, "EventSourceMappings", "NextMarker", "Marker"), None)
        if found is None or found.get("State") == "Deleting":
            return None
        state = found.get("State", "Enabled")
        arn = found.get("EventSourceMappingArn", "")
        tags = (ask(_lambda("list_tags", Resource=arn)) or {}).get("Tags", {}) if arn else None
        start = found.get("StartingPosition", self.start)
        return Seen(
            fields={**_fields(found), "state": "Enabled" if state in _MOVING else state, "starts at": start},
            tags=tags,
            settled=state not in _MOVING,
            known={"id": found["UUID"], "arn": arn},
        )

    def create(self, ask: Ask, tags: Mapping[str, str]) -> AwsCall:
        source = {"EventSourceArn": self._stream(ask), "StartingPosition": self.start}
        return _lambda("create_event_source_mapping", **self.arguments(), **source, Tags=dict(tags))

    def change(self, seen: Seen, changed: Sequence[str]) -> AwsCall:
        return _lambda("update_event_source_mapping", UUID=seen.known["id"], **self.arguments())

    def retag(self, seen: Seen, tags: Mapping[str, str], off: Sequence[str]) -> AwsCall:
        return _lambda("tag_resource", Resource=seen.known["arn"], Tags=dict(tags))

    def removal(self, seen: Seen, ask: Ask) -> AwsCall:
        return _lambda("delete_event_source_mapping", UUID=seen.known["id"])

    def _stream(self, ask: Ask) -> str:
        where = {"TableName": self.table}
        call = AwsCall(service="dynamodb", operation="describe_table", arguments=where, absent=_ABSENT)
        return str((ask(call) or {"Table": {}})["Table"].get("LatestStreamArn", ""))


_ABSENT = ("ResourceNotFoundException",)


def _lambda(operation: str, /, **arguments: Any) -> AwsCall:
    return AwsCall(service="lambda", operation=operation, arguments=arguments)


def _fields(of: Mapping[str, Any]) -> dict[str, str]:
    patterns = sorted(_plain(one["Pattern"]) for one in (of.get("FilterCriteria") or {}).get("Filters", ()))
    failure = (of.get("DestinationConfig") or {}).get("OnFailure") or {}
    return {
        "batch": str(of.get("BatchSize")),
        "filters": "; ".join(patterns) or "none",
        "dead letters": failure.get("Destination") or "none",
        "retries": str(of.get("MaximumRetryAttempts")),
    }


def _plain(pattern: str) -> str:
    """A pattern without what means nothing: the order of keys, and blanks."""
    try:
        return json.dumps(json.loads(pattern), sort_keys=True)
    except ValueError:
        return pattern
