"""From a file's section `estate`, and what its tables say beside it, to resources, in the order in which they are made."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from docferry.core.estate.alarm_list import alarm_resources
from docferry.core.estate.kinds.backup import BackupPlan, BackupRule, BackupSelection, Vault, VaultLock
from docferry.core.estate.kinds.functions import EventSourceMapping
from docferry.core.estate.kinds.keys import KmsKey, KmsReplicaKey
from docferry.core.estate.kinds.replica_scaling import ReplicaScaling
from docferry.core.estate.kinds.throughput import ContributorInsights, WarmThroughput
from docferry.core.estate.resources import AwsPlace, Resource
from docferry.core.settings import TableSettings, TargetSettings
from docferry.core.settings_estate import BackupSettings, EstateSettings, KeySettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What is made beside tables and DAX. `keys`: before the tables that they encrypt; `after`: once the tables are there;
    `with_replicas`: once the replicas are. `waiting`: what is not made yet, and why."""

    keys: tuple[Resource, ...] = ()
    after: tuple[Resource, ...] = ()
    with_replicas: tuple[Resource, ...] = ()
    waiting: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[Resource, ...]:
        return (*self.keys, *self.after, *self.with_replicas)


def around(
    migration: str,
    tables: Sequence[TableSettings],
    target: TargetSettings,
    estate: EstateSettings,
    *,
    final: bool = False,
    owner: Mapping[str, str] | None = None,
) -> Around:
    """`owner`: the tag with which all is born that can have tags. `final`: the migration is over. A stream of a global table
    bears one reader a shard: until then that is docferry's."""
    place = AwsPlace(account=target.account or "*", region=target.region)
    after: list[Resource] = list(_beside_tables(tables, place))
    if estate.alarms is not None:
        after += alarm_resources(migration, tables, estate.alarms, place, estate.tags)
    if estate.backup is not None:
        after += _backups(migration, tables, estate.backup, place, estate.tags)
    waits = bool(target.replicas) and not final
    functions = tuple(_functions(estate))
    keys = (one for name, key in estate.keys.items() for one in _keys(name, key, target, place, estate.tags))
    return Around(
        keys=_owned(keys, owner),
        after=_owned((*after, *(() if waits else functions)), owner),
        with_replicas=_owned(_beside_replicas(tables, target, place), owner),
        waiting=tuple(f"{one.resource}: waits for FINAL, as the table has replicas" for one in functions)
        if waits
        else (),
    )


def _owned(resources: Iterable[Resource], owner: Mapping[str, str] | None) -> tuple[Resource, ...]:
    return tuple(replace(one, owner=owner or {}) for one in resources)


def _keys(
    name: str, key: KeySettings, target: TargetSettings, place: AwsPlace, tags: Mapping[str, str]
) -> Iterator[Resource]:
    alias = f"alias/{name}"
    arns = (place.arn("kms", alias), place.arn("kms", "key/*"))
    yield KmsKey(name=alias, tags=tags, multi_region=key.multi_region, key_arns=arns)
    for region in target.replicas if key.multi_region else ():
        there = (place.arn("kms", alias, region), *(place.arn("kms", "key/*", one) for one in (place.region, region)))
        yield KmsReplicaKey(name=alias, region=region, tags=tags, key_arns=there)


def _beside_tables(tables: Sequence[TableSettings], place: AwsPlace) -> Iterator[Resource]:
    for table in tables:
        arn = place.arn("dynamodb", f"table/{table.name}")
        if warm := table.warm_throughput:
            yield WarmThroughput(
                name=table.name,
                arn=arn,
                read_units=warm.read_units,
                write_units=warm.write_units,
                indexes=table.indexes,
            )
        for index in ("", *table.indexes) if table.contributor_insights else ():
            yield ContributorInsights(name=table.name, arn=arn, index=index)


def _beside_replicas(tables: Sequence[TableSettings], target: TargetSettings, place: AwsPlace) -> Iterator[Resource]:
    for table in tables:
        for region in target.replicas:
            capacity = table.capacity
            if table.billing == "provisioned" and capacity is not None and capacity.max_read_units is not None:
                yield ReplicaScaling(
                    name=table.name, region=region, arn=place.arn("dynamodb", f"table/{table.name}"),
                    min_units=capacity.read_units, max_units=capacity.max_read_units,
                    target_percent=capacity.target_percent, indexes=table.indexes,
                )  # fmt: skip
            arn = place.arn("dynamodb", f"table/{table.name}", region)
            for index in ("", *table.indexes) if table.contributor_insights else ():
                yield ContributorInsights(name=table.name, arn=arn, index=index, region=region)


def _backups(
    migration: str, tables: Sequence[TableSettings], of: BackupSettings, place: AwsPlace, tags: Mapping[str, str]
) -> Iterator[Resource]:
    lock = None
    if (said := of.lock) is not None:
        lock = VaultLock(compliance=said.mode == "compliance", min_days=said.min_days, max_days=said.max_days)
    copies = sorted({region for rule in of.rules.values() for region in rule.copy_to})
    for region in ("", *copies):
        arn = place.arn("backup", f"backup-vault:{of.vault}", region)
        yield Vault(name=of.vault, region=region, tags=tags, arn=arn, kms_key=of.kms_key, lock=lock)
    rules = tuple(
        BackupRule(
            name=name, schedule=rule.schedule, delete_after_days=rule.delete_after_days, cold_after_days=rule.cold_after_days,
            copies=tuple(place.arn("backup", f"backup-vault:{of.vault}", region) for region in rule.copy_to),
        )
        for name, rule in of.rules.items()
    )  # fmt: skip
    name = f"docferry-{migration}"
    plans = place.arn("backup", "backup-plan:*")
    yield BackupPlan(name=name, tags=tags, arn=plans, vault=of.vault, rules=rules)
    arns = tuple(place.arn("dynamodb", f"table/{table.name}") for table in tables)
    yield BackupSelection(name=name, arn=plans, plan=name, role_arn=of.role_arn, tables=arns)


def _functions(estate: EstateSettings) -> Iterator[Resource]:
    for name, one in estate.functions.items():
        patterns = tuple(json.dumps(pattern, sort_keys=True) for pattern in one.filters)
        yield EventSourceMapping(
            name=name, tags=estate.tags, function=one.function, table=one.table, batch=one.batch, filters=patterns,
            dead_letters=one.dead_letters, retries=one.retries, start=one.start,
        )  # fmt: skip
