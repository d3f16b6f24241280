"""The SNS topic, and CloudWatch's alarms that tell it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from docferry.core.estate.resources import Ask, AwsCall, Resource, Seen, tag_list

_PERIOD_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic(Resource):
    """Who subscribes is not docferry's affair. Without encryption by a key of yours: CloudWatch could not use that key."""

    reads: ClassVar[tuple[str, ...]] = ("sns:GetTopicAttributes", "sns:ListTagsForResource")
    writes: ClassVar[tuple[str, ...]] = ("sns:CreateTopic", "sns:TagResource")
    removes: ClassVar[tuple[str, ...]] = ("sns:DeleteTopic",)

    arn: str

    @property
    def resource(self) -> str:
        return f"SNS topic {self.name}"

    @property
    def arns(self) -> tuple[str, ...]:
        return (self.arn,)

    def wanted(self) -> Mapping[str, str]:
        return {"arn": self.arn}

    def observe(self, ask: Ask) -> Seen | None:
        absent = ("NotFound", "NotFoundException")
        if ask(_sns("get_topic_attributes", absent, TopicArn=self.arn)) is None:
            return None
        tags = (ask(_sns("list_tags_for_resource", ResourceArn=self.arn)) or {}).get("Tags", ())
        return Seen(fields=self.wanted(), tags={tag["Key"]: tag["Value"] for tag in tags})

    def create(self, ask: Ask, tags: Mapping[str, str]) -> AwsCall:
        return _sns("create_topic", Name=self.name, Tags=tag_list(tags))

    def change(self, seen: Seen, changed: Sequence[str]) -> AwsCall:
        raise NotImplementedError("a topic has nothing to change but tags")

    def retag(self, seen: Seen, tags: Mapping[str, str], off: Sequence[str]) -> AwsCall:
        return _sns("tag_resource", ResourceArn=self.arn, Tags=tag_list(tags))

    def removal(self, seen: Seen, ask: Ask) -> AwsCall:
        return _sns("delete_topic", TopicArn=self.arn)


def _sns(operation: str, absent: tuple[str, ...] = (), /, **arguments: Any) -> AwsCall:
    return AwsCall(service="sns", operation=operation, arguments=arguments, absent=absent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm(Resource):
    """A metric that stays above (`above`) or below its threshold for `minutes`. `missing`: CloudWatch's word."""

    reads: ClassVar[tuple[str, ...]] = ("cloudwatch:DescribeAlarms", "cloudwatch:ListTagsForResource")
    writes: ClassVar[tuple[str, ...]] = ("cloudwatch:PutMetricAlarm", "cloudwatch:TagResource")
    removes: ClassVar[tuple[str, ...]] = ("cloudwatch:DeleteAlarms",)

    arn: str
    why: str
    namespace: str
    metric: str
    dimensions: Mapping[str, str] = field(default_factory=dict)
    statistic: str
    threshold: float
    above: bool = True
    minutes: int = 1
    missing: str = "missing"
    topic: str

    @property
    def resource(self) -> str:
        return f"alarm {self.name}"

    @property
    def arns(self) -> tuple[str, ...]:
        return (self.arn,)

    def wanted(self) -> Mapping[str, str]:
        return _fields(self.arguments())

    def arguments(self) -> dict[str, Any]:
        """Of PutMetricAlarm, without tags; CloudFormation's properties have the same names."""
        return {
            "AlarmName": self.name,
            "AlarmDescription": self.why,
            "Namespace": self.namespace,
            "MetricName": self.metric,
            "Dimensions": [{"Name": name, "Value": value} for name, value in self.dimensions.items()],
            "Statistic": self.statistic,
            "Period": _PERIOD_S,
            "EvaluationPeriods": self.minutes,
            "Threshold": self.threshold,
            "ComparisonOperator": "GreaterThanThreshold" if self.above else "LessThanThreshold",
            "TreatMissingData": self.missing,
            "ActionsEnabled": True,
            "AlarmActions": [self.topic],
            "OKActions": [self.topic],
        }

    def observe(self, ask: Ask) -> Seen | None:
        found = ask(_cloudwatch("describe_alarms", AlarmNames=[self.name], AlarmTypes=["MetricAlarm"])) or {}
        alarms = found.get("MetricAlarms", ())
        if not alarms:
            return None
        tags = (ask(_cloudwatch("list_tags_for_resource", ResourceARN=self.arn)) or {}).get("Tags", ())
        return Seen(fields=_fields(alarms[0]), tags={tag["Key"]: tag["Value"] for tag in tags})

    def create(self, ask: Ask, tags: Mapping[str, str]) -> AwsCall:
        return _cloudwatch("put_metric_alarm", **self.arguments(), **({"Tags": tag_list(tags)} if tags else {}))

    def change(self, seen: Seen, changed: Sequence[str]) -> AwsCall:
        return _cloudwatch("put_metric_alarm", **self.arguments())

    def retag(self, seen: Seen, tags: Mapping[str, str], off: Sequence[str]) -> AwsCall:
        return _cloudwatch("tag_resource", ResourceARN=self.arn, Tags=tag_list(tags))

    def removal(self, seen: Seen, ask: Ask) -> AwsCall:
        return _cloudwatch("delete_alarms", AlarmNames=[self.name])


def _cloudwatch(operation: str, /, **arguments: Any) -> AwsCall:
    return AwsCall(service="cloudwatch", operation=operation, arguments=arguments)


def _fields(of: Mapping[str, Any]) -> dict[str, str]:
    """An alarm as a person reads it, from PutMetricAlarm's arguments or from DescribeAlarms' answer."""
    where = ", ".join(sorted(f"{one['Name']} {one['Value']}" for one in of.get("Dimensions", ())))
    sign = {"GreaterThanThreshold": "above", "LessThanThreshold": "below"}.get(of.get("ComparisonOperator", ""))
    return {
        "metric": f"{of.get('Namespace')} {of.get('MetricName')} ({where})",
        "condition": f"{of.get('Statistic')} {sign or of.get('ComparisonOperator')} {of.get('Threshold', 0):g}",
        "time": f"{of.get('EvaluationPeriods')} of {of.get('Period')} s",
        "missing values": str(of.get("TreatMissingData", "missing")),
        "actions": ", ".join(of.get("AlarmActions", ())) if of.get("ActionsEnabled") else "off",
        "when well again": ", ".join(of.get("OKActions", ())),
        "why": str(of.get("AlarmDescription", "")),
    }
