"""What a report may show: values of masked fields stay out of it, also where they are part of something else. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from docferry.core.mapping.guards import GuardPlan
from docferry.core.mapping.item_plan import ItemPlan
from docferry.core.mapping.items import ItemKey
from docferry.core.mapping.key_templates import Template
from docferry.core.mapping.mapping import DocumentMapping

MASKED = "(masked)"
Masks = tuple[str, ...]


def is_masked(path: str, masked: Masks) -> bool:
    """Whether the value at a document path shows something masked: it is masked, below a mask, or holds one.

    Steps that are numbers do not count: `addresses.street` masks `addresses.0.street`. A field that is named with digits
    is masked together with its neighbours that are, which is the safe side.
    """
    plain = _without_numbers(path)
    return any(_covers(mask, plain) or _covers(plain, mask) for mask in map(_without_numbers, masked))


def _covers(outer: str, inner: str) -> bool:
    return inner == outer or inner.startswith(outer + ".")


def _without_numbers(path: str) -> str:
    return ".".join(step for step in path.split(".") if not step.isdigit())


def shown_id(id_text: str, masked: Masks) -> str:
    """A document's id for a report."""
    return MASKED if id_text and is_masked("_id", masked) else id_text


def is_masked_key(plan: ItemPlan, attribute: str, masked: Masks) -> bool:
    """Whether an index key attribute is made of a masked field."""
    for index in plan.indexes:
        for name, template in ((index.pk_name, index.pk), (index.sk_name, index.sk)):
            if attribute == name:
                return _is_made_of_masked(template, plan.path, masked)
    return False


def shown_key(plan: ItemPlan, key: ItemKey, masked: Masks) -> ItemKey:
    """An item's key for a report; the template itself where its text would show a masked field."""
    if not masked:
        return key
    pk, sk = key
    return (
        plan.pk.source if _is_made_of_masked(plan.pk, (), masked) else pk,  # a child has its parent's partition
        plan.sk.source if _is_made_of_masked(plan.sk, plan.path, masked) else sk,
    )


def shown_key_of(mapping: DocumentMapping, entity: str, key: ItemKey, masked: Masks) -> ItemKey:
    """The same of an item that the mapping makes, by its `entityType`."""
    guard = mapping.unique.get(entity)
    if guard is None:
        return shown_key(mapping.children.get(entity, mapping.root), key, masked)
    return (f"{entity}#{MASKED}" if _guards_masked(guard, masked) else key[0]), key[1]


def _guards_masked(guard: GuardPlan, masked: Masks) -> bool:
    return any(is_masked(name, masked) for name in guard.settings.fields)


def shown_strange_key(mappings: Iterable[DocumentMapping], key: ItemKey, masked: Masks) -> ItemKey:
    """The key of an item that no mapping owns. It is hidden where it looks like one that is made of a masked field."""
    if not masked:
        return key
    pk, sk = key
    mappings = list(mappings)
    for guard in (guard for mapping in mappings for guard in mapping.unique.values()):
        if pk.startswith(guard.entity) and _guards_masked(guard, masked):
            return f"{guard.entity}#{MASKED}", sk
    for plan in _plans(mappings):
        hidden = shown_key(plan, key, masked)
        if hidden[0] != key[0] and key[0].startswith(_literal_start(plan.pk)):
            pk = hidden[0]
        if hidden[1] != key[1] and key[1].startswith(_literal_start(plan.sk)):
            sk = hidden[1]
    return pk, sk


def _plans(mappings: Iterable[DocumentMapping]) -> Iterator[ItemPlan]:
    for mapping in mappings:
        yield mapping.root
        yield from mapping.children.values()


def _literal_start(template: Template) -> str:
    return template.source.partition("{")[0]


def _is_made_of_masked(template: Template, path: tuple[str, ...], masked: Masks) -> bool:
    return bool(masked) and any(is_masked(".".join((*path, field)), masked) for field in template.fields)
