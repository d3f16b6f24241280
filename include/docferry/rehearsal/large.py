"""Documents over 400 KB in a rehearsal: some of up to 15 MB that lie there, and a share of what the application writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import boto3
import yaml
from bson import Binary

from docferry.core.settings import Overflow

SIZES = (500_000, 5_000_000, 15_000_000)
WRITTEN_BYTES = 450_000
BUCKET = "drill-parts"
PREFIX = "of/items"
FIELD = "scan"


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeDocuments:
    """`share` of the documents that the application writes are large. `overflow` is the file's word for them."""

    share: float = 0.03
    overflow: Overflow = "split"


def noise(size: int, seed: int) -> Binary:
    """What does not compress."""
    return Binary(Random(seed).randbytes(size))


def sometimes_large(document: dict[str, Any], share: float, random: Random) -> dict[str, Any]:
    """The document, of which a share gets a field of many bytes."""
    if random.random() >= share:
        return document
    return {**document, FIELD: noise(WRITTEN_BYTES + random.randrange(1_000), random.randrange(10**9))}


def allow_large(file: Path, overflow: Overflow) -> None:
    """The file, with this word for each collection."""
    tree = yaml.safe_load(file.read_text())
    for collection in tree["collections"].values():
        collection["overflow"] = overflow
    if overflow == "s3":
        tree["target"]["objects"] = f"s3://{BUCKET}/{PREFIX}"
    file.write_text(yaml.safe_dump(tree, sort_keys=False))


def make_large(products: Any) -> None:
    """Those that lie there. `products` is pymongo's collection."""
    products.insert_many([{"sku": f"large {size}", FIELD: noise(size, size)} for size in SIZES])


def missing_large(products: Any) -> list[str]:
    """Those that are not what they were."""
    found = {one["sku"]: one.get(FIELD) for one in products.find({"sku": {"$regex": "^large "}})}
    return [f"products large {size}" for size in SIZES if found.get(f"large {size}") != bytes(noise(size, size))]


class Bucket:
    """The stack's S3."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._s3 = boto3.client(
            "s3", region_name=env["AWS_REGION"], endpoint_url=env["AWS_ENDPOINT_URL_S3"],
            aws_access_key_id=env["AWS_ACCESS_KEY_ID"], aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
        )  # fmt: skip

    def make(self) -> None:
        self._s3.create_bucket(Bucket=BUCKET)

    def reader(self, migration: str, table: str) -> Callable[[str], bytes | None]:
        """For the judge: the bytes of an object by its name, which must be there."""

        def read(name: str) -> bytes | None:
            found = self._s3.get_object(Bucket=BUCKET, Key=f"{PREFIX}/{migration}/{table}/{name}")
            data: bytes = found["Body"].read()
            return data

        return read
