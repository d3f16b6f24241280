"""What a file may not say of a load by import."""

from __future__ import annotations

import re
from collections.abc import Iterator

from docferry.config.checking.overflow import BUCKET_URL
from docferry.config.schema import MigrationFile
from docferry.config.yaml_lines import Lines, Path_, problem_at
from docferry.errors import Problem


def import_problems(file: MigrationFile, lines: Lines) -> Iterator[Problem]:
    """A table that is imported is new, and no other's; AWS tells of imports by the table's ARN."""
    if file.backfill.strategy != "import":
        return
    path: Path_ = ("backfill", "strategy")
    if not re.fullmatch(BUCKET_URL, file.backfill.import_to):
        what = f"is import, from backfill.import_to, which is {file.backfill.import_to or 'not said'!r}"
        yield problem_at(lines, path, what, "write backfill.import_to: s3://bucket/prefix")
    if not file.target.account:
        yield problem_at(lines, path, "is import, which needs target.account", "write the account's number")
    for name, table in file.tables.items():
        if table.shared:
            yield problem_at(lines, path, f"is import, and table {name} is shared with other migrations", "write batch")
    for name, collection in file.collections.items():
        if collection is not None and collection.overflow == "s3":
            what = f"is import, and {name} puts parts beside a table that is there"
            yield problem_at(lines, path, what, "write batch, or overflow: split")
