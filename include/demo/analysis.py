"""The demo's first phase: the DAG `analyze` on the shop, and why the shop's own file differs from the proposed one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from docferry.core.analyze.differences import FileDifference, differences

DOCUMENTS = 2_000
"""Read of each collection: enough to propose keys and indexes for the shop in seconds."""
UNEXPLAINED = "no reason is written for this"
WHY: Mapping[tuple[str, str], str] = {
    (
        "",
        "tables",
    ): "the shop is the playbook's example, whose table is called Shop; the proposal is called like the database",
    ("", "unique indexes that are waived"): (
        "the proposal waives only what no guard can keep; the shop's file waives nothing"
    ),
    ("", "unique indexes that are kept by guards"): (
        "the proposal keeps each unique index that its key, which is _id, does not; the shop's keys keep some themselves"
    ),
    (
        "",
        "access patterns",
    ): "the application asks for them by the playbook's names; the proposal names them by their fields",
    ("users", "key"): (
        "some users of the shop have no username, on purpose, so that you see a dead letter: the playbook takes the username all "
        "the same. The proposal takes no key that is missing in its sample, and none that no call was seen to ask for"
    ),
    ("users", "index on username"): "the table's own key leads by it, and needs no index",
    (
        "users",
        "index on _id",
    ): "the shop asks for users by username and e-mail, never by _id; no process asks while the analysis looks",
    ("users", "index on profile.location.city"): (
        "the shop asks for a city's active users, latest login first: a sparse index holds only those. No call was seen that "
        "asks by status, and lastLoginAt is no date in one document: the proposal sorts by nothing whose type is mixed"
    ),
    ("users", "children in addresses"): (
        "the shop changes one address at a time; the proposal keeps what is null in some users inside the item"
    ),
    ("orders", "index on status"): "orders of one status are paged through by _id; no call was seen that sorts them",
    ("orders", "children in items"): "the playbook numbers them; so does the proposal, by another name",
    ("products", "index on categoryId"): "a category's products are listed by name; no call was seen that sorts them",
    ("categories", "index on parentId"): "subcategories are listed by name; no call was seen that sorts them",
    ("*", "attributes"): "the playbook calls some attributes otherwise than MongoDB does; the proposal renames nothing",
    ("*", "types"): (
        "the types that the application gives to attributes, under their new names. The proposal takes every field that has one "
        "type in its sample, and for money as many digits as there are instead of two"
    ),
    (
        "*",
        "names",
    ): "the playbook's prefixes and entity names; the proposal's name the collection and the field. Both work",
}
"""(collection, or * for any; topic of `differences`) -> why include/migrations/shop.yaml differs there from the proposed file."""


def told(proposal: str, shipped: Path) -> Iterator[str]:
    """A line for each reason for which the shipped file differs from the proposed one, with the choices that it stands for."""
    by_reason: dict[str, list[FileDifference]] = {}
    for one in differences(yaml.safe_load(proposal), yaml.safe_load(shipped.read_text())):
        by_reason.setdefault(why(one), []).append(one)
    for reason, found in by_reason.items():
        where = ", ".join(one.collection for one in found if one.collection) or "the file"
        [topic, *more] = [one.topic for one in found]
        choice = "" if more else f" (proposed: {_short(found[0].proposed)}; shipped: {_short(found[0].written)})"
        yield f"  {where}: {topic}{choice}: {reason}"


def why(one: FileDifference) -> str:
    """The reason for a difference; `UNEXPLAINED` if none is written here."""
    return WHY.get((one.collection, one.topic)) or WHY.get(("*", one.topic)) or UNEXPLAINED


def summary(found: Mapping[str, Any]) -> str:
    """What the task `read_mongodb` returned, in words."""
    return (
        f"{found['documents_read']:,} documents of {found['collections']} collections read; {found['blocks']} findings do not "
        f"fit, {found['decide']} are to decide; about {found['usd_a_month']:,.2f} USD a month on demand"
    )


def _short(text: str) -> str:
    return (text if len(text) <= 60 else f"{text[:57]}...") or "none"
