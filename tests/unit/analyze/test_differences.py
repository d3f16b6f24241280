"""Two migration files for one database, compared choice by choice."""

from __future__ import annotations

from typing import Any

from docferry.core.analyze.differences import differences


def file(**collection: Any) -> dict[str, Any]:
    item = {"entity": "USER", "key": {"PK": "USER#{name}", "SK": "PROFILE"}}
    return {"tables": {"T": {}}, "collections": {"users": {"item": item | collection.pop("item", {}), **collection}}}


def test_equal_files_do_not_differ() -> None:
    assert differences(file(), file()) == []


def test_each_choice_is_told_with_what_both_files_have() -> None:
    proposed = file(item={"index": {"GSI1": {"PK": "E#{email}", "SK": "USER"}}, "types": {"at": "date"}})
    written = file(
        item={
            "key": {"PK": "USER#{_id}", "SK": "PROFILE"},
            "index": {"GSI9": {"PK": "E#{email}", "SK": "USER#{at}", "when": {"status": "active"}}},
        },
        children={"addresses": {"key": {"SK": "A#{index}"}}},
    )
    found = {one.topic: (one.proposed, one.written) for one in differences(proposed, written)}
    assert found.pop("names")
    assert found == {
        "key": ("name", "_id"),
        "index on email": ("there", "there, sorted by at, where status is active"),
        "children in addresses": ("", "items of their own, A#{index}"),
        "types": ("at: date", ""),
    }


def test_an_index_is_the_same_by_its_fields_not_by_its_name() -> None:
    mine = file(item={"index": {"GSI1": {"PK": "E#{email}", "SK": "USER"}}})
    other = file(item={"index": {"GSI2": {"PK": "E#{email}", "SK": "USER"}}})
    assert differences(mine, other) == []


def test_a_collection_that_only_one_file_has_is_one_difference() -> None:
    more = file()
    more["collections"]["orders"] = {}
    assert [(one.collection, one.proposed, one.written) for one in differences(file(), more)] == [
        ("orders", "", "migrated")
    ]
