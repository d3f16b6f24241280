"""Documents of 0.5, 5 and 15 MB that compress below 400 KB: loaded, followed under changes, validated, damaged and repaired."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from docferry.flows.backfill.plan import plan_backfill
from docferry.flows.ledger.dead_letters import list_letters
from docferry.flows.replicate import follower as replicate
from docferry.rehearsal.independent import judge
from docferry.sandbox import SandboxReplicaSet, SandboxStack
from support.backfill.rig import Rig
from support.replicate.compressed import SIZES, compressed, compressing_shop, pages
from support.replicate.rig import Following, end, follow, large
from support.validate.planting import MAKERS, repair, user, validate

pytestmark = pytest.mark.xdist_group("replicate_compressed")


@pytest.fixture(scope="module")
def rig(stack: SandboxStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Loaded with a product and a user of each size; the user's is in a child, too."""
    directory = tmp_path_factory.mktemp("compressed")
    with (
        SandboxReplicaSet(directory, cache_mb=1024, oplog_mb=990) as mongo,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(replicate, "READ_WAIT_S", 0.1)
        made = compressing_shop({**stack.env(), "DOCFERRY_MONGO_URI": mongo.uri()}, directory)
        for size in SIZES:
            text = pages(size, "loaded")
            made.database["products"].insert_one(MAKERS["products"](f"loaded {size}") | {"description": text})
            someone = user(f"loaded {size}")
            someone["addresses"][1]["street"] = text
            made.database["users"].insert_one(someone)
        made.load()
        yield made
        end(made)


def require_same(rig: Rig) -> None:
    """By the judge that shares no code with docferry."""
    found = judge.judge_shop(rig.database, rig.dynamodb, rig.table, live=True)
    assert found.counts == (0, 0, 0), found


def test_a_load_stores_them_and_they_are_equal(rig: Rig) -> None:
    assert {sk for _, sk in compressed(rig)} == {"METADATA", "ADDRESS#work#001"}
    assert len(compressed(rig)) == 2 * len(SIZES)
    assert list_letters(rig.ledger, "products") == list_letters(rig.ledger, "users") == []
    require_same(rig)


def test_documents_that_grow_move_and_shrink_are_followed(rig: Rig) -> None:
    users = rig.database["users"]
    made = {size: users.insert_one(user(f"growing {size}")).inserted_id for size in SIZES}
    for size, key in made.items():
        users.update_one({"_id": key}, {"$set": {"note": pages(size), "addresses.0.street": pages(500_000, "street")}})
    report = follow(rig)
    assert (report.dead, report.written) == (0, 2 * len(SIZES))
    assert {pk for pk, _ in compressed(rig) if "growing" in pk} == {f"USER#growing {size}" for size in SIZES}
    require_same(rig)
    for size, key in made.items():
        users.update_one({"_id": key}, {"$set": {"username": f"moved {size}", "visits": 1}})
        users.update_one({"_id": key}, {"$inc": {"visits": 1}, "$pop": {"addresses": -1}})
    assert follow(rig).dead == 0
    assert {pk for pk, _ in compressed(rig) if "moved" in pk} == {f"USER#moved {size}" for size in SIZES}
    require_same(rig)
    for key in made.values():
        users.update_one({"_id": key}, {"$unset": {"note": ""}})
    follow(rig)
    assert not {pk for pk, _ in compressed(rig) if "moved" in pk or "growing" in pk}
    require_same(rig)


def test_what_stays_too_large_is_a_dead_letter_until_it_fits(rig: Rig) -> None:
    products = rig.database["products"]
    key = products.insert_one(MAKERS["products"]("noise") | {"scan": large(600_000)}).inserted_id
    assert follow(rig).dead == 1
    (letter,) = list_letters(rig.ledger, "products")
    assert (letter.id, letter.reason) == (str(key), "ItemTooLarge")
    products.update_one({"_id": key}, {"$set": {"scan": pages(600_000)}})
    follow(rig)
    assert list_letters(rig.ledger, "products") == []
    require_same(rig)


def test_what_does_not_decompress_is_one_finding_with_its_document_and_is_repaired(rig: Rig) -> None:
    product = rig.database["products"].find_one({"sku": f"SKU-loaded {SIZES[0]}"})
    assert product is not None
    item = next(one for (pk, _), one in rig.scan().items() if pk == f"PRODUCT#{product['_id']}")
    damaged = {**item, "_z": {"B": item["_z"]["B"][:-5]}}
    rig.dynamodb.put_item(TableName=rig.table, Item=damaged)
    with Following(rig):
        before = repair(rig).before  # it validates first
        assert before is not None
        (found,) = before.differences
        assert (found.collection, found.id, found.path) == ("products", str(product["_id"]), "_z")
        assert found.actual == "compressed, and cannot be read"
        assert validate(rig).ok
    require_same(rig)


def test_a_dry_run_counts_what_is_written_compressed(rig: Rig) -> None:
    plan = plan_backfill(rig.job())
    assert all(one.unstorable_in_sample == 0 for one in plan.collections)
    assert sum(one.write_units for one in plan.collections) < 2_000
