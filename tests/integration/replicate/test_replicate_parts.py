"""Documents in parts: loaded, validated, and repaired where a part is missing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from docferry.flows.ledger.dead_letters import list_letters
from docferry.flows.replicate import follower as replicate
from docferry.rehearsal.independent import judge
from docferry.sandbox import SandboxStack
from support.backfill.rig import Rig
from support.replicate.compressed import compressing_shop, left_over, parts
from support.replicate.rig import Following, end, large
from support.validate.planting import MAKERS, repair, user, validate

pytestmark = pytest.mark.xdist_group("replicate_parts")
SIZES = (500_000, 2_000_000)


@pytest.fixture(scope="module")
def rig(stack: SandboxStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replicate, "READ_WAIT_S", 0.1)
        made = compressing_shop(stack.env(), tmp_path_factory.mktemp("parts"), "split")
        for size in SIZES:
            made.database["products"].insert_one(MAKERS["products"](f"loaded {size}") | {"scan": large(size)})
        someone = user("loaded child")
        someone["addresses"][1]["scan"] = large(600_000)
        made.database["users"].insert_one(someone)
        made.load()
        yield made
        end(made)


def require_same(rig: Rig) -> None:
    found = judge.judge_shop(rig.database, rig.dynamodb, rig.table, live=True)
    assert found.counts == (0, 0, 0), found


def test_a_load_stores_them_and_they_are_equal(rig: Rig) -> None:
    assert len(parts(rig)) == sum(-(-size // 399_360) for size in (*SIZES, 600_000))
    assert list_letters(rig.ledger, "products") == list_letters(rig.ledger, "users") == []
    require_same(rig)
    assert left_over(rig) == set()


def test_a_part_that_is_missing_is_one_finding_with_its_document_and_is_repaired(rig: Rig) -> None:
    product = rig.database["products"].find_one({"sku": f"SKU-loaded {SIZES[1]}"})
    assert product is not None
    item = next(one for (pk, _), one in rig.scan().items() if pk == f"PRODUCT#{product['_id']}")
    name = item["_p"]["L"][3]["S"]
    rig.dynamodb.delete_item(TableName=rig.table, Key={"PK": {"S": f"PART#{name}"}, "SK": {"S": "PART"}})
    with Following(rig):
        before = repair(rig).before  # it validates first
        assert before is not None
        (found,) = before.differences
        assert (found.collection, found.id, found.path) == ("products", str(product["_id"]), "_p")
        assert validate(rig).ok
    require_same(rig)
    assert left_over(rig) == set()
