"""One mistake is one problem, in words that say what to do: names that YAML reads as something else, templates without quotes,
names, tags and schedules that MongoDB, AWS and cron do not take."""

# ruff: noqa: E501 - one case a line

from __future__ import annotations

import time

import pytest
from docferry.config import parse_migration
from docferry.config.names import bad_schedule
from support.config import problems_of

SMALL = """\
migration: small
source: {database: d}
tables:
  Tab: {indexes: [GSI1]}
collections:
  logs: {}
"""
ITEM = "  logs: {{item: {{entity: L, key: {{PK: {pk}, SK: {sk}}}{more}}}}}"


def item(pk: str = "'L#{_id}'", sk: str = "D", more: str = "") -> str:
    return ITEM.format(pk=pk, sk=sk, more=more)


ONE: dict[str, tuple[str, str, str, str]] = {
    "a list of databases": ("{database: d}", "{database: [a, b]}", "source.database", "one text"),
    "a section misspelt": ("collections:", "colections:", "colections", "did you mean collections?"),
    "another section misspelt": ("tables:", "tabels:", "tabels", "did you mean tables?"),
    "a section that is a text": ("{database: d}", "d", "source", "mapping"),
    "collections as a list": ("  logs: {}", "  - logs", "collections", "mapping"),
    "an order that there is not": ("  logs: {}", "  logs: {order: kept}", "collections.logs.order", "keep"),
    "an order of dropped fields": ("  logs: {}", "  logs: {order: keep, unmapped: drop}", "collections.logs.order", "leave order out"),
    "a name that is true": ("  logs: {}", "  on: {}", "collections.on", "quotes: 'on'"),
    "a name that is a number": ("  logs: {}", "  2024: {}", "collections.2024", "quotes: '2024'"),
    "a name that is a date": ("  logs: {}", "  2024-01-01: {}", "collections.2024-01-01", "quotes: '2024-01-01'"),
    "a name that is nothing": ("  logs: {}", "  null: {}", "collections.null", "quotes: 'null'"),
    "a migration that is false": ("migration: small", "migration: no", "migration", "quotes: 'no'"),
    "a database that is a number": ("{database: d}", "{database: 2024}", "source.database", "quotes: '2024'"),
    "a database that is nothing": ("{database: d}", "{database: }", "source.database", "has no value"),
    "an entity that is false": ("  logs: {}", item(more="").replace("entity: L", "entity: no"), "collections.logs.item.entity", "quotes: 'no'"),
    "a key that is a number": ("  logs: {}", item(sk="1"), "collections.logs.item.key.SK", "quotes: '1'"),
    "a field that is true": ("  logs: {}", item(more=", attributes: {x: on}"), "collections.logs.item.attributes.x", "quotes: 'on'"),
    "a condition that is a list of lists": ("  logs: {}", item(more=", index: {GSI1: {PK: a, SK: b, when: {x: [[1]]}}}"),
        "collections.logs.item.index.GSI1.when.x.0", "one text"),
    "a brace without quotes": ("  logs: {}", item(pk="{_id}"), "collections.logs.item.key.PK", "quotes"),
    "a brace within a text without quotes": ("  logs: {}", item(pk="L#{_id}"), "YAML", "quotes"),
    "a template that is a comment": ("  logs: {}", "  logs:\n    item:\n      entity: L\n      key:\n        PK: 'L#{_id}'\n        SK: D #{x}",
        "YAML", "quotes"),
    "indexes as a text": ("[GSI1]}", "GSI1}", "tables.Tab.indexes", "list"),
    "a collection without a name": ("  logs: {}", "  '': {}", "collections.", "has a name"),
    "a dollar": ("  logs: {}", "  a$b: {}", "collections.a$b", "no $"),
    "MongoDB's own": ("  logs: {}", "  system.views: {}", "collections.system.views", "MongoDB's own"),
    "docferry's own": ("  logs: {}", "  docferry.leader: {}", "collections.docferry.leader", "docferry's own"),
    "a dot in front": ("  logs: {}", "  .a: {}", "collections..a", "no . at an end"),
    "two dots": ("  logs: {}", "  a..b: {}", "collections.a..b", "two in a row"),
    "a zero byte": ("  logs: {}", '  "a\\0b": {}', "collections.a\0b", "zero byte"),
    "a name that is too long": ("  logs: {}", f"  {'x' * 254}: {{}}", "collections." + "x" * 254, "more than the 254 bytes"),
    "a tag of AWS": ("[GSI1]}", "[GSI1], tags: {'aws:x': y}}", "tables.Tab.tags.aws:x", "AWS's own"),
    "a tag with odd characters": ("[GSI1]}", "[GSI1], tags: {a: 'x<y>'}}", "tables.Tab.tags.a", "character"),
    "a tag without a name": ("[GSI1]}", "[GSI1], tags: {'': y}}", "tables.Tab.tags.", "1 to 128"),
    "a tag that is too long": ("[GSI1]}", f"[GSI1], tags: {{a: {'y' * 257}}}}}", "tables.Tab.tags.a", "256"),
    "too many tags": ("[GSI1]}", "[GSI1], tags: {" + ", ".join(f"t{n}: x" for n in range(51)) + "}}", "tables.Tab.tags", "AWS allows 50"),
    "a schedule in words": ("{database: d}", "{database: d}\nvalidate: {schedule: every day}", "validate.schedule", "cron has 5"),
    "an hour that is none": ("{database: d}", "{database: d}\nvalidate: {schedule: 0 25 * * *}", "validate.schedule", "'25' is no hour"),
}  # fmt: skip


@pytest.mark.parametrize("case", ONE)
def test_one_mistake_is_one_problem_that_says_what_to_do(case: str) -> None:
    old, new, where, words = ONE[case]
    assert SMALL.count(old) == 1
    (problem,) = problems_of(SMALL.replace(old, new))
    assert problem.where == where
    assert words in f"{problem.what} {problem.suggestion}"
    assert problem.line


def test_misspelt_section_does_not_hide_what_is_wrong_in_it() -> None:
    text = SMALL.replace("collections:", "colections:").replace("logs: {}", "logs: {tabel: Tab}")
    assert [one.where for one in problems_of(text)] == ["colections", "collections.logs.tabel"]


def test_text_that_yaml_reads_as_a_number_does_not_hide_what_else_is_wrong() -> None:
    text = SMALL.replace("{database: d}", "{database: 2024}").replace("logs: {}", "logs: {table: Tob}")
    assert [one.where for one in problems_of(text)] == ["source.database", "collections.logs.table"]


@pytest.mark.parametrize(
    "schedule",
    [
        "0 2 * * *",
        "*/5 0-6,22 1 jan-MAR mon-fri",
        "30 1 L * 5#3",
        "0 0 ? * 7",
        "5 4 * * 5L",
        "@daily",
        "0 1-23/2 * * 0",
    ],
)
def test_schedule_of_cron_is_taken(schedule: str) -> None:
    assert bad_schedule(schedule) == ""


@pytest.mark.parametrize("schedule", ["", "* * * *", "60 * * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "*/0 * * * *", "a * * * *",
    "1-2-3 * * * *", "@reboot", "0 2 * * * 2026", "-1 * * * *"])  # fmt: skip
def test_schedule_that_could_never_be_is_not(schedule: str) -> None:
    assert bad_schedule(schedule)


def test_names_that_are_unusual_are_taken() -> None:
    names = ["a.b", "fs.chunks", "größe", "with space", "x" * 253, "-", "a:b", "systemd"]
    text = SMALL.replace("  logs: {}", "\n".join(f"  '{name}': {{}}" for name in names))
    assert set(parse_migration(text.encode()).mappings) == set(names)


def test_thousands_of_collections_are_read_in_seconds() -> None:
    text = SMALL.replace("  logs: {}", "\n".join(f"  c{number}: {{}}" for number in range(5_000)))
    began = time.thread_time()
    assert len(parse_migration(text.encode()).mappings) == 5_000
    assert time.thread_time() - began < 15


def test_keys_that_may_be_shared_are_found_among_others() -> None:
    """Also where a partition key has no word of its own to begin with."""
    text = SMALL.replace("  logs: {}", "\n".join([
        "  a: {item: {entity: A, key: {PK: 'A#{_id}', SK: D}}}",
        "  b: {item: {entity: B, key: {PK: '{x}#{_id}', SK: D}}}",
        "  c: {item: {entity: C, key: {PK: 'C#{_id}', SK: E}}}",
        "  d: {item: {entity: D, key: {PK: 'C#{_id}', SK: 'E'}}}",
    ]))  # fmt: skip
    assert [one.where for one in problems_of(text)] == ["collections.b.item.key", "collections.d.item.key"]
