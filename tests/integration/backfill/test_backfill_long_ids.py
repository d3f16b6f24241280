"""A load on real servers with ids that no record of the ledger could hold."""

from __future__ import annotations

from pathlib import Path

import bson
from docferry.flows.ledger.dead_letters import letter_document, list_letters, read_letter
from docferry.sandbox import SandboxStack
from support.backfill.rig import generic_rig


def test_ids_longer_than_a_record_become_dead_letters_and_do_not_end_the_load(
    stack: SandboxStack, tmp_path: Path
) -> None:
    """The letter's record holds the id, the chunk's the place behind it: both have 400 KB."""
    long = [f"{letter}" * 450_000 for letter in "ab"]
    with stack.mongo.client() as client:
        client["ids"]["long"].insert_many([{"_id": 1}, *({"_id": one, "n": 1} for one in long), {"_id": "c"}])
    rig = generic_rig(stack.env(), tmp_path, "ids", ("long",), page_documents=1)
    report = rig.load()["long"]
    assert (report.counts.read, report.counts.written, report.counts.dead) == (4, 2, 2)
    for letter, one in zip(list_letters(rig.ledger, "long"), long, strict=True):
        assert len(letter.id) < 300
        assert letter == read_letter(rig.ledger, "long", one) == read_letter(rig.ledger, "long", letter.id)
        assert bson.decode(letter_document(rig.ledger, letter))["_id"] in long
    rig.close()
