"""One CloudWatch dashboard for a migration."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from docferry.core.estate.resources import Ask, AwsCall, Resource, Seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard(Resource):
    """`body` is the dashboard as CloudWatch's JSON. Only late versions of the API know tags of dashboards: none are put on."""

    reads: ClassVar[tuple[str, ...]] = ("cloudwatch:GetDashboard",)
    writes: ClassVar[tuple[str, ...]] = ("cloudwatch:PutDashboard",)
    removes: ClassVar[tuple[str, ...]] = ("cloudwatch:DeleteDashboards",)

    arn: str
    document: str

    @property
    def resource(self) -> str:
        return f"dashboard {self.name}"

    @property
    def arns(self) -> tuple[str, ...]:
        return (self.arn,)

    def wanted(self) -> Mapping[str, str]:
        return _fields(self.document)

    def observe(self, ask: Ask) -> Seen | None:
        absent = ("ResourceNotFound", "DashboardNotFoundError", "ResourceNotFoundException")
        found = ask(_cloudwatch("get_dashboard", absent, DashboardName=self.name))
        return Seen(fields=_fields(found["DashboardBody"])) if found else None

    def create(self, ask: Ask, tags: Mapping[str, str]) -> AwsCall:
        return _cloudwatch("put_dashboard", DashboardName=self.name, DashboardBody=self.document)

    def change(self, seen: Seen, changed: Sequence[str]) -> AwsCall:
        return _cloudwatch("put_dashboard", DashboardName=self.name, DashboardBody=self.document)

    def removal(self, seen: Seen, ask: Ask) -> AwsCall:
        return _cloudwatch("delete_dashboards", DashboardNames=[self.name])


def _cloudwatch(operation: str, absent: tuple[str, ...] = (), /, **arguments: Any) -> AwsCall:
    return AwsCall(service="cloudwatch", operation=operation, arguments=arguments, absent=absent)


def _fields(body: str) -> dict[str, str]:
    """How a body is told from another, whatever the order of its keys; and the titles, for a person."""
    try:
        read = json.loads(body)
    except ValueError:
        return {"widgets": "no JSON"}
    titles = [one.get("properties", {}).get("title", "") for one in read.get("widgets", ())]
    digest = hashlib.sha256(json.dumps(read, sort_keys=True).encode()).hexdigest()[:12]
    return {"widgets": f"{', '.join(titles)} ({digest})"}
