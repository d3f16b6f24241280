"""What does not fit DynamoDB, or costs much there, each with the documents or calls that show it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from docferry.core.analyze.facts import CollectionFacts, DatabaseFacts, IndexFacts, PathFacts, Risk
from docferry.core.limits import ITEM_BYTES, NEW_TABLE_WRU_PER_S, PARTITION_WRU_PER_S, TRANSACTION_ITEMS

HOT = PARTITION_WRU_PER_S / NEW_TABLE_WRU_PER_S
"""A value that more than this share of the documents has gets more than a partition takes in a load at a new table's rate."""
HEAT_FROM = 500
"""Documents from which on a heavy value matters."""
LONG_ARRAY = 1_000
SPECIAL = {
    "text": "a text index",
    "2dsphere": "a geo index",
    "2d": "a geo index",
    "hashed": "a hashed index",
}


def risks_of(facts: DatabaseFacts) -> list[Risk]:
    """All of them, the worst first."""
    found = [risk for collection in facts.collections for risk in _of_collection(collection)]
    found += _crossing(facts)
    order = {"blocks": 0, "decide": 1, "know": 2}
    return sorted(found, key=lambda one: (order[one.severity], one.collection, one.subject))


def _of_collection(facts: CollectionFacts) -> Iterator[Risk]:
    if facts.kind != "collection":
        yield Risk(
            severity="blocks",
            collection=facts.name,
            subject=facts.kind,
            what=f"is a {facts.kind}, not a collection",
            evidence="listCollections",
            advice="leave it out; what it computes is computed by the application, or kept as items of their own",
        )
        return
    yield from _sizes(facts)
    yield from _kind(facts)
    for path in facts.paths:
        yield from _path(facts, path)
    for index in facts.indexes:
        yield from _index(facts, index)
    yield from _calls(facts)


def _sizes(facts: CollectionFacts) -> Iterator[Risk]:
    share = f"{facts.over_item_limit:.1%} of {facts.sampled:,} sampled documents; the largest: {facts.item_bytes.max:,.0f} bytes"
    if facts.over_item_limit:
        yield Risk(
            severity="blocks",
            collection=facts.name,
            subject="size",
            what=f"has documents over DynamoDB's {ITEM_BYTES:,} bytes an item",
            evidence=share,
            advice="split what grows into children, let the file compress it or keep it in parts "
            "(overflow: compress, overflow: split), or keep it in S3; "
            "until then these documents are dead letters",
        )
    elif facts.item_bytes.max > 0.5 * ITEM_BYTES:
        yield Risk(
            severity="decide",
            collection=facts.name,
            subject="size",
            what="has documents that are more than half of DynamoDB's limit for an item",
            evidence=f"the largest is {facts.item_bytes.max:,.0f} bytes, p99 {facts.item_bytes.p99:,.0f}",
            advice="find what grows before it reaches the limit",
        )
    for reason, count in facts.unstorable.items():
        yield Risk(
            severity="blocks",
            collection=facts.name,
            subject="values",
            what=f"has documents that DynamoDB cannot hold ({reason})",
            evidence=f"{count:,} of {facts.sampled:,} sampled documents",
            advice="they become dead letters with their path; mend them in MongoDB before or after the load",
        )


def _kind(facts: CollectionFacts) -> Iterator[Risk]:
    if facts.capped:
        yield Risk(
            severity="blocks",
            collection=facts.name,
            subject="capped",
            what="is capped: MongoDB removes its oldest documents without a change event",
            evidence="listCollections",
            advice="copy it into an ordinary collection, or map it with a TTL",
        )
    if facts.validator:
        yield Risk(
            severity="know",
            collection=facts.name,
            subject="validator",
            what="has a validator, which DynamoDB does not",
            evidence="listCollections",
            advice="the application checks documents before it writes them",
        )


def _path(facts: CollectionFacts, path: PathFacts) -> Iterator[Risk]:
    if path.lengths is not None and (path.grows or path.lengths.max > LONG_ARRAY):
        yield Risk(
            severity="decide",
            collection=facts.name,
            subject=path.path,
            what="is an array without a bound" if path.grows else "is a very long array",
            evidence=f"p50 {path.lengths.p50:,.0f}, p99 {path.lengths.p99:,.0f}, max {path.lengths.max:,.0f} elements"
            + ("; older documents have longer ones" if path.grows else ""),
            advice="give its elements items of their own: children, or a collection with the parent's id",
        )
    elif path.lengths is not None and path.lengths.max >= TRANSACTION_ITEMS:
        yield Risk(
            severity="know",
            collection=facts.name,
            subject=path.path,
            what=f"has more elements than a transaction has items ({TRANSACTION_ITEMS})",
            evidence=f"max {path.lengths.max:,.0f} elements",
            advice="keep it inside its item; as children such a document could not be written in one transaction",
        )
    yield from _heat(facts, path)
    yield from _order(facts, path)
    if path.repeats:
        yield Risk(
            severity="decide",
            collection=facts.name,
            subject=path.path,
            what="looks like an identifier, and is not unique",
            evidence=f"{path.repeats:,} of its values are in several documents",
            advice="mend them before a key or a unique index is made of it; docferry's key stays apart by _id",
        )
    if path.path.endswith(".*") or path.path == "*":
        yield Risk(
            severity="decide",
            collection=facts.name,
            subject=path.path,
            what="has field names that are data",
            evidence=f"more different names than can be told apart; {path.present:.0%} of the parents",
            advice="store pairs of name and value, or children; an index cannot lead to a name",
        )
    if path.mixed and "[]" not in path.path:
        kinds = ", ".join(f"{name} {share:.1%}" for name, share in path.types.items())
        indexed = any(path.path in index.fields for index in facts.indexes)
        yield Risk(
            severity="decide" if indexed else "know",
            collection=facts.name,
            subject=path.path,
            what="holds values of several types" + (", and an index leads over it" if indexed else ""),
            evidence=kinds,
            advice="bring them to one type, or keys made of this field do not sort as MongoDB sorts them",
        )
    looks = max(path.looks.items(), key=lambda one: one[1], default=None)
    if looks is not None and looks[0] in ("number", "date") and looks[1] > 0.5 and path.type == "string":
        yield Risk(
            severity="know",
            collection=facts.name,
            subject=path.path,
            what=f"is a {looks[0]} that is stored as text",
            evidence=f"{looks[1]:.0%} of its values; {path.empty:.1%} are empty",
            advice="DynamoDB sorts it as text, as MongoDB does; a number needs leading zeros to sort as one",
        )
    if path.empty and any(path.path in index.fields for index in facts.indexes):
        yield Risk(
            severity="decide",
            collection=facts.name,
            subject=path.path,
            what="is empty in some documents, and an index leads over it",
            evidence=f"{path.empty:.1%} are ''",
            advice="an item with an empty key is not in the index: a query for '' finds nothing there",
        )


def _heat(facts: CollectionFacts, path: PathFacts) -> Iterator[Risk]:
    """Values that would be a hot partition of an index, where the field is one that an index could lead over."""
    indexed = any(index.fields[0] == path.path for index in facts.indexes)
    asked = sum(shape.calls for shape in facts.shapes if path.path in shape.equality)
    if facts.documents < HEAT_FROM or not (indexed or asked or path.type == "objectId") or path.path == "_id":
        return
    hot = hot_values(path)
    if hot:
        yield Risk(
            severity="decide" if indexed or asked else "know",
            collection=facts.name,
            subject=path.path,
            what="has values that are a hot partition if an index leads over it: it throttles the table itself, too",
            evidence="; ".join(hot) + (f"; {asked:,} calls ask by it" if asked else ""),
            advice="add a field to the partition key that spreads them, or load and write them at a lower rate",
        )


def _order(facts: CollectionFacts, path: PathFacts) -> Iterator[Risk]:
    """A subdocument that is compared as a whole."""
    names = [index.name for index in facts.indexes if path.path in index.fields]
    asked = sum(shape.calls for shape in facts.shapes if path.path in shape.equality)
    if path.type != "object" or path.path == "_id" or not (names or asked):
        return
    told = [f"{asked:,} calls ask by it"] * bool(asked) + [f"index {name} leads over it" for name in names]
    yield Risk(
        severity="decide",
        collection=facts.name,
        subject=path.path,
        what="is a subdocument that is compared as a whole: MongoDB minds the order of its fields, DynamoDB has none",
        evidence="; ".join(told),
        advice="ask by its fields; or let the file keep their order (order: keep), which is not the default",
    )


def _index(facts: CollectionFacts, index: IndexFacts) -> Iterator[Risk]:
    for field, kind in index.keys:
        if kind in SPECIAL or "$**" in field:
            what = SPECIAL.get(kind, "a wildcard index")
            yield Risk(
                severity="decide",
                collection=facts.name,
                subject=index.name,
                what=f"has {what}, for which DynamoDB has nothing",
                evidence=_uses(index.uses, index.since),
                advice="a search engine beside DynamoDB (OpenSearch by its zero-ETL integration), or a key made for the question",
            )
    if index.ttl_s is not None:
        yield Risk(
            severity="know",
            collection=facts.name,
            subject=index.name,
            what=f"removes documents {index.ttl_s:,} s after {index.fields[0]}",
            evidence="expireAfterSeconds",
            advice="its removals reach DynamoDB while MongoDB leads; from the change of leader on the application removes them",
        )
    if index.collation:
        yield Risk(
            severity="decide",
            collection=facts.name,
            subject=index.name,
            what="compares by a collation; DynamoDB compares bytes",
            evidence=_uses(index.uses, index.since),
            advice="keep a lower-case copy of the field and make the key of it",
        )
    if index.unique and index.name != "_id_":
        yield Risk(
            severity="know",
            collection=facts.name,
            subject=index.name,
            what=f"keeps {', '.join(index.fields)} unique"
            + (" in a part of the documents" if index.partial or index.sparse else ""),
            evidence=_uses(index.uses, index.since),
            advice="the proposed file says how it is kept, by the table's key or by an item of each value (unique), and why",
        )


def _calls(facts: CollectionFacts) -> Iterator[Risk]:
    for shape in facts.shapes:
        if any(one.startswith("$") or " $" in one for one in shape.other) and shape.kind != "aggregate":
            yield Risk(
                severity="decide",
                collection=facts.name,
                subject=f"{shape.kind} by {', '.join(shape.other)}",
                what="is a query that no key answers",
                evidence=f"{shape.calls:,} calls, {shape.ms / shape.calls:.1f} ms each ({shape.source})",
                advice="give it an access pattern, or leave it to a search engine",
            )


def _crossing(facts: DatabaseFacts) -> Iterator[Risk]:
    for one in facts.references:
        if one.fan_out.max >= 1_000:
            yield Risk(
                severity="know",
                collection=one.collection,
                subject=one.path,
                what=f"has many documents for one of {one.target}: one partition holds them all if they are kept with it",
                evidence=f"p50 {one.fan_out.p50:,.0f}, max {one.fan_out.max:,.0f} documents a value",
                advice="a page at a time, and a sort key that leads to the ones that are asked for",
            )


def hot_values(path: PathFacts | None) -> Sequence[str]:
    """The values that are a hot partition as a partition key of a table or an index, in words."""
    heavy = path.heavy if path is not None else ()
    return [f"{one.shown} has {one.share:.0%} of the documents" for one in heavy if one.share >= HOT]


def _uses(uses: int | None, since: str) -> str:
    return "its use is not known" if uses is None else f"used {uses:,} times since {since}"
