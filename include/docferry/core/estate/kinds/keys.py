"""KMS keys: one for the target's region, found by its alias, and its replicas in other regions if it is a multi-Region key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from docferry.core.estate.resources import Ask, AwsCall, Resource, Seen, page_through, tag_list

ALIAS = "docferry:alias"
"""A tag of a key: the alias that it shall have. By it a key is found that was made, and not yet named."""
WAITING_DAYS = 30
"""AWS's most: what the key has encrypted is lost behind it."""
_ABSENT = ("NotFoundException",)
_GOING = ("PendingDeletion", "PendingReplicaDeletion")


@dataclass(frozen=True, slots=True, kw_only=True)
class KmsKey(Resource):
    """A key for encryption, turned every year by AWS. `name` is its alias, with `alias/`."""

    fixed: ClassVar[frozenset[str]] = frozenset({"multi-Region", "state"})
    later: ClassVar[tuple[str, ...]] = ("alias", "rotation")
    reads: ClassVar[tuple[str, ...]] = (
        "kms:CreateKey", "kms:DescribeKey", "kms:GetKeyRotationStatus", "kms:ListKeys", "kms:ListResourceTags",
    )  # fmt: skip
    writes: ClassVar[tuple[str, ...]] = (
        "kms:CreateAlias", "kms:CreateGrant", "kms:Decrypt", "kms:EnableKeyRotation", "kms:GenerateDataKey", "kms:RetireGrant",
        "kms:TagResource", "kms:UntagResource",
    )  # fmt: skip

    removes: ClassVar[tuple[str, ...]] = ("kms:DeleteAlias", "kms:ScheduleKeyDeletion")

    key_arns: tuple[str, ...] = ("*",)
    """Of the alias, and of the keys that may be it."""
    multi_region: bool = False

    @property
    def arns(self) -> tuple[str, ...]:
        return self.key_arns

    @property
    def resource(self) -> str:
        return f"KMS key {self.name}"

    def wanted(self) -> Mapping[str, str]:
        kind = "yes" if self.multi_region else "no"
        return {"alias": self.name, "rotation": "on", "multi-Region": kind, "state": "Enabled"}

    def observe(self, ask: Ask) -> Seen | None:
        found = describe_key(ask, self.name)
        named = found is not None
        found = found or _unnamed(ask, self.name)
        if found is None:
            return None
        key = found["KeyId"]
        rotation = ask(_kms("get_key_rotation_status", KeyId=key)) or {}
        fields = {
            "alias": self.name if named else "missing",
            "rotation": "on" if rotation.get("KeyRotationEnabled") else "off",
            "multi-Region": "yes" if found.get("MultiRegion") else "no",
            "state": found.get("KeyState", "Enabled"),
        }
        tags = {name: text for name, text in key_tags(ask, key).items() if name != ALIAS}
        return Seen(fields=fields, tags=tags, known={"key": key, "arn": found["Arn"]})

    def create(self, ask: Ask, tags: Mapping[str, str]) -> AwsCall:
        return _kms(
            "create_key",
            Description=f"docferry: {self.name}",
            MultiRegion=self.multi_region,
            Tags=tag_list({**tags, ALIAS: self.name}, "TagKey", "TagValue"),
        )

    def change(self, seen: Seen, changed: Sequence[str]) -> AwsCall:
        if changed == ["alias"]:
            return _kms("create_alias", AliasName=self.name, TargetKeyId=seen.known["key"])
        return _kms("enable_key_rotation", KeyId=seen.known["key"])

    def retag(self, seen: Seen, tags: Mapping[str, str], off: Sequence[str]) -> AwsCall:
        return _retag(seen, tags, off)

    def removal(self, seen: Seen, ask: Ask) -> AwsCall | None:
        return _removal(seen, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class KmsReplicaKey(Resource):
    """A multi-Region key's replica in `region`, under the same alias there."""

    fixed: ClassVar[frozenset[str]] = frozenset({"state"})
    later: ClassVar[tuple[str, ...]] = ("alias",)
    reads: ClassVar[tuple[str, ...]] = ("kms:CreateKey", "kms:DescribeKey", "kms:ListResourceTags")
    writes: ClassVar[tuple[str, ...]] = (
        "kms:CreateAlias", "kms:ReplicateKey", "kms:TagResource", "kms:UntagResource",
    )  # fmt: skip

    removes: ClassVar[tuple[str, ...]] = ("kms:DeleteAlias", "kms:ScheduleKeyDeletion")

    key_arns: tuple[str, ...] = ("*",)

    @property
    def arns(self) -> tuple[str, ...]:
        return self.key_arns

    @property
    def resource(self) -> str:
        return f"KMS key {self.name} in {self.region}"

    def wanted(self) -> Mapping[str, str]:
        return {"alias": self.name, "state": "Enabled"}

    def observe(self, ask: Ask) -> Seen | None:
        found = describe_key(ask, self.name, self.region)
        named = found is not None
        main = None if named else describe_key(ask, self.name)
        if main is not None and "/mrk-" in main["Arn"]:
            found = describe_key(ask, main["KeyId"], self.region)
        if found is None:
            return None
        state = found.get("KeyState", "Enabled")
        return Seen(
            fields={
                "alias": self.name if named else "missing",
                "state": "Enabled" if state in ("Creating", "Updating") else state,
            },
            tags=key_tags(ask, found["KeyId"], self.region),
            settled=state not in ("Creating", "Updating"),
            known={"key": found["KeyId"], "arn": found["Arn"]},
        )

    def create(self, ask: Ask, tags: Mapping[str, str]) -> AwsCall:
        main = describe_key(ask, self.name) or {}
        return _kms(
            "replicate_key",
            KeyId=main.get("KeyId", self.name),
            ReplicaRegion=self.region,
            Description=f"docferry: {self.name}",
            Tags=tag_list(tags, "TagKey", "TagValue"),
        )

    def change(self, seen: Seen, changed: Sequence[str]) -> AwsCall:
        return _kms("create_alias", self.region, AliasName=self.name, TargetKeyId=seen.known["key"])

    def retag(self, seen: Seen, tags: Mapping[str, str], off: Sequence[str]) -> AwsCall:
        return _retag(seen, tags, off, self.region)

    def removal(self, seen: Seen, ask: Ask) -> AwsCall | None:
        return _removal(seen, self.name, self.region)


def describe_key(ask: Ask, key: str, region: str = "") -> Mapping[str, Any] | None:
    """A key's metadata, by alias, id or ARN."""
    reply = ask(AwsCall(**_about("describe_key", region), arguments={"KeyId": key}, absent=_ABSENT))
    return reply["KeyMetadata"] if reply else None


def key_tags(ask: Ask, key: str, region: str = "") -> dict[str, str]:
    call = _kms("list_resource_tags", region, KeyId=key)
    found = page_through(ask, call, "Tags", "NextMarker", "Marker")
    return {tag["TagKey"]: tag["TagValue"] for tag in found}


def _unnamed(ask: Ask, alias: str) -> Mapping[str, Any] | None:
    """A key that a run of ours has made for this alias, and has not named."""
    for one in page_through(ask, _kms("list_keys"), "Keys", "NextMarker", "Marker"):
        found = describe_key(ask, one["KeyId"])
        if found is None or found.get("KeyState") in _GOING:
            continue
        ours = found.get("KeyManager", "CUSTOMER") == "CUSTOMER"
        if ours and key_tags(ask, one["KeyId"]).get(ALIAS) == alias:
            return found
    return None


def _removal(seen: Seen, alias: str, region: str = "") -> AwsCall | None:
    """Not before a month is over, within which the deletion can be taken back; its name is free at once."""
    if seen.fields["state"] not in _GOING:
        return _kms("schedule_key_deletion", region, KeyId=seen.known["key"], PendingWindowInDays=WAITING_DAYS)
    return _kms("delete_alias", region, AliasName=alias) if seen.fields["alias"] == alias else None


def _retag(seen: Seen, tags: Mapping[str, str], off: Sequence[str], region: str = "") -> AwsCall:
    if off:
        return _kms("untag_resource", region, KeyId=seen.known["key"], TagKeys=list(off))
    return _kms("tag_resource", region, KeyId=seen.known["key"], Tags=tag_list(tags, "TagKey", "TagValue"))


def _kms(operation: str, region: str = "", /, **arguments: Any) -> AwsCall:
    return AwsCall(**_about(operation, region), arguments=arguments)


def _about(operation: str, region: str) -> dict[str, Any]:
    return {"service": "kms", "operation": operation, "region": region}
