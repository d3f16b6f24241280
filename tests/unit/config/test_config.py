"""The migration file: every problem at once, each with its line, its place and a suggestion; nothing is evaluated."""

# ruff: noqa: E501 - one case a line

from __future__ import annotations

import copy
import time
import traceback
from pathlib import Path
from typing import Any

import pytest
import yaml
from docferry.config import Migration, load_migration, migration_files, parse_migration
from docferry.config.yaml_lines import MAX_FILE_BYTES
from docferry.core.settings import CutoverSettings, ExternalFence, RollbackPointSettings
from docferry.errors import ConfigError
from hypothesis import given
from hypothesis import strategies as st
from support.config import problems_of
from support.examples import examples
from support.place import ROOT

MIGRATIONS = ROOT / "include" / "migrations"
SHOP = (MIGRATIONS / "shop.yaml").read_text()

SMALL = """\
migration: small
source: {database: d}
tables:
  Tab: {indexes: [GSI1]}
collections:
  users:
    item:
      entity: USER
      key: {PK: "USER#{username}", SK: PROFILE}
      index:
        GSI1: {PK: "EMAIL#{email}", SK: USER}
      attributes: {userId: _id, first: profile.first}
      types: {userId: oid}
    children:
      addresses: {entity: ADDRESS, key: {SK: "ADDRESS#{index:03d}"}}
  logs: {}
"""


def small(old: str, new: str) -> str:
    assert SMALL.count(old) == 1
    return SMALL.replace(old, new)


# --- files that load -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(MIGRATIONS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_example_loads(path: Path) -> None:
    migration = load_migration(path)
    assert migration.name == path.stem
    assert set(migration.mappings) == {settings.name for settings in migration.collections}


def test_shop_maps_all_four_collections_of_the_playbook() -> None:
    shop = load_migration(MIGRATIONS / "shop.yaml")
    assert set(shop.mappings) == {"users", "orders", "products", "categories"}
    assert set(shop.entities("Shop")) == {
        "USER_PROFILE", "USER_ADDRESS", "ORDER", "ORDER_ITEM", "PRODUCT", "CATEGORY",
    }  # fmt: skip
    assert not any(settings.generic for settings in shop.collections)


def test_sample_of_the_design_loads() -> None:
    migration = parse_migration(b"""
migration: shop
source: {connection: mongo_default, database: myapp}
target: {connection: aws_default, region: us-east-1, replicas: [eu-west-1]}
tables:
  Shop: {indexes: [GSI1, GSI2], billing: on_demand, pitr: true, encryption: KMS, stream: true, deletion_protection: true,
    tags: {Project: MongoDB-Migration}}
collections:
  users:
    table: Shop
    item:   {entity: USER_PROFILE, key: {PK: "USER#{username}", SK: PROFILE},
             index: {GSI1: {PK: "EMAIL#{email}", SK: USER}, GSI2: {PK: "CITY#{profile.location.city}",
               SK: "ACTIVE#{lastLoginAt}", when: {status: active}}},
             attributes: {userId: _id, firstName: profile.firstName, emailNotifications: preferences.notifications.email}}
    children:
      addresses: {entity: USER_ADDRESS, key: {SK: "ADDRESS#{type}#{index:03d}"}, attributes: {addressType: type}}
  events: {}
access_patterns:
  user_by_email: {collection: users, index: GSI1, PK: "EMAIL#{email}"}
""")
    assert migration.table("Shop").indexes == ("GSI1", "GSI2")
    (event,) = migration.mapping("events").to_items({"_id": "e1", "n": 1}, version=7)
    assert (event["PK"], event["SK"]) == ("EVENTS#e1", "DATA")


def test_same_bytes_have_the_same_digest_and_others_another() -> None:
    assert parse_migration(SMALL.encode()).digest == parse_migration(SMALL.encode()).digest
    assert parse_migration(SMALL.encode()).digest != parse_migration(SMALL.encode() + b"\n").digest


def test_unknown_collection_is_answered_with_those_there_are() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_migration(SMALL.encode()).mapping("user")
    assert "users" in caught.value.problems[0].what


def test_merge_keys_and_anchors_are_allowed() -> None:
    text = SMALL + "  more: &more\n    unmapped: drop\n  others:\n    <<: *more\n"
    assert parse_migration(text.encode()).mapping("others").settings.unmapped == "drop"


def test_migration_files_are_found_by_name_and_others_left_alone(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", "notes.txt"):
        (tmp_path / name).write_text("")
    assert [path.name for path in migration_files([tmp_path, tmp_path])] == ["a.yml", "b.yaml"]


# --- one problem of each kind ----------------------------------------------------------------------------------------

# (what is changed, to what, where the problem is, its line, words of the suggestion)
WRONG: dict[str, tuple[str, str, str, int, str]] = {
    "unknown key at the top": ("migration: small", "migration: small\nsauce: {}", "sauce", 2, "source"),
    "unknown key of a section": ("{database: d}", "{database: d, conection: c}", "source.conection", 2, "connection"),
    "unknown key of a table": ("indexes: [GSI1]", "indexes: [GSI1], biling: on_demand", "tables.Tab.biling", 4, "billing"),
    "unknown key of an item": ("entity: USER\n", "entity: USER\n      kee: {}\n", "collections.users.item.kee", 9, "key"),
    "missing key": ("source: {database: d}", "source: {}", "source.database", 2, "add it"),
    "name of the migration": ("migration: small", "migration: 'a b'", "migration", 1, "allowed"),
    "region": ("{database: d}", "{database: d}\ntarget: {region: mars}", "target.region", 3, "eu-west-1"),
    "own region as replica": ("{database: d}", "{database: d}\ntarget: {replicas: [us-east-1]}", "target.replicas", 3, "leave"),
    "account": ("{database: d}", "{database: d}\ntarget: {account: '12345'}", "target.account", 3, "twelve digits"),
    "replica twice": ("{database: d}", "{database: d}\ntarget: {replicas: [eu-west-1, eu-west-1]}", "target.replicas", 3, ""),
    "provisioned without capacity": ("[GSI1]}", "[GSI1], billing: provisioned}", "tables.Tab", 4, "capacity"),
    "capacity on demand": ("[GSI1]}", "[GSI1], capacity: {read_units: 1, write_units: 1}}", "tables.Tab.capacity", 4, "remove"),
    "capacity of nothing": ("[GSI1]}", "[GSI1], billing: provisioned, capacity: {read_units: 0, write_units: 1}}",
        "tables.Tab.capacity.read_units", 4, "from 1"),
    "less at most than at least": ("[GSI1]}", "[GSI1], billing: provisioned, capacity: {read_units: 5, write_units: 1, "
        "max_read_units: 4}}", "tables.Tab.capacity.max_read_units", 4, ""),
    "index twice": ("[GSI1]}", "[GSI1, GSI1]}", "tables.Tab.indexes", 4, ""),
    "TTL attribute that is a key": ("[GSI1]}", "[GSI1], ttl_attribute: GSI1SK}", "tables.Tab.ttl_attribute", 4, "_ttl"),
    "field as TTL attribute": ("first: profile.first", "_ttl: until", "collections.users.item.attributes._ttl", 12, "another"),
    "ledger in a table of documents": ("{database: d}", "{database: d}\nledger: {table: Tab}", "ledger.table", 3, "its own"),
    "nothing in flight": ("{database: d}", "{database: d}\nbackfill: {concurrency: 0}", "backfill.concurrency", 3, "from 1"),
    "lease without end": ("{database: d}", "{database: d}\nbackfill: {lease_s: .nan}", "backfill.lease_s", 3, "from 1"),
    "share over one": ("{database: d}", "{database: d}\nbackfill: {dead_letter_share: 50}", "backfill.dead_letter_share", 3, "to 1"),
    "table that is not there": ("users:\n", "users:\n    table: Tib\n", "collections.users.table", 7, "Tab"),
    "table not said": ("  Tab: {indexes: [GSI1]}", "  Tab: {indexes: [GSI1]}\n  Tob: {}", "collections.users", 7, "Tab, Tob"),
    "index that the table has not": ("        GSI1: {PK", "        GSI7: {PK", "collections.users.item.index.GSI7", 11, "GSI1"),
    "key without SK": (", SK: PROFILE}", "}", "collections.users.item.key", 9, "template"),
    "key of another name": ("SK: PROFILE}", "SK: PROFILE, HK: x}", "collections.users.item.key.HK", 9, "PK and SK"),
    "child with a partition of its own": ('key: {SK: "ADDR', 'key: {PK: A, SK: "ADDR', "collections.users.children.addresses.key.PK",
        15, "parent"),
    "template with an open brace": ('"USER#{username}"', '"USER#{username"', "collections.users.item.key.PK", 9, ""),
    "template of touching values": ('"USER#{username}"', '"{a}{b}"', "collections.users.item.key.PK", 9, ""),
    "template without a separator": ('"EMAIL#{email}"', '"{a}-{b}"', "collections.users.item.index.GSI1.PK", 11, ""),
    "template with a tilde": ('"USER#{username}"', '"~{username}"', "collections.users.item.key.PK", 9, ""),
    "template padded with spaces": ("{index:03d}", "{index:3d}", "collections.users.children.addresses.key.SK", 15, ""),
    "template padded to an ObjectId's length": ("{index:03d}", "{index:024d}", "collections.users.children.addresses.key.SK", 15, ""),
    "attribute with a name of ours": ("first: profile.first", "_v: profile.first", "collections.users.item.attributes._v", 12, "another"),
    "attribute with an index key's name": ("first: profile.first", "GSI1PK: x", "collections.users.item.attributes.GSI1PK", 12, ""),
    "attribute of a broken path": ("first: profile.first", "first: profile..x", "collections.users.item.attributes.first", 12, ""),
    "field that goes to two attributes": ("first: profile.first", "a: x, b: x", "collections.users.item.attributes.b", 12, "remove"),
    "field inside a mapped one": ("first: profile.first", "a: x, b: x.y", "collections.users.item.attributes.b", 12, "keep one"),
    "children that are an attribute": ("first: profile.first", "first: addresses", "collections.users.children.addresses", 15, "keep one"),
    "children with an attribute inside": ("first: profile.first", "first: addresses.x", "collections.users.children.addresses", 15, ""),
    "children inside children": ("\n  logs", '\n      addresses.x: {entity: X, key: {SK: "X#{index:d}"}}\n  logs',
        "collections.users.children.addresses.x", 16, "keep one"),
    "children in the _id": ("      addresses: {", "      _id.x: {", "collections.users.children._id.x", 15, "remove"),
    "type that is none": ("userId: oid", "userId: uuid", "collections.users.item.types.userId", 13, ""),
    "children without an item": ("  logs: {}", "  logs: {children: {a: {entity: A, key: {SK: A}}}}", "collections.logs.children", 16, "item"),
    "generic name that no key can hold": ("  logs: {}", "  'a#b': {}", "collections.a#b", 16, "item"),
    "entity twice": ("entity: ADDRESS", "entity: USER", "collections.users.children.addresses.entity", 15, "another"),
    "keys that could be shared": ('SK: "ADDRESS#{index:03d}"', 'SK: "{type}"', "collections.users.children.addresses.key", 15, "word"),
    "key of another collection": ("  logs: {}", '  logs: {item: {entity: L, key: {PK: "{x}#{y}", SK: PROFILE}}}',
        "collections.logs.item.key", 16, "word"),
    "pattern of an unknown collection": ("  logs: {}", "  logs: {}\naccess_patterns:\n  p: {collection: user, PK: x}",
        "access_patterns.p.collection", 18, "users"),
    "pattern on an index that is not there": ("  logs: {}", "  logs: {}\naccess_patterns:\n  p: {collection: users, index: G, PK: x}",
        "access_patterns.p.index", 18, ""),
    "pattern with a broken template": ("  logs: {}", "  logs: {}\naccess_patterns:\n  p: {collection: users, PK: '{'}",
        "access_patterns.p.PK", 18, ""),
    "pattern that finds nothing": ("  logs: {}", "  logs: {}\naccess_patterns:\n  p: {collection: users, PK: 'USR#{u}'}",
        "access_patterns.p.PK", 18, "templates"),
    "pattern on an index without the collection": ("  logs: {}",
        "  logs: {}\naccess_patterns:\n  p: {collection: logs, index: GSI1, PK: 'LOGS#{u}'}", "access_patterns.p.PK", 18, ""),
    "key twice": ("  logs: {}", "  logs: {}\n  logs: {}", "collections.logs", 17, ""),
    "address as a connection": ("{database: d}", "{database: d, connection: 'mongodb://u:hunter2@h'}", "source.connection", 2, "Airflow"),
    "address as a database": ("{database: d}", "{database: 'mongodb://u:hunter2@h/x'}", "source.database", 2, ""),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_problem_is_reported_with_line_place_and_suggestion(case: str) -> None:
    old, new, where, line, suggestion = WRONG[case]
    problems = problems_of(small(old, new))
    at_place = [problem for problem in problems if problem.where == where]
    assert at_place, problems
    assert at_place[0].line == line
    assert suggestion in at_place[0].suggestion
    assert "hunter2" not in str(problems)


def test_problems_of_form_and_of_meaning_are_reported_at_once_in_the_order_of_the_file() -> None:
    text = small("{database: d}", "{database: d, pasword: x}\ntarget: {region: mars}")
    text = (
        text.replace("[GSI1]", "[GSI1, GSI1]")
        .replace("userId: oid", "userId: uuid")
        .replace("logs: {}", "logs: {unmaped: drop}")
    )
    problems = problems_of(text)
    assert [problem.where for problem in problems] == [
        "source.pasword", "target.region", "tables.Tab.indexes", "collections.users.item.types.userId", "collections.logs.unmaped",
    ]  # fmt: skip
    lines = [problem.line or 0 for problem in problems]
    assert lines == sorted(lines)
    assert 0 not in lines


def test_cutover_is_read_and_has_defaults() -> None:
    assert parse_migration(SMALL.encode()).cutover == CutoverSettings()
    text = (
        SMALL
        + "cutover: {app_users: [app, myapp.batch], kill_transactions: true, hold_s: 20, fence: revoke, waived_readers: [web]}"
    )
    cutover = parse_migration(text.encode()).cutover
    assert cutover == CutoverSettings(
        app_users=("app", "myapp.batch"), kill_transactions=True, hold_s=20.0, fence="revoke", waived_readers=("web",)
    )


def test_a_fence_may_be_a_command() -> None:
    text = SMALL + "cutover: {hold_s: 90, fence: {external: [close-it, --verbose], quiet_s: 5}}"
    wanted = ExternalFence(external=("close-it", "--verbose"), quiet_s=5.0)
    assert parse_migration(text.encode()).cutover.fence == wanted


@pytest.mark.parametrize(
    ("cutover", "where", "word"),
    [
        ("{holds: 3}", "cutover.holds", "did you mean hold_s?"),
        ("{hold_s: 0}", "cutover.hold_s", "out of range"),
        ("{hold_s: .nan}", "cutover.hold_s", "out of range"),
        ("{hold_s: 5, drain_s: 5}", "cutover.drain_s", "leaves nothing of hold_s"),
        ("{drain_s: -1}", "cutover.drain_s", "out of range"),
        ("{fence: perhaps}", "cutover.fence", "'write_block'"),
        ("{app_users: app}", "cutover.app_users", "list"),
        ("{app_users: ['']}", "cutover.app_users", "empty"),
        ("{fence: revoke}", "cutover.app_users", "names no user"),
        ("{kill_transactions: perhaps}", "cutover.kill_transactions", "boolean"),
        ("{watch_s: -1}", "cutover.watch_s", "out of range"),
        ("{hold_s: 100, fence: {external: []}}", "cutover.fence.external", "names no command"),
        ("{hold_s: 100, fence: {external: ['  ']}}", "cutover.fence.external", "names no command"),
        ("{hold_s: 100, fence: {external: fence}}", "cutover.fence.external", "must be a list"),
        ("{hold_s: 100, fence: {externals: [fence]}}", "cutover.fence.externals", "not known here"),
        ("{hold_s: 100, fence: {external: [fence], quiet_s: 0}}", "cutover.fence.quiet_s", "out of range"),
        ("{hold_s: 300, fence: {external: [fence], within_s: 0.5}}", "cutover.fence.within_s", "out of range"),
        ("{hold_s: 60, fence: {external: [fence]}}", "cutover.hold_s", "take 74"),
        ("{hold_s: 100, fence: {external: [fence, 'https://me:secret@host']}}", "cutover.fence.external", "password"),
    ],
)
def test_cutover_that_cannot_be_is_refused(cutover: str, where: str, word: str) -> None:
    problems = problems_of(f"{SMALL}cutover: {cutover}")
    assert any(word in str(problem) and problem.where.startswith(where) and problem.line for problem in problems), (
        problems
    )


def test_rollback_points_are_none_unless_the_file_speaks_of_them() -> None:
    assert parse_migration(SMALL.encode()).rollback_points is None
    points = parse_migration((SMALL + "rollback_points: {to: 's3://backups/shop'}").encode()).rollback_points
    assert points == RollbackPointSettings(method="dump", to="s3://backups/shop")
    assert parse_migration((SMALL + "rollback_points: {method: snapshot}").encode()).rollback_points is not None


@pytest.mark.parametrize(
    ("points", "where", "word"),
    [
        ("{}", "rollback_points.to", "is missing"),
        ("{method: mongodump}", "rollback_points.to", "is missing"),
        ("{to: backups}", "rollback_points.to", "relative"),
        ("{to: 's3://'}", "rollback_points.to", "such as s3://"),
        ("{to: 's3://UPPER/x'}", "rollback_points.to", "such as s3://"),
        ("{to: 'https://u:hunter2@h/x'}", "rollback_points.to", "neither a path nor s3://"),
        ("{method: snapshot, to: /backups}", "rollback_points.to", "remove to"),
        ("{methud: dump, to: /backups}", "rollback_points.methud", "did you mean method?"),
        ("{method: copy, to: /backups}", "rollback_points.method", "'mongodump'"),
        ("{to: [a]}", "rollback_points.to", "is a list"),
    ],
)
def test_rollback_points_that_cannot_be_are_refused(points: str, where: str, word: str) -> None:
    problems = problems_of(f"{SMALL}rollback_points: {points}")
    assert any(word in str(problem) and problem.where == where and problem.line for problem in problems), problems
    assert "hunter2" not in str(problems)


def test_every_problem_is_in_the_message() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_migration(SMALL.replace("oid", "uuid").replace("[GSI1]", "[GSI1, GSI1]").encode(), "small.yaml")
    for problem in caught.value.problems:
        assert str(problem) in str(caught.value)
    assert "small.yaml" in str(caught.value)


# --- files that are no migration file --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"just text", b"a: [", b"\xff\xfe", b"a: b\n---\nc: d\n", b"\t", b"{" * 5_000, b"? [a]\n: b\n", b"migration: &a [*a]\n"],
    ids=["empty", "list", "text", "unclosed", "not utf-8", "two documents", "tab", "deep", "odd key", "cycle"],
)  # fmt: skip
def test_file_of_another_form_is_refused(text: bytes) -> None:
    assert problems_of(text)


def test_missing_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        load_migration(tmp_path / "nothing.yaml")


def test_file_that_is_too_large_is_not_parsed() -> None:
    started = time.monotonic()
    assert problems_of(SMALL.encode() + b"#" * MAX_FILE_BYTES)[0].where == "file"
    assert time.monotonic() - started < 1


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system [touch /]", "!!python/name:os.system", "!secret x"])
def test_tags_are_not_evaluated(tag: str) -> None:
    assert problems_of(small("database: d", f"database: {tag}"))[0].where == "YAML"


@pytest.mark.timeout(30)
@pytest.mark.parametrize("form", ["a{n}: &a{n} [{refs}]", "a{n}: &a{n} {{<<: [{refs}]}}"], ids=["lists", "merges"])
def test_aliases_that_multiply_are_refused_quickly_and_printed_quickly(form: str) -> None:
    lines = ["a0: &a0 {k: v}"]
    lines += [form.format(n=n, refs=", ".join([f"*a{n - 1}"] * 10)) for n in range(1, 12)]
    started = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        parse_migration((SMALL + "\n".join(lines)).encode())
    assert len("".join(traceback.format_exception(caught.value))) < 20_000
    assert time.monotonic() - started < 2


# --- whatever is in the file -----------------------------------------------------------------------------------------

_odd = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 99), st.floats(), st.text("ab{}#~:._0d", max_size=6), st.just([]), st.just({}),
    st.sampled_from(("_id", "_id.x", "PK", "_v", "users", "GSI1", "USER#{_id}", "{index:03d}", "decimal:2", "addresses", "drop",
        "refuse", ["GSI1", "GSI2"], {"a": "b"}, {"x": {"entity": "E", "key": {"SK": "S#{index:d}"}}})),
)  # fmt: skip


def _places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [place for step, value in inner for place in ((*path, step), *_places(value, (*path, step)))]


TREES = [yaml.safe_load(SHOP), yaml.safe_load(SMALL)]


@given(st.sampled_from(TREES), st.lists(st.tuples(st.integers(0, 999), _odd, st.booleans()), min_size=1, max_size=3))
@examples(2)
def test_any_file_loads_or_is_refused_and_what_loads_can_map_a_document(tree: Any, changes: list[Any]) -> None:
    changed = copy.deepcopy(tree)
    for number, value, rename in changes:
        places = _places(changed)
        if not places:
            break
        *path, last = places[number % len(places)]
        parent = changed
        for step in path:
            parent = parent[step]
        if rename and isinstance(parent, dict):
            parent[str(value)] = parent.pop(last)
        else:
            parent[last] = value
    try:
        migration: Migration = parse_migration(yaml.safe_dump(changed).encode())
    except ConfigError:
        return
    document = {
        "_id": {"x": 1},
        "username": "u",
        "email": "e",
        "profile": {"first": 1},
        "addresses": [{"type": "home"}],
    }
    for mapping in migration.mappings.values():
        fields = mapping.root.pk.fields | mapping.root.sk.fields
        if mapping.settings.unmapped != "refuse" and all(field in document for field in fields):
            mapping.encode(document, 1)


@pytest.mark.parametrize("value", ["2024-99-99", "!!int abc", "!!float abc", "!!bool abc", "1" * 5_000])
def test_value_that_its_type_cannot_have_is_told_with_its_line(value: str) -> None:
    (problem,) = problems_of(small("database: d", f"database: {value}"))
    assert problem.where == "YAML"
    assert problem.line
    assert "put it in quotes" in problem.what
