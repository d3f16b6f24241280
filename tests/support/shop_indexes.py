"""The unique indexes of the shop, which its migration file names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from docferry.config import Migration, parse_migration
from docferry.rehearsal.shop import INDEXES
from pymongo import IndexModel

from support.place import SHOP_FILE

UNIQUE: Mapping[str, list[IndexModel]] = {
    name: [model for model in models if model.document.get("unique")] for name, models in INDEXES.items()
}


def create_unique_indexes(database: Any) -> None:
    """Where documents are, they must fit."""
    for name, models in UNIQUE.items():
        if models:
            database[name].create_indexes(models)


def shop_without_guards(*changes: tuple[str, str]) -> Migration:
    """The shop's file as it would be if it named no unique index; with texts in the place of others."""
    text = SHOP_FILE.read_text()
    for old, new in changes:
        text = text.replace(old, new)
    tree = yaml.safe_load(text)
    for collection in tree["collections"].values():
        collection.pop("unique", None)
    return parse_migration(yaml.safe_dump(tree, sort_keys=False).encode(), "shop.yaml")
