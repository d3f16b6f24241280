"""MongoDB follows documents of 0.5, 5 and 15 MB that DynamoDB holds compressed; one that cannot be read is a letter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from docferry.flows.ledger.reverse_letters import list_reverse_letters
from docferry.rehearsal.independent import judge
from docferry.sandbox import SandboxStack
from support.backfill.rig import Rig
from support.replicate.compressed import SIZES, compressed, compressing_shop, pages
from support.replicate.rig import end
from support.reverse.application import Application, begin_here, follow_back
from support.validate.planting import user


@pytest.fixture
def rig(stack: SandboxStack, tmp_path: Path) -> Iterator[Rig]:
    made = compressing_shop(stack.env(), tmp_path)
    made.load()
    yield made
    end(made)


def test_large_documents_go_back_grow_shrink_and_go(rig: Rig) -> None:
    begin_here(rig)
    application = Application(rig, 1)
    made = {size: user(f"large {size}") for size in SIZES}
    for size, one in made.items():
        application.change("users", None, one)
        large = one | {"note": pages(size), "addresses": [{"type": "home", "street": pages(500_000)}]}
        application.change("users", one, large)
        application.change("users", large, large | {"username": f"moved {size}"})
        made[size] = large | {"username": f"moved {size}"}
    assert len(compressed(rig)) == 2 * len(SIZES)
    assert follow_back(rig).dead == 0
    found = judge.judge_shop(rig.database, rig.dynamodb, rig.table, live=True)
    assert found.counts == (0, 0, 0), found
    application.change("users", made[SIZES[0]], made[SIZES[0]] | {"note": "small", "addresses": []})
    application.change("users", made[SIZES[1]], None)

    item = next(one for (pk, _), one in rig.scan().items() if pk == f"USER#moved {SIZES[2]}" and "_digest" in one)
    version = f"{application.version + 1:022x}"
    damaged = item | {"_v": {"S": version}, "_z": {"B": item["_z"]["B"][:-1]}}
    rig.dynamodb.put_item(TableName=rig.table, Item=damaged)
    assert follow_back(rig).dead == 1
    (letter,) = list_reverse_letters(rig.ledger)
    assert (letter.collection, letter.id) == ("users", str(made[SIZES[2]]["_id"]))
    rig.dynamodb.put_item(TableName=rig.table, Item=item | {"_v": {"S": f"{application.version + 2:022x}"}})
    assert follow_back(rig).dead == 0
    assert list_reverse_letters(rig.ledger) == []
    found = judge.judge_shop(rig.database, rig.dynamodb, rig.table, live=True)
    assert found.counts == (0, 0, 0), found
