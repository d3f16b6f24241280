"""By which mapping a collection was loaded. Whatever writes its items later, or judges them, must have the same: with another one
an item of the old key would stay, beside the new one, and nothing would find it.

A fingerprint is a hash of what decides about items, as canonical JSON, and of nothing else. What has its first value (`FIRST`)
is left out: so a field that comes later changes no fingerprint of a file that does not use it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from docferry.config import Migration
from docferry.core.bson_codec.hints import NATURAL
from docferry.core.settings import (
    PLAIN_KEY,
    CollectionSettings,
    ItemSettings,
    KeyAttribute,
    KeyDesign,
    TransformSettings,
    UniqueSettings,
)
from docferry.errors import ConditionFailed, PreflightFailed, Problem, TableMissing
from docferry.flows.ledger.load_headers import LoadHeaders
from docferry.ports.flows import Ledger

FORMAT = "f1-"
"""How a fingerprint begins: the version of the format, which is that of `FIRST` and of the JSON."""

FIRST: Mapping[type, Mapping[str, Any]] = {
    ItemSettings: {"entity": None, "key": None, "index": {}, "when": {}, "attributes": {}, "types": {}},
    CollectionSettings: {
        "name": None,
        "database": "",
        "collection": "",
        "table": None,
        "item": None,
        "children": {},
        "unmapped": "keep",
        "order": "ignore",
        "index_names": (),
        "ttl_attribute": "_ttl",
        "key": PLAIN_KEY,
        "index_keys": {},
        "transform": None,
        "unique": (),
        "overflow": None,
        "filter": {},
    },
    TransformSettings: {"use": None, "version": 1},
    KeyDesign: {"PK": None, "SK": None},
    KeyAttribute: {"name": None, "type": "S"},
    UniqueSettings: {"name": None, "key": None, "sparse": False, "partial": None},
}
"""The fields that decide about items, with the value by which items are as they were before the field was there (None: the field
always was, and counts always). Not the default of the settings class: that may change, and the items with it."""


def fingerprint_of(settings: CollectionSettings) -> str:
    """Of how a collection is mapped: what is loaded must fit what follows."""
    text = json.dumps(_deciding(settings), sort_keys=True, separators=(",", ":"))
    return FORMAT + hashlib.sha256(text.encode()).hexdigest()[:32]


_Settings = CollectionSettings | ItemSettings | KeyDesign | KeyAttribute | TransformSettings | UniqueSettings


def indexes_digest(collections: Sequence[CollectionSettings]) -> str:
    """Of the unique indexes and the filters that a file names; "" if it names none."""
    named = {one.name: _plain(one.unique) for one in collections if one.unique}
    named |= {f"{one.name} filter": _plain(one.filter) for one in collections if one.filter}
    return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()[:16] if named else ""


def _deciding(settings: _Settings) -> dict[str, Any]:
    """What decides, without what has its first value. The order of names in the file decides nothing, but for an index's fields:
    a guard's key has them in that order."""
    found = {name: getattr(settings, name) for name in FIRST[type(settings)]}
    if "types" in found:  # what a natural type says is for parameters, and decides nothing
        found["types"] = {name: text for name, text in found["types"].items() if text not in NATURAL}
    if isinstance(settings, UniqueSettings):
        found["key"] = list(settings.fields)
    return {name: _plain(value) for name, value in found.items() if value != FIRST[type(settings)][name]}


def _plain(value: Any) -> Any:
    if isinstance(value, _Settings):
        return _deciding(value)
    if isinstance(value, tuple) and any(isinstance(one, UniqueSettings) for one in value):
        return sorted(map(_deciding, value), key=lambda one: str(one["name"]))
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    return sorted(value) if isinstance(value, tuple) else value


# --- ledgers of earlier versions -------------------------------------------------------------------------------------

_OLD_COLLECTION = ("name", "table", "item", "children", "unmapped", "generic", "index_names", "ttl_attribute")
_OLD_ITEM = ("entity", "key", "index", "when", "attributes", "types")


def old_fingerprint_of(settings: CollectionSettings) -> str | None:
    """By the rule up to 0.9: a hash of `repr()` of the settings as they were then. Frozen, and never to change.

    None if the file uses what there was not then: no old ledger can be of such a mapping.
    """
    if not (_is_old(settings) and _is_old(settings.item) and all(map(_is_old, settings.children.values()))):
        return None
    values = {
        **{name: repr(getattr(settings, name)) for name in _OLD_COLLECTION},
        "item": _old_item(settings.item),
        "children": "{" + ", ".join(f"{name!r}: {_old_item(one)}" for name, one in settings.children.items()) + "}",
    }
    text = f"CollectionSettings({', '.join(f'{name}={values[name]}' for name in _OLD_COLLECTION)})"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _old_item(item: ItemSettings) -> str:
    return f"ItemSettings({', '.join(f'{name}={getattr(item, name)!r}' for name in _OLD_ITEM)})"


def _is_old(settings: CollectionSettings | ItemSettings) -> bool:
    return set(_deciding(settings)) <= {*_OLD_COLLECTION, *_OLD_ITEM}


# --- the ledger ------------------------------------------------------------------------------------------------------


def fits(recorded: str, settings: CollectionSettings) -> bool:
    """Whether a collection was loaded by this mapping, by the rule by which its fingerprint was made."""
    made = fingerprint_of(settings) if recorded.startswith(FORMAT) else old_fingerprint_of(settings)
    return recorded == made


def changed_mappings(migration: Migration, ledger: Ledger, only: Sequence[str] = ()) -> Iterator[Problem]:
    """The collections (all, or `only` these) that were loaded by another mapping than the file has now."""
    for settings in migration.collections:
        header = LoadHeaders(ledger).read(settings.name) if not only or settings.name in only else None
        if header is not None and not fits(header.mapping, settings):
            yield mapping_changed(settings.name)


def changed_since(migration: Migration, ledger: Ledger, only: Sequence[str] = ()) -> list[str]:
    """The same in words, for a command that only looks; empty where no ledger has been provisioned yet."""
    try:
        return list(map(str, changed_mappings(migration, ledger, only)))
    except TableMissing:
        return []


def renew_fingerprints(migration: Migration, ledger: Ledger) -> None:
    """Write those of an old rule by the rule of now, where they fit. A process that changes a header meanwhile does it itself."""
    headers = LoadHeaders(ledger)
    for settings in migration.collections:
        header = headers.read(settings.name)
        if header is not None and not header.mapping.startswith(FORMAT) and fits(header.mapping, settings):
            try:
                headers.write(replace(header, mapping=fingerprint_of(settings)))
            except ConditionFailed:
                continue


def mapping_changed(collection: str) -> Problem:
    return Problem(
        where=f"collections.{collection}",
        what="its mapping has changed since it was loaded; what is loaded would not fit what follows",
        suggestion="put the mapping back; or load it again (backfill --again), then validate and repair, which bury what "
        "is under its former keys; or start over with new tables and a new migration name",
    )


def require_mapping(migration: Migration, ledger: Ledger, only: Sequence[str] = ()) -> None:
    """Raises PreflightFailed with all of them."""
    if problems := list(changed_mappings(migration, ledger, only)):
        raise PreflightFailed(migration.name, problems)
