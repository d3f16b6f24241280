"""Errors: the tree in the docstring is the tree in the code, and each class survives its way between processes."""

from __future__ import annotations

import inspect
import pickle
import re
from typing import Any

import pytest
from docferry import errors
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.settings import CollectionSettings, ItemSettings
from docferry.errors import DocumentError, MigrationError, Problem

CLASSES = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, MigrationError)]
PROBLEM = Problem(where="tables.Shop", what="is wrong", suggestion="mend it", line=3)

ARGUMENTS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "ConfigError": (("shop.yaml", [PROBLEM]), {}),
    "PreflightFailed": (("MongoDB", [PROBLEM]), {}),
    "KeyTaken": (("users", {"username": "ann"}), {}),
    "EstateDrift": ((["Shop: no stream"],), {}),
    "DrillFailed": (("backfill shop.yaml", 4, "Unavailable: nobody answers"), {}),
    "FenceBroken": (("0000000007:0000000001", ["insert in shop.users"]), {}),
    "FenceFailed": (("no fence in 5 s",), {"in_the_way": ("app: transaction",), "taken_back": False}),
    "LeaseHeld": (("chunk", "ann", 12.5), {}),
    "LeaseLost": (("chunk",), {}),
    "NotApplied": (([("users", "ann")], 5.0), {}),
    "PointFailed": (("before-the-stop", "the disk is full"), {}),
    "RetryExhausted": (("PutItem", 3, 2.5, "throttled"), {}),
    "SteppedBack": (("2 of 40 compared reads differ", "DUAL_WRITE", ["users ann: status"]), {}),
    "StreamEnded": (("the collection was dropped",), {"reason": "drop", "collections": ("users",)}),
    "TooManyDeadLetters": (("users", 3, 100, 0.01), {}),
    "CallRefused": (("the query operator $where", "use $and"), {}),
    "NoAccessPattern": (("users by visits", "declare an index"), {}),
    "ScanTooLarge": (("what", "instead"), {}),
    "UpdateRefused": ((14, "not a number"), {}),
    "ExpressionRefused": ((14, "not a number"), {}),
    "ValidationFailed": (("they differ", {"missing": 1}), {}),
}


def example(kind: type[MigrationError]) -> MigrationError:
    if issubclass(kind, errors.DocumentError):
        return kind("no key", namespace="users", id="~i1", path="a.b")
    if issubclass(kind, errors.StoreError):
        return kind("refused", operation="PutItem", code="ValidationException")
    arguments, named = ARGUMENTS.get(kind.__name__, (("something happened",), {}))
    return kind(*arguments, **named)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_error_survives_pickling_with_its_attributes(kind: type[MigrationError]) -> None:
    error = example(kind)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(error, protocol))
        assert type(again) is kind
        assert str(again) == str(error)
        assert again.args == error.args
        assert vars(again) == vars(error)
        assert again.retryable == error.retryable


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_attribute_set_after_creation_survives_pickling(kind: type[MigrationError]) -> None:
    error = example(kind)
    vars(error)["path"] = "changed.later"
    assert vars(pickle.loads(pickle.dumps(error)))["path"] == "changed.later"


def tree_in_docstring() -> dict[str, str]:
    """Class -> its parent, as the module's docstring draws it."""
    parents: dict[str, str] = {}
    branch: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"([│ ]*)[├└] (.*)|(MigrationError)", line)
        if match is None:
            continue
        if match.group(3):
            branch = ["MigrationError"]
            continue
        depth = len(match.group(1).replace("│", " ")) // 3 + 1
        # Names before the remark, which stands behind two spaces; `A · B` on a parent's own line are its children.
        words = re.split(r"\s{2,}", match.group(2), maxsplit=1)
        names = re.findall(r"[A-Z][A-Za-z]+", re.sub(r"\([^)]*\)", "", words[0]))
        del branch[depth:]
        for name in names:
            parents[name] = branch[depth - 1]
        branch.append(names[0])
        if len(words) > 1:
            for name in re.findall(r"[A-Z][A-Za-z]+", words[1]):
                if hasattr(errors, name):
                    parents[name] = names[0]
    return parents


def test_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    real = {kind.__name__: kind.__mro__[1].__name__ for kind in CLASSES if kind is not MigrationError}
    assert tree_in_docstring() == real


def test_only_transient_errors_and_those_that_pass_are_retryable() -> None:
    retryable = {kind.__name__ for kind in CLASSES if kind.retryable}
    transient = {"TransientStoreError", "Throttled", "ControlPlaneBusy", "Unavailable", "TimedOut", "IteratorExpired"}
    client = {"WritesHeld", "LeaderUnknown", "TornRead"}
    assert retryable == transient | client | {"LeaseHeld", "NotApplied", "Stopped"}


def test_every_class_says_what_it_means() -> None:
    assert all(inspect.getdoc(kind) for kind in CLASSES)
    assert inspect.getdoc(errors.ItemTooLarge) != inspect.getdoc(DocumentError)


# --- no error carries what is in a document --------------------------------------------------------------------------

SECRET = "s3cr3t-value"
MAPPING = DocumentMapping(
    CollectionSettings(
        name="things",
        table="T",
        item=ItemSettings(entity="THING", key={"PK": "THING#{name}", "SK": "ROOT"}),
        children={"parts": ItemSettings(entity="PART", key={"SK": "PART#{kind}"})},
    )
)


def _deep(levels: int) -> Any:
    return {"x": _deep(levels - 1)} if levels else SECRET


REFUSED: dict[str, tuple[dict[str, Any], type[DocumentError], str]] = {
    "no field for the key": ({}, errors.KeyNotRepresentable, "name"),
    "null in the key": ({"name": None}, errors.KeyNotRepresentable, "name"),
    "document in the key": ({"name": {"a": SECRET}}, errors.KeyNotRepresentable, "name"),
    "child without its key": ({"name": "n", "parts": [{"kind": 1}, {"x": SECRET}]}, errors.KeyNotRepresentable, "parts.1.kind"),
    "two children with one key": ({"name": "n", "parts": [{"kind": SECRET}] * 2}, errors.KeyCollision, "parts.1"),
    "key too long": ({"name": SECRET * 400}, errors.KeyTooLong, "PK"),
    "too deep": ({"name": "n", "a": [1, _deep(40)]}, errors.TooDeep, "a.1" + ".x" * 30),
    "child too deep": ({"name": "n", "parts": [{"kind": 1, "a": _deep(40)}]}, errors.TooDeep, "parts.0.a" + ".x" * 31),
    "no BSON": ({"name": "n", "a": [{"b": {SECRET}}]}, errors.UnsupportedType, "a.0.b"),
    "integer over 64 bits": ({"name": "n", "a": {"b": 2**70}}, errors.UnsupportedType, "a.b"),
    "too large": ({"name": "n", "a": SECRET * 50_000}, errors.ItemTooLarge, "ROOT"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_document_is_named_by_id_and_path_and_not_shown(case: str) -> None:
    document, kind, path = REFUSED[case]
    with pytest.raises(kind) as caught:
        MAPPING.to_items({"_id": 7, **document, "other": SECRET}, 1)
    error = caught.value
    assert error.path == path
    assert SECRET not in f"{error!s}{error!r}{vars(error)}"
    if kind is not errors.ItemTooLarge:
        assert (error.namespace, error.id) == ("things", "~i7")
