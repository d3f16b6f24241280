"""What each phase needs to be allowed, and lacks: all of it at once, before a phase fails for want of the first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from docferry.config import Migration
from docferry.core.estate.wanted import around
from docferry.core.permissions.aws import COMMANDS, policy
from docferry.core.permissions.mongodb import Wanted, lacking
from docferry.core.permissions.statements import AwsAccount, Resources
from docferry.core.settings import ExternalFence
from docferry.errors import AccessDenied, StoreError
from docferry.ports.flows import Estate, Source


def wanted_of(migration: Migration) -> Wanted:
    """What of the file decides about MongoDB's privileges."""
    return Wanted(
        database=migration.source.database,
        collections=tuple(migration.mappings),
        where=migration.namespaces,
        to_create=frozenset(migration.to_create),
        fence="external" if isinstance(wanted := migration.cutover.fence, ExternalFence) else wanted,
        kill_transactions=migration.cutover.kill_transactions,
    )


def resources_of(migration: Migration) -> Resources:
    """What of the file decides about AWS's permissions."""
    kept = migration.rollback_points.to if migration.rollback_points else ""
    bucket, _, prefix = kept.removeprefix("s3://").partition("/") if kept.startswith("s3://") else ("", "", "")
    dax, capacities = migration.dax, [one.capacity for one in migration.tables if one.capacity]
    return Resources(
        migration=migration.name,
        tables=tuple(one.name for one in migration.tables),
        indexed=tuple(one.name for one in migration.tables if one.indexes),
        ledger=migration.ledger.table,
        journal=migration.ledger.journal_table if migration.cutover.journal else "",
        replicas=migration.target.replicas,
        keys=tuple(sorted({one.kms_key for one in migration.tables if one.kms_key and one.kms_key.startswith("arn:")})),
        scaled=any(one.max_read_units or one.max_write_units for one in capacities),
        dax_cluster=dax.cluster if dax else "",
        dax_role=dax.role_arn if dax else "",
        bucket=bucket,
        prefix=prefix,
        parts=any(one.overflow == "split" for one in migration.collections),
        cloudwatch=migration.monitoring is not None and migration.monitoring.cloudwatch,
        application_cloudwatch=migration.monitoring is not None and migration.monitoring.application,
        around=around(migration.name, migration.tables, migration.target, migration.estate, final=True).all,
        scratch=migration.target.scratch,
        objects=_objects_of(migration),
        rows=_below(migration.backfill.import_to, migration) if migration.backfill.strategy == "import" else "",
    )


def _objects_of(migration: Migration) -> str:
    if not any(one.overflow == "s3" for one in migration.collections):
        return ""
    return _below(migration.target.objects, migration)


def _below(url: str, migration: Migration) -> str:
    """Bucket, prefix and migration."""
    return "/".join([url.removeprefix("s3://").strip("/"), migration.name])


@dataclass(frozen=True, slots=True, kw_only=True)
class PermissionReport:
    """`lacking` refuses a phase; `unchecked` says what can only be known by doing it."""

    lacking: tuple[str, ...]
    unchecked: tuple[str, ...]


def permissions_of(migration: Migration, source: Source, estate: Estate | None) -> PermissionReport:
    """Ask both sides, without changing anything. `estate` None: AWS is not configured. Raises StoreError of MongoDB."""
    lacking_now: list[str] = []
    unchecked: list[str] = []
    privileges = source.privileges()
    if privileges is None:
        unchecked.append(
            "MongoDB: the connection has no user; without access control everything is allowed, with it nothing is"
        )
    else:
        lacking_now += map(str, lacking(wanted_of(migration), privileges))
    if estate is None:
        unchecked.append("AWS: no credentials are configured, so nothing was asked")
    else:
        lacking_now += _describe(migration, estate, unchecked)
    for actor, commands in COMMANDS.items():
        statements = policy(actor, resources_of(migration), AwsAccount(region=migration.target.region))["Statement"]
        actions = sorted({action for one in statements for action in one["Action"]})
        if not actions:  # destroy, of a file whose stack is none to be removed
            continue
        what = f"AWS, {', '.join(commands)}: {', '.join(actions)}"
        unchecked.append(f"{what}: only the call itself can show it, and it was not tried (docferry iam --for {actor})")
    return PermissionReport(lacking=tuple(lacking_now), unchecked=tuple(unchecked))


def _describe(migration: Migration, estate: Estate, unchecked: list[str]) -> Iterator[str]:
    for name in (*(table.name for table in migration.tables), migration.ledger.table):
        try:
            estate.fetch_table(name)
        except AccessDenied as error:
            yield f"every phase: AWS refuses to describe the table {name}: {error}"
        except StoreError as error:
            unchecked.append(f"AWS: the table {name} could not be described: {error}")
