"""`docferry analyze --prove FILE`: each access pattern on MongoDB and on DynamoDB, side by side, in scratch tables."""

from __future__ import annotations

from pathlib import Path

from docferry.cli.common import EXIT_DIFFERENT, CliProgress, show, stop_on_signals
from docferry.config import load_migration
from docferry.config.price_book import load_price_book
from docferry.core.analyze.proof import ModelProof
from docferry.core.analyze.proof_report import first_lines, proof_files
from docferry.errors import ConfigError, Problem
from docferry.flows.analyze.prove import DOCUMENTS, clean
from docferry.wiring import connections_from_environment
from docferry.wiring_design import analysis_directory
from docferry.wiring_proof import proof_job, run_proof


def prove_file(
    file: Path | None,
    out: Path | None,
    documents: int,
    calls: int,
    only_clean: bool,
    price_book: Path | None,
    as_json: bool,
) -> int:
    """0: all patterns were answered, and no answer differs; 1: not all hold."""
    if file is None:
        problem = Problem(where="--clean", what="needs --prove FILE", suggestion="name the migration file")
        raise ConfigError("docferry analyze", [problem])
    migration = load_migration(file)
    out = out or Path(f"analysis-{migration.source.database}")
    connections = connections_from_environment(migration)
    with stop_on_signals() as stop, CliProgress() as progress:
        most = min(documents, DOCUMENTS)
        book = load_price_book(price_book)
        with proof_job(connections, migration, out, book, progress, stop, documents=most, calls=calls) as job:
            if only_clean:
                removed = clean(job)
                show({"removed": removed}, as_json, f"{len(removed)} scratch tables were removed")
                return 0
            proof = run_proof(connections, job)
    files = analysis_directory(out).leave(proof_files(proof))
    show(proof.counts() | {name: str(path) for name, path in files.items()}, as_json, _told(proof, files["proof.html"]))
    return 0 if proof.ok else EXIT_DIFFERENT


def _told(proof: ModelProof, page: Path) -> str:
    rows = [
        f"  {one.name}: "
        + (
            one.failed
            or f"MongoDB p50 {one.mongodb.p50:,.1f} ms, DynamoDB p50 {one.dynamodb.p50:,.1f} ms, {one.units:,.1f} read units"
        )
        for one in proof.patterns
    ]
    return "\n".join([*first_lines(proof), *rows, f"the table: {page}"])
