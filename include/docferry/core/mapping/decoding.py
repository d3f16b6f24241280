"""Items back to their document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from bson.dbref import DBRef

from docferry.core.bson_codec.decode import decode_value
from docferry.core.bson_codec.hints import HintTree
from docferry.core.bson_codec.names import unescape_name
from docferry.core.bson_codec.references import reference_of
from docferry.core.mapping.field_order import Ordering, is_order, pointer_of, stored_orders
from docferry.core.mapping.item_plan import ItemPlan
from docferry.core.mapping.items import Document, Item
from docferry.core.mapping.key_templates import render_value
from docferry.core.mapping.large.overflow import PACKED, PARTS
from docferry.errors import InvariantBroken, ItemsUnreadable


@dataclass(frozen=True, slots=True)
class Decoded:
    """A document read back; `misfits` counts hints and attributes that did not fit and were ignored."""

    document: Document
    misfits: int


def _set(document: Document, path: tuple[str, ...], value: Any) -> bool:
    """Put a value at a path, making subdocuments on the way; False if something else stands there."""
    for step in path[:-1]:
        inner = document.setdefault(step, {})
        if isinstance(inner, DBRef):
            inner = document[step] = dict(inner.as_doc())
        if not isinstance(inner, dict):
            return False
        document = inner
    document[path[-1]] = value
    return True


def _restore_references(document: Document, tree: Mapping[str, Any]) -> None:
    """DBRefs again, of which something had been moved: `tree` holds the ways to what the mapping moves."""
    for step, node in tree.items():
        if type(node) is dict and type(inner := document.get(step)) is dict:
            _restore_references(inner, node)
            document[step] = reference_of(inner)


def _hint_tree(item: Item) -> HintTree:
    stored = item.get("_t", {}).get("M", {})
    return HintTree({pointer: hint["S"] for pointer, hint in stored.items() if "S" in hint and not is_order(pointer)})


def decode_items(
    collection: str,
    root_plan: ItemPlan,
    children: Mapping[str, ItemPlan],
    system: frozenset[str],
    items: Sequence[Item],
    *,
    ordered: bool = False,
) -> Decoded:
    """The document of some items in wire form, in any order; `children` are plans by entity, `system` names of our own.

    `ordered`: its fields, and those of its subdocuments, are put in the order that the items tell of.

    Raises: InvariantBroken if there is no root item among them, or it has no `_id`; ItemsUnreadable, with the document's id, if
            one of them was fitted and what it holds cannot be read.
    """
    roots = [item for item in items if item.get("entityType", {}).get("S") == root_plan.entity]
    if len(roots) != 1:
        raise InvariantBroken(f"{collection}: {len(roots)} root items among {len(items)}, expected one")
    root = roots[0]
    if "_id" not in root:
        raise InvariantBroken(f"{collection}: a root item without _id")
    tree = _hint_tree(root)
    document: Document = {}
    id_node = tree.root.get("_id")
    document["_id"] = decode_value(root["_id"], id_node, tree, "oid")
    if PACKED in system and any(name in item for item in items for name in {PACKED, PARTS} & system):
        text = f"{collection}: what an item of the document holds compressed cannot be read"
        raise ItemsUnreadable(text, namespace=collection, id=render_value(document["_id"]), path=PACKED)
    misfits = _read_fields(root_plan, root, document, tree, system)
    arrays: dict[tuple[str, ...], list[tuple[Decimal, Document]]] = {}
    for item in items:
        plan = children.get(item.get("entityType", {}).get("S", ""))
        if plan is None:
            continue
        child_tree = _hint_tree(item)
        element: Document = {}
        misfits += _read_fields(plan, item, element, child_tree, system) + child_tree.misfits
        position = item.get("_i", {}).get("N")
        misfits += position is None
        if ordered:
            ordering = Ordering(stored_orders(item))
            element = ordering.of_element(element)
            misfits += ordering.misfits
        arrays.setdefault(plan.path, []).append((Decimal(position or "Infinity"), element))
    for path, elements in arrays.items():
        elements.sort(key=lambda pair: pair[0])
        misfits += not _set(document, path, [reference_of(element) for _, element in elements])
    _restore_references(document, root_plan.tree)
    if ordered:
        ordering = Ordering(stored_orders(root))
        document = ordering.of_document(document, list(map(pointer_of, arrays)))
        misfits += ordering.misfits
    return Decoded(document, misfits + tree.misfits)


def _read_fields(plan: ItemPlan, item: Item, document: Document, tree: HintTree, system: frozenset[str]) -> int:
    moved: list[tuple[tuple[str, ...], Any]] = []
    for attribute, value in item.items():
        if attribute in system or attribute == "_id":
            continue
        source = plan.sources.get(attribute)
        if source is not None and source[0] == "_id" and not plan.path:
            continue  # a copy: the id itself is `_id`
        decoded = decode_value(value, tree.root.get(attribute), tree, plan.declared.get(attribute))
        if source is None:
            document[unescape_name(attribute)] = decoded
        else:
            moved.append((source, decoded))
    # Moved fields last: the rest of their subdocument may have stayed under its own name.
    misfits = sum(not _set(document, path, value) for path, value in moved)
    if plan.path:
        _restore_references(document, plan.tree)
    return misfits
