"""A shop that compresses what is over 400 KB, and documents of many megabytes that come below it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from docferry.config import parse_migration
from docferry.core.mapping.large.overflow import PACKED

from support.backfill.rig import Rig
from support.replicate.rig import live_shop

SIZES = (500_000, 5_000_000, 15_000_000)
BLOCK = "".join(random.Random(5).choices("abcdefghijklmnopqrstuvwxyz äöü", k=3_000))


def pages(size: int, mark: str = "") -> str:
    """A long text that comes again and again, of so many bytes or a few less."""
    block = mark + BLOCK
    return block * (size // len(block.encode()))


def compressing_shop(env: Mapping[str, str], directory: Path, overflow: str = "compress", **options: Any) -> Rig:
    """A live shop, not yet loaded."""
    return compressing(live_shop(env, directory, load=False, **options), overflow)


def compressing(rig: Rig, overflow: str = "compress") -> Rig:
    """The same rig, whose file compresses."""
    tree = yaml.safe_load(rig.file.read_text())
    for collection in tree["collections"].values():
        collection["overflow"] = overflow
    rig.file.write_text(yaml.safe_dump(tree, sort_keys=False))
    rig.migration = parse_migration(rig.file.read_bytes(), str(rig.file))
    return rig


def parts(rig: Rig) -> list[dict[str, Any]]:
    return [item for (pk, _), item in rig.scan().items() if pk.startswith("PART#")]


def left_over(rig: Rig) -> set[str]:
    """The parts that no item names."""
    items = rig.scan().values()
    named = {f"PART#{one['S']}" for item in items for one in item.get("_p", {}).get("L", [])}
    return {item["PK"]["S"] for item in parts(rig)} - named


def compressed(rig: Rig) -> set[tuple[str, str]]:
    """The keys of the items that are."""
    return {key for key, item in rig.scan().items() if PACKED in item}
