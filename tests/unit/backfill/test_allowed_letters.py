"""How many documents of a load may be dead letters, and what a dry run says of documents that are too large."""

from __future__ import annotations

from dataclasses import replace

import pytest
from docferry.core.settings import BackfillSettings
from docferry.errors import TooManyDeadLetters
from docferry.flows.backfill.finish import allowed_dead
from docferry.flows.backfill.plan import plan_backfill
from docferry.testing.jobs import make_job
from support.replicate.fake_world import MIGRATION, World

LARGE = "x" * 500_000


def world(storable: int, unstorable: int) -> World:
    made = World(storable)
    made.common["migration"] = replace(MIGRATION, backfill=BackfillSettings())
    for number in range(unstorable):
        made.source.put("docs", {"_id": 1_000 + number, "text": LARGE})
    return made


def test_a_dry_run_counts_documents_that_are_too_large_for_an_item() -> None:
    made = world(20, 20)
    [plan] = plan_backfill(make_job(**made.common)).collections
    assert (plan.sample, plan.unstorable_in_sample) == (40, 20)


def test_a_load_in_which_half_of_a_small_collection_died_fails() -> None:
    with pytest.raises(TooManyDeadLetters, match="20 of 40"):
        world(20, 20).load()


def test_a_load_with_a_few_dead_letters_is_complete() -> None:
    world(20, 5).load()


@pytest.mark.parametrize(("read", "allowed"), [(0, 0), (4, 0), (40, 8), (125, 25), (1_000, 25), (10_000, 100)], ids=str)
def test_the_number_holds_for_middling_collections_and_shares_for_small_and_large_ones(read: int, allowed: int) -> None:
    assert int(allowed_dead(BackfillSettings(), read)) == allowed


def test_a_share_of_the_file_is_kept_however_small_the_collection() -> None:
    assert allowed_dead(BackfillSettings(dead_letter_share=0.6, dead_letter_count=0), 10) == 6.0
