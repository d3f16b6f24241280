"""The golden vectors are what the code does: other languages build on them, so neither may change alone."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import bson
import pytest
from bson.timestamp import Timestamp
from docferry.client.items.reader import DocumentReader, StoredDocument
from docferry.client.membership import Membership
from docferry.client.ticket import Writing
from docferry.client.transport.sync_driver import run
from docferry.core.bson_codec.decode import decode_value
from docferry.core.bson_codec.hints import HintTree, parse_declared
from docferry.core.bson_codec.options import BSON_OPTIONS
from docferry.core.cutover.instances import INSTANCES
from docferry.core.cutover.modes import MODE, ModeState, state_of
from docferry.core.mapping.digest import digest
from docferry.core.mapping.items import key_of
from docferry.core.mapping.large.objects import decode_object
from docferry.core.versions import parse_version, version_of, version_time
from docferry.errors import ItemsUnreadable
from docferry.ports.flows import Identity
from docferry.testing.fakes import FakeJournal, FakeLedger
from docferry.testing.strategies import canonical_bson
from docferry.testing.vectors import FILES, text_of
from docferry.testing.vectors_documents import DESIGNED, compressing, from_extended, mapping
from docferry.testing.vectors_ledger import ID
from docferry.testing.vectors_order import ordering
from support.backfill.rig import eventually
from support.place import ROOT

VECTORS = ROOT / "docs" / "vectors"


def read(name: str) -> Any:
    return json.loads((VECTORS / f"{name}.json").read_text())


@pytest.mark.parametrize("name", FILES)
def test_file_is_what_the_code_makes(name: str) -> None:
    again = "python -m docferry.testing.vectors docs/vectors"
    assert (VECTORS / f"{name}.json").read_text() == text_of(name), f"if this was meant: {again}"


def test_no_other_file_is_there() -> None:
    assert {one.stem for one in VECTORS.iterdir()} == set(FILES)


# --- and back: what the files say is read by the code, and gives what they say it is ---------------------------------


def same(found: Any, extended: Any) -> bool:
    """To the last bit of BSON, but for the order of fields."""
    expected = bson.decode(bson.encode({"v": from_extended(extended)}), BSON_OPTIONS)
    return canonical_bson({"v": found}) == canonical_bson(expected)


@pytest.mark.parametrize("part", ["values", "foreign"])
def test_value_is_read_back(part: str) -> None:
    for one in read("types")[part]:
        tree = HintTree(one["hints"])
        declared = parse_declared(one["declared"]) if one["declared"] else None
        found = decode_value(one["wire"], tree.root.get("v"), tree, declared)
        assert same(found, one["bson"]), one
        assert tree.misfits == one.get("misfits", 0), one


def test_id_is_read_back() -> None:
    for one in read("types")["ids"]:
        tree = HintTree(one["hints"])
        found = decode_value(one["wire"], tree.root.get("_id"), tree, "oid")
        assert bson.encode({"": found}) == bson.encode({"": from_extended(one["bson"])}), (
            one
        )  # the order of fields, too


def test_document_is_read_back() -> None:
    cases = read("documents")["cases"]
    assert any(len(one["items"]) > 1 for one in cases)
    for one in cases:
        assert same(mapping(one["collection"]).decode(one["items"]).document, one["document"]), one


def test_document_of_a_table_that_names_its_keys_itself_is_read_back() -> None:
    said = read("documents")["designed"]
    for one in said["cases"]:
        designed = mapping(one["collection"], DESIGNED)
        items = [designed.layout.read(item) for item in one["items"]]
        assert items == one["ours"]
        assert same(designed.decode(items).document, one["document"]), one


def test_compressed_item_is_read_back_and_one_that_cannot_be_is_no_document() -> None:
    said = read("documents")["compressed"]
    users = compressing()
    found = users.layout.read(said["stored"])
    assert found == said["item"]
    assert same(users.decode([found]).document, said["document"])
    for one in said["unreadable"]:
        with pytest.raises(ItemsUnreadable):
            users.decode([users.layout.read(one)])


def test_item_in_parts_is_read_back_and_one_whose_parts_are_others_is_no_document() -> None:
    said, users = read("documents")["split"], compressing("split")
    layout = users.layout
    assert [layout.key_of(part) for part in said["parts"]] == [
        layout.key_of(key) for key in layout.part_keys(said["stored"])
    ]
    assert layout.read(layout.joined(said["stored"], said["parts"])) == said["item"]
    for parts in said["unreadable"]:
        with pytest.raises(ItemsUnreadable):
            users.decode([layout.read(layout.joined(said["stored"], parts))])


def test_item_whose_part_is_an_object_is_read_back() -> None:
    said, users = read("documents")["s3"], compressing("s3")
    part = decode_object(base64.b64decode(said["object"]))
    assert part is not None
    assert users.layout.read(users.layout.joined(said["stored"], [part])) == said["item"]


def test_order_of_fields_is_read_back() -> None:
    said = read("order")
    for one in (said, said["unfit"]):
        found = ordering().decode(one["items"]).document
        assert bson.encode(found) == bson.encode(from_extended(one["document"]))


def test_digest_does_not_depend_on_spelling_order_or_version() -> None:
    said = read("documents")["digest"]
    assert digest(said["children"]) == digest(said["same"]) == said["digest"]
    assert digest(said["other"]) == said["other_digest"] != said["digest"]


def test_items_fit_together_as_said() -> None:
    verdicts = []
    for one in read("documents")["together"]:
        items = [item | {"_ttl": {"N": "9999999999"}} if "_ttl" in item else item for item in one["items"]]
        reader = DocumentReader(mapping("users"), None)  # type: ignore[arg-type]
        found: StoredDocument = reader._found(key_of(items[0]), items)
        verdicts.append(reader._is_whole(found))
        assert verdicts[-1] == one["whole"], one
    assert set(verdicts) == {True, False}


def test_version_is_read_back() -> None:
    for one in read("versions")["events"]:
        version = parse_version(one["version"])
        assert version_time(version) == Timestamp(one["seconds"], one["increment"])
        assert one["n"] is None or version == version_of(version_time(version), one["n"])


def test_mode_is_read_back() -> None:
    for one in read("modes")["states"]:
        state = state_of(one["body"])
        assert state.to_body() == one["body"]
        assert (state.write_to_mongo, str(state.leader)) == (one["write_to_mongo"], one["leader"])


# --- an instance lives as the ledger's vectors say -------------------------------------------------------------------


class _Life:
    """A real membership on a ledger in memory; the mode is changed as the vectors say."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("docferry.client.following.BEAT_S", 0.02)
        self.ledger = FakeLedger()
        who = Identity(name="shop@host pid 7", mark="", ended=lambda mark: False)
        self.member = Membership(
            lambda: self.ledger, lambda: who, open_journal=FakeJournal, region="us-east-1", lease_s=1.0
        )
        self.member._id = ID

    def set_mode(self, state: ModeState) -> None:
        self.ledger.write(*MODE, state.to_body(), expect=self.ledger.read(*MODE))
        eventually(lambda: self.member.state == state, f"the member to see {state}")

    def body(self) -> dict[str, Any]:
        found = self.ledger.read(INSTANCES, ID)
        assert found is not None
        return dict(found.body)


TIMES = ("registered", "beat", "until", "counts")


def said(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in TIMES}


def body_of(step: dict[str, Any]) -> dict[str, Any]:
    request = step["request"]
    put = request["TransactItems"][0]["Put"] if step["operation"] == "TransactWriteItems" else request
    found: dict[str, Any] = _plain(
        {"M": {name: one for name, one in put["Item"]["body"]["M"].items() if name not in TIMES}}
    )
    return found


def _plain(wire: dict[str, Any]) -> Any:
    ((tag, content),) = wire.items()
    if tag == "M":
        return {name: _plain(inner) for name, inner in content.items()}
    if tag == "L":
        return [_plain(inner) for inner in content]
    return int(content) if tag == "N" else content


def test_instance_registers_acknowledges_and_ends_as_said(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = read("ledger")["steps"]
    life = _Life(monkeypatch)
    member = life.member

    def eventually_said(step: dict[str, Any]) -> None:
        eventually(lambda: said(life.body()) == body_of(step), step["event"])

    member.join()
    record = life.ledger.read(*MODE)
    assert record is not None
    assert record.body == steps[0]["mode"]
    eventually_said(steps[1])
    beat = life.body()["beat"]
    eventually(lambda: life.body()["beat"] > beat, steps[2]["event"])
    assert said(life.body()) == body_of(steps[2])
    begun = run(member.begin(None))  # type: ignore[arg-type]  # it need not wait
    with Writing(begun, member.ended):
        life.set_mode(state_of(steps[3]["mode"]))
        eventually_said(steps[3])
        time.sleep(0.3)  # it has had its chances
        assert said(life.body()) == body_of(steps[3])
    eventually_said(steps[4])
    for step in steps[5:8]:
        if step is steps[7]:
            for lane, last in zip(member.own_lanes._all, (7, 2), strict=True):
                lane.last = last
        life.set_mode(state_of(step["mode"]))
        eventually_said(step)
    member.leave()
    assert said(life.body()) == body_of(steps[8])
