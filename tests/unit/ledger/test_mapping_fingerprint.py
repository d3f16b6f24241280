"""The fingerprint of a mapping changes with what decides about items, and with nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

import pytest
from docferry.core import settings as s
from docferry.core.settings import CollectionSettings, ItemSettings
from docferry.flows.ledger import mapping_fingerprint
from docferry.flows.ledger.load_headers import LoadHeaders, new_header
from docferry.flows.ledger.mapping_fingerprint import (
    FIRST,
    FORMAT,
    changed_mappings,
    fingerprint_of,
    fits,
    old_fingerprint_of,
    renew_fingerprints,
)
from docferry.ports.flows import Record
from docferry.testing.fakes import FakeLedger
from support.ledger.old import old_migration

ITEM = ItemSettings(
    entity="ORDER",
    key={"PK": "ORDER#{_id}", "SK": "METADATA"},
    index={"GSI1": {"PK": "USER#{userId}", "SK": "ORDER#{createdAt}"}},
    when={"GSI1": {"status": "active"}},
    attributes={"orderId": "_id"},
    types={"orderId": "oid"},
)
CHILD = ItemSettings(entity="ORDER_ITEM", key={"SK": "ITEM#{index:03d}"})
ORDERS = CollectionSettings(
    name="orders",
    table="Shop",
    item=ITEM,
    children={"items": CHILD},
    unmapped="drop",
    generic=False,
    index_names=("GSI1", "GSI2"),
    ttl_attribute="expires",
)

OTHER: Mapping[type, Mapping[str, Any]] = {
    ItemSettings: {
        "entity": "OTHER",
        "key": {"PK": "O#{_id}", "SK": "METADATA"},
        "index": {},
        "when": {"GSI1": {"status": 1}},
        "attributes": {},
        "types": {"orderId": "string"},
    },
    CollectionSettings: {
        "transform": s.TransformSettings(use="mine:docs"),
        "name": "other",
        "order": "keep",
        "database": "archive",
        "collection": "others",
        "table": "Other",
        "item": CHILD,
        "children": {},
        "unmapped": "keep",
        "index_names": ("GSI1",),
        "ttl_attribute": "_ttl",
        "key": s.KeyDesign(PK=s.KeyAttribute(name="PK"), SK=s.KeyAttribute(name="SK", type="N")),
        "index_keys": {"GSI1": s.KeyDesign(PK=s.KeyAttribute(name="email"))},
        "unique": (s.UniqueSettings(name="email_1", key={"email": 1}),),
        "overflow": "compress",
        "filter": {"region": "eu"},
    },
}
"""Another value of each field that decides about items."""

DECIDE_NOTHING: Mapping[type, tuple[str, ...]] = {
    # Whether the file left the mapping out (what it is then is in `item`), what an index projects of an item that is there, and
    # whether queries may scan.
    CollectionSettings: ("generic", "without_kind", "scan"),
    s.ScanSettings: ("allowed", "most_read_units"),
    s.SourceSettings: ("connection", "database"),
    # Where tables and objects are: a part that is not found there is a finding, as a table is that is not there.
    s.TargetSettings: ("connection", "region", "replicas", "account", "scratch", "objects"),
    s.Capacity: ("read_units", "write_units", "max_read_units", "max_write_units", "target_percent"),
    s.IndexSettings: ("key", "projection", "include"),
    # A table's keys, indexes and ttl_attribute are in each collection's settings, too, and decide there.
    s.TableDesign: (
        "billing", "capacity", "pitr", "encryption", "kms_key", "stream", "deletion_protection", "ttl_attribute",
        "tags", "shared", "contributor_insights", "warm_throughput",
    ),
    s.WarmThroughputSettings: ("read_units", "write_units"),
    s.TableSettings: ("name", "key", "indexes", "designs"),
    s.DaxSettings: tuple(one.name for one in fields(s.DaxSettings)),
    s.LedgerSettings: ("table",),
    s.BackfillSettings: (
        "chunk_documents", "page_documents", "max_tasks", "budget_wcu", "dead_letter_share", "dead_letter_count", "lease_s",
        "concurrency", "late_writes_s", "strategy", "import_to",
    ),
    s.ValidateSettings: ("masked", "first_differences", "settle_s", "schedule", "budget_rcu"),
    s.MonitoringSettings: ("cloudwatch", "application", "every_s"),
    s.ExternalFence: tuple(one.name for one in fields(s.ExternalFence)),
    s.CutoverSettings: tuple(one.name for one in fields(s.CutoverSettings)),  # who leads, and when: never what is stored
    s.RollbackPointSettings: ("method", "to"),
    s.NotifySettings: ("by", "to", "connection", "when"),
    s.AccessPattern: ("name", "collection", "key", "index"),
}  # fmt: skip
"""The other fields, which say how a migration is run, and may change between two runs. A field in neither list is not thought of
yet: does an item, its key or whether there is one depend on it?"""


def classes() -> list[type]:
    found = [one for one in vars(s).values() if isinstance(one, type) and is_dataclass(one)]
    return [one for one in found if one.__module__ == s.__name__]


@pytest.mark.parametrize("kind", classes(), ids=lambda kind: kind.__name__)
def test_every_field_of_the_settings_is_known_to_decide_about_items_or_not(kind: type) -> None:
    inherited = {one.name for base in kind.__mro__[1:] if is_dataclass(base) for one in fields(base)}
    known = {*FIRST.get(kind, {}), *DECIDE_NOTHING.get(kind, ())}
    assert {one.name for one in fields(kind)} - inherited == known


def test_no_field_both_decides_and_does_not() -> None:
    assert [kind for kind in FIRST if set(FIRST[kind]) & set(DECIDE_NOTHING.get(kind, ()))] == []


@pytest.mark.parametrize("name", FIRST[CollectionSettings])
def test_each_field_of_a_collection_that_decides_changes_the_fingerprint(name: str) -> None:
    assert fingerprint_of(replace(ORDERS, **{name: OTHER[CollectionSettings][name]})) != fingerprint_of(ORDERS)


@pytest.mark.parametrize("name", FIRST[ItemSettings])
def test_each_field_of_an_item_changes_the_fingerprint_at_the_root_and_in_a_child(name: str) -> None:
    changed = {name: OTHER[ItemSettings][name]}
    of_root = fingerprint_of(replace(ORDERS, item=replace(ITEM, **changed)))
    child = replace(ITEM, entity="ORDER_ITEM")
    of_child = [fingerprint_of(replace(ORDERS, children={"items": one})) for one in (child, replace(child, **changed))]
    assert len({fingerprint_of(ORDERS), of_root, *of_child}) == 4


def test_a_unique_index_decides_by_its_name_its_fields_in_their_order_and_its_filter() -> None:
    one = s.UniqueSettings(name="a_1_b_1", key={"a": 1, "b": 1})
    alike = replace(one, key={"a": 1, "b": -1})  # equality has no direction
    others = [
        replace(one, name="other"),
        replace(one, key={"b": 1, "a": 1}),
        replace(one, sparse=True),
        replace(one, partial={"a": {"$gt": 1}}),
    ]
    made = [fingerprint_of(replace(ORDERS, unique=(found,))) for found in (one, alike, *others)]
    assert made[0] == made[1]
    assert len(set(made)) == 1 + len(others)


@pytest.mark.parametrize("value", [1, 1.0, True, "1", None])
def test_values_of_different_types_are_different_conditions(value: object) -> None:
    others = [one for one in (1, 1.0, True, "1", None) if one is not value]
    made = [replace(ORDERS, item=replace(ITEM, when={"GSI1": {"a": one}})) for one in (value, *others)]
    assert fingerprint_of(made[0]) not in set(map(fingerprint_of, made[1:]))


def test_what_decides_nothing_changes_nothing() -> None:
    assert fingerprint_of(replace(ORDERS, generic=True)) == fingerprint_of(ORDERS)
    assert fingerprint_of(replace(ORDERS, scan=s.ScanSettings(allowed=True))) == fingerprint_of(ORDERS)
    turned = replace(
        ORDERS,
        index_names=ORDERS.index_names[::-1],
        item=replace(ITEM, key=dict(reversed(list(ITEM.key.items()))), types=dict(reversed(list(ITEM.types.items())))),
    )
    assert fingerprint_of(turned) == fingerprint_of(ORDERS), "the order of names in the file"


def test_a_new_field_with_a_default_changes_no_fingerprint_and_decides_once_it_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Later(CollectionSettings):
        numbers: str = "exact"
        color: str = field(default="none")

    values = {one.name: getattr(ORDERS, one.name) for one in fields(ORDERS)}
    later = {**FIRST[CollectionSettings], "numbers": "exact"}
    monkeypatch.setattr(mapping_fingerprint, "FIRST", {**FIRST, Later: later})
    assert fingerprint_of(Later(**values)) == fingerprint_of(Later(**values, color="red")) == fingerprint_of(ORDERS)
    assert fingerprint_of(Later(**values, numbers="rounded")) != fingerprint_of(ORDERS)
    assert old_fingerprint_of(Later(**values)) == old_fingerprint_of(ORDERS)
    assert old_fingerprint_of(Later(**values, numbers="rounded")) is None, "no old ledger can be of such a mapping"


def test_the_format_is_what_it_was() -> None:
    """Ledgers hold these: if this test fails, the format needs a new version, and this rule a place beside the old one."""
    assert fingerprint_of(ORDERS) == "f1-732b37db1159d908d66874cfcfe94709"
    assert fingerprint_of(CollectionSettings(name="c", table="T", item=CHILD)) == "f1-3fe295bd63eedd642abee06d7d06fbf9"


def test_the_old_rule_is_what_it_was() -> None:
    """The hash of `repr()` as the version before made it, of the shop and of a mapping that has everything."""
    shop = old_migration()
    made = {one.name: old_fingerprint_of(one) for one in shop.collections}
    assert made == {
        "users": "9f433d67cf396ed7",
        "orders": "43fb19d377059d9d",
        "products": "23756f2ec51206c5",
        "categories": "b642a00acf85d8e2",
    }
    assert old_fingerprint_of(ORDERS) == "f7f572c6e5446440"


def test_an_old_fingerprint_is_accepted_if_the_file_is_the_same_and_is_renewed() -> None:
    migration = old_migration()
    ledger = FakeLedger()
    headers = LoadHeaders(ledger)
    for settings in migration.collections:
        headers.write(new_header(settings.name, old_fingerprint_of(settings) or ""))
    assert list(changed_mappings(migration, ledger)) == []
    renew_fingerprints(migration, ledger)
    for settings in migration.collections:
        header = headers.read(settings.name)
        assert header is not None
        assert header.mapping.startswith(FORMAT)
        assert fits(header.mapping, settings)
    assert list(changed_mappings(migration, ledger)) == []


def test_an_old_fingerprint_of_another_mapping_is_refused_and_kept() -> None:
    migration = old_migration()
    ledger = FakeLedger()
    users = migration.collections[0]
    old = old_fingerprint_of(replace(users, unmapped="drop")) or ""
    LoadHeaders(ledger).write(new_header(users.name, old))
    renew_fingerprints(migration, ledger)
    assert [one.where for one in changed_mappings(migration, ledger)] == [f"collections.{users.name}"]


def test_a_renewal_that_meets_another_writer_leaves_the_header_to_it() -> None:
    migration = old_migration()
    users = migration.collections[0]

    class Busy(FakeLedger):
        met = False

        def write(
            self, section: str, key: str, body: Mapping[str, Any], *, expect: Record | None, **more: Any
        ) -> Record:
            if expect is not None and not self.met:
                self.met = True
                super().write(section, key, {**expect.body, "run": "another"}, expect=expect)
            return super().write(section, key, body, expect=expect, **more)

    ledger = Busy()
    LoadHeaders(ledger).write(new_header(users.name, old_fingerprint_of(users) or ""))
    renew_fingerprints(migration, ledger)
    header = LoadHeaders(ledger).read(users.name)
    assert header is not None
    assert (header.run, header.mapping) == ("another", old_fingerprint_of(users))
