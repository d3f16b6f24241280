"""The proof of a model as a page, as Markdown and as JSON. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict

from docferry.core.analyze.proof import MULTIPLES, Heat, Latency, ModelProof, PatternProof
from docferry.core.pages import Table, html_page, markdown_page

SCHEMA = 1
FILES = ("proof.html", "proof.md", "proof.json")
SHOWS = (
    "What this shows: that each access pattern is answered by the model with the documents that MongoDB gives, in how many "
    "requests, reading how many items, for how many read units by the sizes of what was read."
)
EMULATOR = (
    "What an emulator cannot show: DynamoDB's latency (an emulator's says nothing about AWS, in either direction), throttling, "
    "hot partitions, what a replica or a cache adds, and units where the emulator does not count them. The columns of DynamoDB's "
    "milliseconds are for comparing patterns with one another here, not for a promise."
)
AWS = "What a sample cannot show: partitions as large as yours will be, and calls that come at the same time as others."
FEWER = (
    "Documents that DynamoDB does not give by an index are not in it: a field of the index's key is missing, null or empty "
    "there, or has another type than the one asked for."
)
HEAT = (
    "What is computed and not measured: heat and cost at 1, 10 and 100 times are today's share of the heaviest partition, and "
    "today's calls, multiplied. A shape of the traffic that changes as it grows is not in it."
)


def proof_files(proof: ModelProof) -> dict[str, str]:
    """Name -> content."""
    return {"proof.html": proof_html(proof), "proof.md": proof_markdown(proof), "proof.json": proof_json(proof)}


def proof_json(proof: ModelProof) -> str:
    """Everything, with a schema number."""
    return json.dumps({"schema": SCHEMA, "ok": proof.ok, **asdict(proof)}, indent=1)


def proof_markdown(proof: ModelProof) -> str:
    return markdown_page(f"Proof of the model {proof.migration}", first_lines(proof), tables_of_proof(proof))


def proof_html(proof: ModelProof) -> str:
    about = (
        f"{proof.database}, {sum(one.documents for one in proof.samples):,} documents in scratch tables "
        f"({proof.endpoint or 'AWS'}), {proof.seconds:,.0f} s from {proof.began}"
    )
    return html_page(f"Proof of the model {proof.migration}", about, first_lines(proof), tables_of_proof(proof))


def first_lines(proof: ModelProof) -> list[str]:
    """What to read first."""
    failed = [one.name for one in proof.patterns if one.failed]
    different = [one.name for one in proof.patterns if one.different]
    hot = [one for one in proof.heat if one.load(1) >= 1]
    lines = [
        f"{len(proof.patterns)} access patterns were asked on both sides: "
        + ("all were answered, and no answer differs." if proof.ok else "not all hold."),
        *(f"Not answered: {name}." for name in failed),
        *(f"Other documents than MongoDB gives: {name}." for name in different),
        *([FEWER] if any(one.missing for one in proof.patterns) else []),
        *(
            f"Hot already: {one.collection} in {one.where}: {_percent(one.load(1))} of what a partition gives."
            for one in hot
        ),
        "A month on demand: "
        + ", ".join(f"{usd:,.2f} USD at {multiple}x" for multiple, usd in proof.usd.items())
        + f" of today's data and calls ({proof.book}).",
    ]
    limits = [EMULATOR if proof.endpoint else AWS, HEAT]
    return [*lines, SHOWS, *limits, *proof.notes]


def tables_of_proof(proof: ModelProof) -> Iterator[Table]:
    """Side by side; what it reads; heat; the sample."""
    side = "milliseconds (p50 / p95 / p99)"
    yield Table(
        title="Side by side",
        head=("access pattern", "by", "calls", f"MongoDB, {side}", f"DynamoDB, {side}", "documents", "answers"),
        rows=[
            (
                one.name, one.by, f"{one.dynamodb.calls:,}", _three(one.mongodb), _three(one.dynamodb),
                f"{one.documents_mongodb:,.1f} / {one.documents_dynamodb:,.1f}", _answers(one),
            )
            for one in proof.patterns
        ],
        note="Documents: a call's, on MongoDB and on DynamoDB. MongoDB was asked in its place, DynamoDB in scratch tables.",
        numbers=frozenset({2, 3, 4, 5}),
    )  # fmt: skip
    yield Table(
        title="What a call reads in DynamoDB",
        head=(
            "access pattern", "requests", "items read", "items read a document", "read units", "as the server says",
            "USD a million",
        ),
        rows=[
            (
                one.name, f"{one.pages:,.1f}", f"{one.items_read:,.1f}", f"{one.items_a_document:,.2f}", f"{one.units:,.1f}",
                f"{one.units_told:,.1f}", f"{proof.read_million * one.units:,.2f}",
            )
            for one in proof.patterns
            if not one.failed
        ],
        note="Read units are computed from the sizes of the items read; an emulator's own count may be a constant.",
        numbers=frozenset({1, 2, 3, 4, 5, 6}),
    )  # fmt: skip
    yield Table(
        title="Heat of the heaviest partition",
        head=(
            "collection",
            "in",
            "partitions",
            "share of documents",
            "writes/s",
            "reads/s",
            *(f"at {n}x" for n in MULTIPLES),
        ),
        rows=[_heat(one) for one in proof.heat],
        note="Units a second of one partition, by today's calls, as if all reads of the collection came that way; and how full "
        "it is of 1,000 write or 3,000 read units. Above 100 % it throttles.",
        numbers=frozenset(range(2, 6 + len(MULTIPLES))),
    )
    yield Table(
        title="What was loaded",
        head=("collection", "documents", "of", "items", "cannot be stored"),
        rows=[
            (one.collection, f"{one.documents:,}", f"{one.of:,}", f"{one.items:,}", f"{one.refused:,}")
            for one in proof.samples
        ],
        numbers=frozenset({1, 2, 3, 4}),
    )


def _heat(one: Heat) -> tuple[str, ...]:
    return (
        one.collection, one.where, f"{one.partitions:,}", _percent(one.share), f"{one.write_units_s:,.2f}",
        f"{one.read_units_s:,.2f}", *(_percent(one.load(multiple)) for multiple in MULTIPLES),
    )  # fmt: skip


def _answers(one: PatternProof) -> str:
    if one.failed:
        return f"not answered: {one.failed}"
    if one.different:
        side = [f"{one.missing:,} documents fewer"] if one.missing else []
        side += [f"{one.more:,} more"] if one.more else []
        return f"{one.different} of {one.same + one.different} differ: DynamoDB gave {' and '.join(side)}"
    return f"{one.same} equal" if one.same else "not compared: not all was loaded, or the answer is longer than a page"


def _three(one: Latency) -> str:
    return f"{one.p50:,.1f} / {one.p95:,.1f} / {one.p99:,.1f}" if one.calls else ""


def _percent(share: float) -> str:
    return f"{share:.2%}" if share < 0.1 else f"{share:,.0%}"
