"""A shop that compresses what is over 400 KB, and documents of many megabytes that come below it."""

from __future__ import annotations

import random
import uuid
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
    if overflow == "s3":
        bucket = f"parts-{tree['migration'].lower()}-{uuid.uuid4().hex[:8]}"
        rig.s3.create_bucket(Bucket=bucket)
        tree.setdefault("target", {})["objects"] = f"s3://{bucket}/of/items"
    rig.file.write_text(yaml.safe_dump(tree, sort_keys=False))
    rig.migration = parse_migration(rig.file.read_bytes(), str(rig.file))
    return rig


def parts(rig: Rig) -> list[dict[str, Any]]:
    return [item for (pk, _), item in rig.scan().items() if pk.startswith("PART#")]


def stored_parts(rig: Rig) -> set[str]:
    """The names of all parts, as items or as objects."""
    names = {item["PK"]["S"].removeprefix("PART#") for item in parts(rig)}
    return names | {key.rpartition("/")[2] for key in objects(rig)}


def objects(rig: Rig) -> list[str]:
    """The keys of all objects in the bucket of the rig, if it has one."""
    bucket = bucket_of(rig)
    found = rig.s3.list_objects_v2(Bucket=bucket) if bucket else {}
    return [one["Key"] for one in found.get("Contents", ())]


def bucket_of(rig: Rig) -> str:
    return rig.migration.target.objects.removeprefix("s3://").partition("/")[0]


def read_object(rig: Rig, name: str) -> bytes | None:
    """For the judge."""
    key = next((key for key in objects(rig) if key.endswith(f"/{name}")), None)
    found: bytes | None = rig.s3.get_object(Bucket=bucket_of(rig), Key=key)["Body"].read() if key else None
    return found


def left_over(rig: Rig) -> set[str]:
    """The parts that no item names."""
    entries = [one for item in rig.scan().values() for one in item.get("_p", {}).get("L", [])]
    return stored_parts(rig) - {one["S"] if "S" in one else one["M"]["name"]["S"] for one in entries}


def compressed(rig: Rig) -> set[tuple[str, str]]:
    """The keys of the items that are."""
    return {key for key, item in rig.scan().items() if PACKED in item}
