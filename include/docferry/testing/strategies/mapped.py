"""Documents for a mapping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from docferry.core.mapping.item_plan import AnyOf, Exists, ItemPlan
from docferry.core.mapping.key_templates import Template
from docferry.core.mapping.mapping import DocumentMapping
from docferry.testing.strategies.kinds import Document, real
from docferry.testing.strategies.values import (
    bson_values,
    dates,
    decimal128s,
    ids,
    names_but,
    object_ids,
    scalar_kinds,
    scalars,
    texts,
)


def documents_for(mapping: DocumentMapping) -> SearchStrategy[Document]:
    """Documents that hit what a mapping names, and what it does not expect there.

    One half is rich: every field that the mapping names is there, and every array of children has some. The other half is
    sparse: mapped fields are missing, null, '' or of any other type; subdocuments on the way to one are missing, null,
    empty or of another type; arrays of children are missing, empty, null, mixed, or hold elements with few of their
    fields. Fields beside the mapped ones are in both, and fields of table keys are always there.
    """
    rich, sparse = (st.builds(_whole, ids(), _named(mapping, rich), _strangers()) for rich in (True, False))
    return st.one_of(rich, sparse).map(real)


def _named(mapping: DocumentMapping, rich: bool) -> SearchStrategy[Document]:
    root = mapping.root
    key_paths = {part.path for template in (root.pk, root.sk) for part in template.placeholders} - {("_id",)}
    index_paths = {part.path for index in root.indexes for part in (*index.pk.placeholders, *index.sk.placeholders)}
    when_values = {
        path: wanted.values[0] if isinstance(wanted, AnyOf) else wanted
        for index in root.indexes
        for path, wanted in index.when
        if not isinstance(wanted, Exists)
    }
    tree: dict[str, Any] = {}
    for path in sorted({*index_paths, *when_values, *root.sources.values()}):
        if path[0] != "_id":
            _plant(tree, path, _mapped_value(when_values.get(path)))
    for child in mapping.children.values():
        _plant(tree, child.path, _children(child, rich))
    for path in key_paths:
        _plant(tree, path, _key_values())
    return _subdocument(tree, key_paths, rich)


def _whole(key: Any, mapped: Document, strangers: Document) -> Document:
    return {"_id": key, **strangers, **mapped}


def _plant(tree: dict[str, Any], path: tuple[str, ...], values: SearchStrategy[Any]) -> None:
    for step in path[:-1]:
        inner = tree.setdefault(step, {})
        tree = inner if isinstance(inner, dict) else tree  # a field that is mapped as a whole and inside: the whole one
    if not isinstance(tree.get(path[-1]), dict):
        tree[path[-1]] = values


def _strangers() -> SearchStrategy[Document]:
    names = names_but("_id")
    return st.dictionaries(names, bson_values(max_leaves=3), max_size=3)


def _mapped_value(usual: Any = None) -> SearchStrategy[Any]:
    ordinary = [texts(), dates(), object_ids(), decimal128s()] if usual is None else [st.just(usual)]
    return st.one_of(*ordinary, st.none(), st.just(""), bson_values(max_leaves=3))


def _key_values() -> SearchStrategy[Any]:
    """What a table key can be made of: anything but null, '', arrays and subdocuments."""
    kinds = {name: values for name, values in scalar_kinds().items() if name not in ("null", "string")}
    return st.one_of(texts().map(lambda text: text or "x"), *kinds.values())


def _subdocument(
    tree: Mapping[str, Any], required: set[tuple[str, ...]], rich: bool, path: tuple[str, ...] = ()
) -> SearchStrategy[Document]:
    there: dict[str, SearchStrategy[Any]] = {}
    perhaps: dict[str, SearchStrategy[Any]] = {}
    for name, node in tree.items():
        here = (*path, name)
        needed = rich or any(one[: len(here)] == here for one in required)
        values: SearchStrategy[Any] = node if not isinstance(node, dict) else _subdocument(node, required, rich, here)
        if isinstance(node, dict) and not needed:
            values = st.one_of(values, st.just({}), st.none(), bson_values(max_leaves=3))
        (there if needed else perhaps)[name] = values
    named = st.fixed_dictionaries(there, optional=perhaps)
    return st.builds(lambda strangers, fields: {**strangers, **fields}, _strangers(), named) if path else named


def _children(plan: ItemPlan, rich: bool) -> SearchStrategy[Any]:
    needed = {part.path for part in _own_placeholders(plan.sk)}
    tree: dict[str, Any] = {}
    for source in plan.sources.values():
        _plant(tree, source, _mapped_value())
    for path in needed:
        _plant(tree, path, _key_values())
    element = st.builds(
        lambda strangers, fields: {**strangers, **fields}, _strangers(), _subdocument(tree, needed, rich)
    )
    full = st.lists(element, min_size=1, max_size=3)
    if rich:
        return full
    if not needed:
        full = st.lists(st.one_of(element, st.just({})), min_size=1, max_size=3)
    return st.one_of(full, st.just([]), st.none(), _mixed_array(element), bson_values(max_leaves=3).map(_odd))


def _mixed_array(element: SearchStrategy[Document]) -> SearchStrategy[list[Any]]:
    """An array that makes no children: not all of its elements are subdocuments."""
    return st.builds(lambda one, other: [one, other], element, scalars())


def _odd(value: Any) -> Any:
    """Not an array of subdocuments: random ones would lack the fields of the children's key."""
    makes_children = isinstance(value, list) and value and all(isinstance(element, dict) for element in value)
    return {"children": value} if makes_children else value


def _own_placeholders(template: Template) -> list[Any]:
    return [part for part in template.placeholders if part.source != "index"]
