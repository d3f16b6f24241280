"""AWS Backup: a vault, a plan, and which tables it takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from docferry.core.estate.kinds.keys import describe_key
from docferry.core.estate.resources import Ask, AwsCall, Resource, Seen, page_through

COMPLIANCE_GRACE_DAYS = 3
"""AWS's least: so long a lock of the kind compliance can still be taken off; afterwards nothing can, not even AWS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultLock:
    """How long recovery points are kept at least and at most. `compliance`: after three days nothing can take it off."""

    compliance: bool
    min_days: int
    max_days: int

    def __str__(self) -> str:
        return f"{'compliance' if self.compliance else 'governance'}, {self.min_days} to {self.max_days} days"


@dataclass(frozen=True, slots=True, kw_only=True)
class Vault(Resource):
    """Where recovery points are kept. `kms_key` '' is AWS Backup's own; else an alias or an ARN."""

    fixed: ClassVar[frozenset[str]] = frozenset({"key"})
    later: ClassVar[tuple[str, ...]] = ("lock",)
    reads: ClassVar[tuple[str, ...]] = ("backup-storage:MountCapsule", "backup:ListBackupVaults", "backup:ListTags")
    writes: ClassVar[tuple[str, ...]] = (
        "backup:CreateBackupVault", "backup:PutBackupVaultLockConfiguration", "backup:TagResource", "backup:UntagResource",
    )  # fmt: skip

    removes: ClassVar[tuple[str, ...]] = (
        "backup:DeleteBackupVault", "backup:DeleteRecoveryPoint", "backup:ListRecoveryPointsByBackupVault",
    )  # fmt: skip

    arn: str
    kms_key: str = ""
    lock: VaultLock | None = None
    emptied: bool = False
    """Its removal takes its recovery points along."""

    @property
    def resource(self) -> str:
        return f"backup vault {self.name}{f' in {self.region}' if self.region else ''}"

    @property
    def arns(self) -> tuple[str, ...]:
        return (self.arn,)

    def wanted(self) -> Mapping[str, str]:
        return {"key": self.kms_key or "AWS Backup's own", "lock": str(self.lock or "none")}

    def observe(self, ask: Ask) -> Seen | None:
        # Of a vault that is not there DescribeBackupVault says AccessDenied, as of one that may not be seen.
        vaults = page_through(ask, self._call("list_backup_vaults"), "BackupVaultList", "NextToken")
        found = next((one for one in vaults if one["BackupVaultName"] == self.name), None)
        if found is None:
            return None
        fields = {"key": self._key_of(ask, found), "lock": _lock_of(found)}
        return Seen(fields=fields, tags=_tags_of(ask, self.arn, self.region))

    def _key_of(self, ask: Ask, found: Mapping[str, Any]) -> str:
        """The file's own word for it, if that is what it is."""
        have = str(found.get("EncryptionKeyArn", ""))
        if not self.kms_key:
            return (
                "AWS Backup's own" if not have or found.get("EncryptionKeyType") != "CUSTOMER_MANAGED_KMS_KEY" else have
            )
        key = describe_key(ask, self.kms_key, self.region)
        return self.kms_key if key is not None and key["Arn"] == have else have or "AWS Backup's own"

    def create(self, ask: Ask, tags: Mapping[str, str]) -> AwsCall:
        key = describe_key(ask, self.kms_key, self.region) if self.kms_key else None
        encryption = {"EncryptionKeyArn": key["Arn"] if key else self.kms_key} if self.kms_key else {}
        return self._call("create_backup_vault", BackupVaultName=self.name, BackupVaultTags=dict(tags), **encryption)

    def change(self, seen: Seen, changed: Sequence[str]) -> AwsCall:
        if self.lock is None:
            return self._call("delete_backup_vault_lock_configuration", BackupVaultName=self.name)
        grace = {"ChangeableForDays": COMPLIANCE_GRACE_DAYS} if self.lock.compliance else {}
        return self._call(
            "put_backup_vault_lock_configuration",
            BackupVaultName=self.name,
            MinRetentionDays=self.lock.min_days,
            MaxRetentionDays=self.lock.max_days,
            **grace,
        )

    def retag(self, seen: Seen, tags: Mapping[str, str], off: Sequence[str]) -> AwsCall:
        return _retag(self.arn, tags, off, self.region)

    def removal(self, seen: Seen, ask: Ask) -> AwsCall:
        if (point := next(self._points(ask), None)) is not None:
            return self._call("delete_recovery_point", BackupVaultName=self.name, RecoveryPointArn=point)
        return self._call("delete_backup_vault", BackupVaultName=self.name)

    def stays(self, seen: Seen, ask: Ask) -> str:
        if seen.fields["lock"] != "none":
            return f"it is locked ({seen.fields['lock']}): take the lock off first, where AWS lets you"
        if not self.emptied and (held := sum(1 for _ in self._points(ask))):
            return f"it holds {held} recovery point(s), which only --recovery-points deletes, too"
        return ""

    def _points(self, ask: Ask) -> Iterator[str]:
        listed = self._call("list_recovery_points_by_backup_vault", BackupVaultName=self.name)
        for one in page_through(ask, listed, "RecoveryPoints", "NextToken"):
            if one.get("Status") != "DELETING":
                yield one["RecoveryPointArn"]

    def _call(self, operation: str, /, **arguments: Any) -> AwsCall:
        return _backup(operation, self.region, **arguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupRule:
    """When it runs (`cron(...)`, UTC), how long its points are kept, and the ARNs of the vaults that get a copy."""

    name: str
    schedule: str
    delete_after_days: int
    cold_after_days: int | None = None
    copies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupPlan(Resource):
    """When backups are made, and how long they live. `vault` is the name of the vault that gets them."""

    reads: ClassVar[tuple[str, ...]] = ("backup:GetBackupPlan", "backup:ListBackupPlans", "backup:ListTags")
    writes: ClassVar[tuple[str, ...]] = ("backup:CreateBackupPlan", "backup:TagResource", "backup:UpdateBackupPlan")

    removes: ClassVar[tuple[str, ...]] = ("backup:DeleteBackupPlan",)

    arn: str
    """A pattern: AWS gives a plan its id."""
    vault: str
    rules: tuple[BackupRule, ...]

    @property
    def resource(self) -> str:
        return f"backup plan {self.name}"

    @property
    def arns(self) -> tuple[str, ...]:
        return (self.arn,)

    def wanted(self) -> Mapping[str, str]:
        return {f"rule {one['RuleName']}": _show_rule(one) for one in self.document()["Rules"]}

    def document(self) -> dict[str, Any]:
        """The plan as the API has it."""
        return {"BackupPlanName": self.name, "Rules": [_encode_rule(self.vault, one) for one in self.rules]}

    def observe(self, ask: Ask) -> Seen | None:
        found = plan_by_name(ask, self.name)
        if found is None:
            return None
        plan = (ask(_backup("get_backup_plan", BackupPlanId=found["BackupPlanId"])) or {}).get("BackupPlan", {})
        return Seen(
            fields={f"rule {one['RuleName']}": _show_rule(one) for one in plan.get("Rules", ())},
            tags=_tags_of(ask, found["BackupPlanArn"]),
            known={"id": found["BackupPlanId"], "arn": found["BackupPlanArn"]},
        )

    def create(self, ask: Ask, tags: Mapping[str, str]) -> AwsCall:
        # Of two requests with one token AWS makes one plan: an answer may be lost.
        token = f"docferry-{self.digest}"
        return _backup(
            "create_backup_plan", BackupPlan=self.document(), BackupPlanTags=dict(tags), CreatorRequestId=token
        )

    def change(self, seen: Seen, changed: Sequence[str]) -> AwsCall:
        return _backup("update_backup_plan", BackupPlanId=seen.known["id"], BackupPlan=self.document())

    def retag(self, seen: Seen, tags: Mapping[str, str], off: Sequence[str]) -> AwsCall:
        return _retag(seen.known["arn"], tags, off)

    def removal(self, seen: Seen, ask: Ask) -> AwsCall:
        return _backup("delete_backup_plan", BackupPlanId=seen.known["id"])


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupSelection(Resource):
    """The tables of a plan, by ARN, and the role that AWS Backup takes. AWS can neither change it in place nor tag it."""

    fixed: ClassVar[frozenset[str]] = frozenset({"role", "tables"})
    reads: ClassVar[tuple[str, ...]] = (
        "backup:GetBackupSelection", "backup:ListBackupPlans", "backup:ListBackupSelections",
    )  # fmt: skip
    writes: ClassVar[tuple[str, ...]] = ("backup:CreateBackupSelection", "iam:PassRole")
    condition: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {"StringEqualsIfExists": {"iam:PassedToService": "backup.amazonaws.com"}}
    )

    removes: ClassVar[tuple[str, ...]] = ("backup:DeleteBackupSelection",)

    arn: str
    """A pattern, of plans."""
    plan: str
    role_arn: str
    tables: tuple[str, ...]

    @property
    def resource(self) -> str:
        return f"backup selection {self.name}"

    @property
    def arns(self) -> tuple[str, ...]:
        return (self.arn, self.role_arn)

    def wanted(self) -> Mapping[str, str]:
        return {"role": self.role_arn, "tables": ", ".join(sorted(self.tables))}

    def document(self) -> dict[str, Any]:
        return {"SelectionName": self.name, "IamRoleArn": self.role_arn, "Resources": list(self.tables)}

    def observe(self, ask: Ask) -> Seen | None:
        plan = plan_by_name(ask, self.plan)
        if plan is None:
            return None
        listed = _backup("list_backup_selections", BackupPlanId=plan["BackupPlanId"])
        found = page_through(ask, listed, "BackupSelectionsList", "NextToken")
        one = next((one for one in found if one["SelectionName"] == self.name), None)
        if one is None:
            return None
        where = {"BackupPlanId": plan["BackupPlanId"], "SelectionId": one["SelectionId"]}
        selection = (ask(_backup("get_backup_selection", **where)) or {}).get("BackupSelection", {})
        tables = ", ".join(sorted(selection.get("Resources", ())))
        return Seen(fields={"role": selection.get("IamRoleArn", ""), "tables": tables}, known=where)

    def create(self, ask: Ask, tags: Mapping[str, str]) -> AwsCall:
        plan = plan_by_name(ask, self.plan) or {}
        return _backup(
            "create_backup_selection",
            BackupPlanId=plan.get("BackupPlanId", self.plan),
            BackupSelection=self.document(),
            CreatorRequestId=f"docferry-{self.digest}",
        )

    def change(self, seen: Seen, changed: Sequence[str]) -> AwsCall:
        raise NotImplementedError("AWS can only delete a selection and make it anew")

    def removal(self, seen: Seen, ask: Ask) -> AwsCall:
        return _backup("delete_backup_selection", **seen.known)


def plan_by_name(ask: Ask, name: str) -> Mapping[str, Any] | None:
    """Names of plans are not unique in AWS: of several the oldest."""
    plans = page_through(ask, _backup("list_backup_plans"), "BackupPlansList", "NextToken")
    named = sorted((one for one in plans if one["BackupPlanName"] == name), key=lambda one: str(one["CreationDate"]))
    return named[0] if named else None


def _encode_rule(vault: str, rule: BackupRule) -> dict[str, Any]:
    cold = {} if rule.cold_after_days is None else {"MoveToColdStorageAfterDays": rule.cold_after_days}
    life = {**cold, "DeleteAfterDays": rule.delete_after_days}
    copies = [{"DestinationBackupVaultArn": one, "Lifecycle": life} for one in rule.copies]
    return {
        "RuleName": rule.name,
        "TargetBackupVaultName": vault,
        "ScheduleExpression": rule.schedule,
        "Lifecycle": life,
        **({"CopyActions": copies} if copies else {}),
    }


def _show_rule(rule: Mapping[str, Any]) -> str:
    copies = sorted(one["DestinationBackupVaultArn"] for one in rule.get("CopyActions", ()))
    told = [
        str(rule.get("ScheduleExpression")),
        f"into {rule.get('TargetBackupVaultName')}",
        _show_life(rule.get("Lifecycle", {})),
        *(f"copied to {one}" for one in copies),
        *(_show_life(one.get("Lifecycle", {})) for one in rule.get("CopyActions", ())),
    ]
    return ", ".join(told)


def _show_life(life: Mapping[str, Any]) -> str:
    cold = life.get("MoveToColdStorageAfterDays")
    return f"{f'cold after {cold} days, ' if cold else ''}deleted after {life.get('DeleteAfterDays', 'no')} days"


def _lock_of(vault: Mapping[str, Any]) -> str:
    if not vault.get("Locked"):
        return "none"
    low, high = vault.get("MinRetentionDays", 0), vault.get("MaxRetentionDays", 0)
    return str(VaultLock(compliance="LockDate" in vault, min_days=low, max_days=high))


def _tags_of(ask: Ask, arn: str, region: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    more: dict[str, str] = {}
    while True:
        reply = ask(_backup("list_tags", region, ResourceArn=arn, **more)) or {}
        found |= reply.get("Tags", {})
        if not reply.get("NextToken"):
            return found
        more = {"NextToken": reply["NextToken"]}


def _retag(arn: str, tags: Mapping[str, str], off: Sequence[str], region: str = "") -> AwsCall:
    if off:
        return _backup("untag_resource", region, ResourceArn=arn, TagKeyList=list(off))
    return _backup("tag_resource", region, ResourceArn=arn, Tags=dict(tags))


def _backup(operation: str, region: str = "", /, **arguments: Any) -> AwsCall:
    return AwsCall(service="backup", operation=operation, region=region, arguments=arguments)
