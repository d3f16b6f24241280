"""Parts that processes left which died before their item's put, on real servers: a purge takes them, and none that is named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from bson import ObjectId
from docferry.core.versions import parse_version
from docferry.flows import purge as purging
from docferry.sandbox import SandboxStack
from support.backfill.rig import Rig, shop_rig
from support.replicate.compressed import compressing, left_over, stored_parts
from support.replicate.following import follow
from support.replicate.rig import large
from support.reverse.application import put_parts
from support.validate.live import with_images
from support.validate.planting import MAKERS, at_once, job_of, validate, with_target

__all__ = ["at_once"]
pytestmark = [pytest.mark.xdist_group("purge"), pytest.mark.usefixtures("at_once")]


@pytest.fixture(params=["split", "s3"])
def rig(request: pytest.FixtureRequest, stack: SandboxStack, tmp_path: Path) -> Iterator[Rig]:
    made = compressing(shop_rig(stack.env(), tmp_path, f"purge_{ObjectId()}"), request.param)
    with_images(made)
    for name in MAKERS:
        made.database[name].insert_one(MAKERS[name](name))
    made.database["products"].insert_one(MAKERS["products"]("large") | {"scan": large(900_000)})
    made.load()
    catch_up(made)
    yield made
    made.mongo.drop_database(made.migration.source.database)
    made.close()


def catch_up(rig: Rig) -> None:
    with_target(rig, lambda target: follow(rig, target))


def test_parts_of_dead_writers_go_and_those_of_items_stay(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purging, "YOUNG_S", 0.0)
    monkeypatch.setattr(purging, "STALE_S", 0.0)
    named = stored_parts(rig)
    mapping = rig.migration.mapping("products")
    document = rig.database["products"].find_one({"sku": "SKU-large"})
    assert document is not None
    stored = rig.scan()[f"PRODUCT#{document['_id']}", "METADATA"]
    version = parse_version(stored["_v"]["S"])
    for late in (document | {"scan": large(500_001)}, document | {"_id": ObjectId(), "scan": large(500_002)}):
        (item, *_) = mapping.encode(late, version - 1)
        put_parts(rig, mapping, mapping.layout.cut(mapping.layout.stored(item))[1])
    lost = left_over(rig)
    assert len(lost) == (2 if rig.migration.target.objects else 4)

    seen = with_target(rig, lambda target: purging.purge(job_of(rig), target, True))
    assert (seen.parts, seen.parts_purged, seen.parts_kept) == (len(named | lost), len(lost), 0)
    assert left_over(rig) == lost
    report = with_target(rig, lambda target: purging.purge(job_of(rig), target, False))
    assert (report.parts_purged, report.parts_kept) == (len(lost), 0)
    assert stored_parts(rig) == named
    assert validate(rig).ok
