"""A transform of the user's own: proved at each document, and never trusted."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any

import bson
import pytest
from bson import Int64
from docferry import Transform
from docferry.config import Migration, parse_migration
from docferry.core.mapping.change_writes import DecodedChange
from docferry.core.mapping.learnt.transcoder import Transcoder
from docferry.core.mapping.raw import encode_raw
from docferry.errors import ItemTooLarge, TransformFailed
from docferry.flows.ledger.mapping_fingerprint import fingerprint_of
from docferry.flows.preflight.fields import look_at_transforms
from docferry.testing.fakes import FakeSource
from docferry.testing.transforms import assert_comes_back
from hypothesis import strategies as st
from support.config import problems_of
from support.mappings import REVERSIBLE

Document = dict[str, Any]
FILE = """
migration: turned
source: {database: d}
tables: {Turned: {indexes: [GSI1]}}
collections:
  docs:
    %s
    item:
      entity: DOC
      key: {PK: "DOC#{name}", SK: "D#{_id}"}
      index: {GSI1: {PK: "CITY#{city}", SK: "{age}", when: {active: true}}}
    children: {parts: {entity: PART, key: {SK: "PART#{kind}"}}}
"""
SECRET = "s3cr3t-value"


class Mine(types.ModuleType):
    """A user's module, `docs` in it."""

    def put(self, forward: Any, back: Any) -> None:
        self.docs = Transform(forward, back)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Mine:
    made = Mine("my_transforms")
    monkeypatch.setitem(sys.modules, made.__name__, made)
    return made


def migration(said: str = "transform: my_transforms:docs") -> Migration:
    return parse_migration((FILE % said).encode())


def test_what_is_stored_is_what_forward_makes_and_what_is_read_is_the_document(module: Mine) -> None:
    module.put(forward=lambda d: {**d, "note": {"text": d["note"]}}, back=lambda d: {**d, "note": d["note"]["text"]})
    mapping = migration().mapping("docs")
    document = {
        "_id": 1,
        "name": "n",
        "city": "Rome",
        "age": Int64(3),
        "active": True,
        "note": "x",
        "parts": [{"kind": "k"}],
    }
    items = mapping.encode(document, 7)
    assert items[0]["note"] == {"M": {"text": {"S": "x"}}}
    assert items[0]["GSI1PK"] == {"S": "CITY#Rome"}
    assert mapping.decode(items).document == document


def _same(document: Document) -> Document:
    return document


def _raises(document: Document) -> Document:
    raise RuntimeError(f"cannot do {document}")


def _changes(name: str, value: Any) -> Callable[[Document], Document]:
    return lambda document: {**document, name: value}


@pytest.mark.parametrize(
    ("forward", "back", "told"),
    [
        (_raises, _same, "forward raised RuntimeError"),
        (_same, _raises, "back raised RuntimeError"),
        (lambda document: None, _same, "forward returned no document but NoneType"),
        (_same, lambda document: list(document), "back returned no document but list"),
        (_changes("x", object()), _same, "what forward returned is no BSON document"),
        (_changes("note", 1), _same, "another document: note differs"),
        (_same, _changes("age", 3), "another document: age differs"),  # an int32 where an int64 was
        (_same, _changes("more", 1), "another document: more differs"),
        (lambda document: {**document, "age": Int64(4)}, lambda document: {**document, "age": Int64(3)}, "is made of"),
        (lambda document: {**document, "active": 1}, lambda document: {**document, "active": True}, "is made of"),
        (_changes("parts", [{"kind": "other"}]), _changes("parts", [{"kind": "k"}]), "is made of"),
    ],
)  # fmt: skip
def test_a_document_that_would_not_come_back_is_refused(module: Mine, forward: Any, back: Any, told: str) -> None:
    module.put(forward=forward, back=back)
    document = {
        "_id": 1, "name": "n", "city": "Rome", "age": Int64(3), "active": True, "note": SECRET, "parts": [{"kind": "k"}],
    }  # fmt: skip
    with pytest.raises(TransformFailed) as caught:
        migration().mapping("docs").encode(document, 7)
    assert told in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.id == "~i1"


def test_back_gets_fields_in_whatever_order_dynamodb_returns_them(module: Mine) -> None:
    module.put(forward=_same, back=lambda d: {**d, "first": next(iter(d["in"]))})
    with pytest.raises(TransformFailed):
        migration().mapping("docs").encode({"_id": 1, "name": "n", "in": {"b": 1, "a": 2}, "first": "b"}, 7)


def test_a_transform_that_changes_its_argument_changes_nothing_else(module: Mine) -> None:
    def forward(document: Document) -> Document:
        document["in"]["a"] += 1
        return document

    def back(document: Document) -> Document:
        document["in"]["a"] -= 1
        return document

    module.put(forward=forward, back=back)
    document = {"_id": 1, "name": "n", "in": {"a": 1}}
    assert migration().mapping("docs").encode(document, 7)[0]["in"] == {"M": {"a": {"N": "2"}}}
    assert document == {"_id": 1, "name": "n", "in": {"a": 1}}


def test_a_learnt_shape_does_not_pass_the_transform_by(module: Mine) -> None:
    module.put(forward=lambda d: {**d, "x": -d["x"]}, back=lambda d: {**d, "x": -d["x"]})
    mapping = migration().mapping("docs")
    transcoder, data = Transcoder(mapping), bson.encode({"_id": 1, "name": "n", "x": 5})
    transcoder.learn(data)
    assert transcoder.pack(data, 7) is None


def test_a_small_document_that_becomes_too_large_is_refused_before_anything_is_written(
    module: Mine,
) -> None:
    module.put(forward=lambda d: {**d, "x": "x" * 500_000}, back=lambda d: {k: v for k, v in d.items() if k != "x"})
    with pytest.raises(ItemTooLarge):
        encode_raw(migration().mapping("docs"), bson.encode({"_id": 1, "name": "n"}), 7)


def test_an_update_writes_all_items(module: Mine) -> None:
    module.put(forward=_same, back=_same)
    document = bson.encode({"_id": 1, "name": "n", "parts": [{"kind": "k"}]})
    for said, children in (("transform: my_transforms:docs", 1), ("unmapped: keep", 0)):
        change = DecodedChange.of(migration(said).mapping("docs"), document, document, 7)
        assert len(change.writes("_ttl", ["city"]).first) == children


def test_the_fingerprint_knows_the_transform_and_its_version(module: Mine) -> None:
    module.put(forward=_same, back=_same)
    said = ("unmapped: keep", "transform: my_transforms:docs", "transform: {use: 'my_transforms:docs', version: 2}")
    found = {fingerprint_of(migration(one).collections[0]) for one in said}
    assert len(found) == 3
    one = "transform: {use: 'my_transforms:docs', version: 1}"
    assert fingerprint_of(migration(one).collections[0]) == fingerprint_of(migration(said[1]).collections[0])


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("my_transforms.docs", "is no module:name"),
        ("__import__('os'):system", "is no module:name"),
        ("nowhere_to_be_found:docs", "there is no module nowhere_to_be_found"),
        ("my_transforms:lacking", "has no such name"),
        ("os:system", "names no docferry.Transform but builtin_function_or_method"),
    ],
)
def test_a_transform_that_is_not_there_is_told_with_its_line(module: Mine, name: str, told: str) -> None:
    (problem,) = problems_of(FILE % f'transform: "{name}"')
    assert told in problem.what
    assert problem.line == 7


def test_the_property_test_for_users_finds_a_document_that_does_not_come_back(module: Mine) -> None:
    module.put(forward=lambda d: {**d, "x": 1}, back=lambda d: {k: v for k, v in d.items() if k != "x"})
    mapping = migration().mapping("docs")
    with pytest.raises(AssertionError, match="x differs"):
        assert_comes_back(mapping, st.builds(lambda more: {"_id": 1, "name": "n", **more}, st.just({"x": 2})))
    assert_comes_back(REVERSIBLE["turned"], examples=20)


def test_check_says_which_sampled_documents_the_transform_fails(module: Mine) -> None:
    module.put(forward=lambda d: {**d, "x": d["x"] + 1}, back=lambda d: {**d, "x": d["x"] - 1})
    source = FakeSource({"docs": [{"_id": 1, "name": "n", "x": 1}, {"_id": 2, "name": "m", "x": SECRET}]})
    (problem,) = look_at_transforms(migration(), source)
    assert problem.where == "collections.docs.transform"
    assert "1 of 2 sampled documents cannot be stored, first ~i2: transform: forward raised TypeError" in problem.what
