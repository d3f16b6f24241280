"""Two migration files and one real table: the second is refused, or shares it knowingly and touches nothing of the first."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docferry
import pytest
from docferry.config import parse_migration
from docferry.errors import EstateDrift, PreflightFailed
from docferry.flows.ledger.rooms.owners import claim_tables, not_owned
from docferry.flows.provision.report import ProvisionReport
from docferry.flows.provision.run import ownership, provision
from docferry.flows.purge import purge
from docferry.testing.jobs import Quiet, change_job
from docferry.wiring import desired
from support.backfill.rig import Rig
from support.validate.planting import at_once, job_of, repair, validate, with_target

__all__ = ["at_once"]

pytestmark = pytest.mark.usefixtures("at_once")
DOCUMENTS = 3


class Files:
    """Migration files of one table and one ledger, each with three documents in a database of its own."""

    def __init__(self, env: dict[str, str], folder: Path) -> None:
        self.env, self.folder, self.mark = env, folder, uuid.uuid4().hex[:8]
        self.rigs: list[Rig] = []

    def file(self, name: str, *, shared: bool, word: str = "", ledger: str = "Ledger") -> Rig:
        word = word or name.upper()
        text = f"""
migration: {name}
source: {{database: {name}{self.mark}}}
ledger: {{table: {ledger}{self.mark}}}
backfill: {{budget_wcu: 0}}
tables: {{Shared{self.mark}: {{indexes: [GSI1], shared: {str(shared).lower()}}}}}
collections:
  docs:
    item:
      entity: {name.upper()}
      key: {{PK: "{word}#{{_id}}", SK: DATA}}
      index: {{GSI1: {{PK: "{word}BY#{{kind}}", SK: "{{_id}}"}}}}
"""
        path = self.folder / f"{name}.yaml"
        path.write_text(text)
        rig = Rig(self.env, path, parse_migration(path.read_bytes(), str(path)))
        self.rigs.append(rig)
        if not rig.database["docs"].count_documents({}):
            rig.database["docs"].insert_many([{"_id": number, "kind": "k"} for number in range(DOCUMENTS)])
        return rig

    def close(self) -> None:
        for rig in self.rigs:
            rig.close()


@pytest.fixture
def files(stack_env: dict[str, str], tmp_path: Path) -> Iterator[Files]:
    made = Files(stack_env, tmp_path)
    yield made
    made.close()


def provisioned(rig: Rig, *, dry_run: bool = False) -> ProvisionReport:
    estate = rig.estate()
    return provision(
        desired(rig.migration), estate, dry_run=dry_run, ownership=ownership(rig.migration, rig.ledger, estate),
        progress=Quiet(), stop=threading.Event(),
    )  # fmt: skip


def tags(rig: Rig) -> dict[str, str]:
    state = rig.estate().fetch_table(rig.table)
    assert state is not None
    return dict(state.tags)


def refused(act: Callable[[], Any]) -> None:
    with pytest.raises((PreflightFailed, EstateDrift), match="belongs to migration first"):
        act()


def test_second_file_is_refused_by_everything_that_would_write_judge_or_connect(files: Files) -> None:
    first = files.file("first", shared=False)
    provisioned(first)
    assert not provisioned(first).changed_anything
    first.load()
    before = first.scan()
    assert tags(first)["docferry:owner:first"] == first.migration.ledger.table
    second = files.file("second", shared=False, word="FIRST")  # the very keys of the first
    assert "belongs to migration first" in provisioned(second, dry_run=True).refusals[0]
    refused(lambda: provisioned(second))
    refused(second.load)
    refused(lambda: validate(second))
    refused(lambda: repair(second))
    refused(lambda: docferry.connect(second.file))
    refused(lambda: claim_tables(second.migration, second.ledger))  # as replication does
    elsewhere = files.file("second", shared=True, ledger="Other")
    found = [str(one) for one in not_owned(elsewhere.migration, elsewhere.ledger, elsewhere.estate().fetch_table)]
    assert ["by its tag docferry:owner:first" in one for one in found] == [True]
    refused(lambda: provisioned(elsewhere))
    assert (first.scan(), "docferry:owner:second" in tags(first)) == (before, False)


def test_files_that_share_load_validate_and_leave_what_is_the_others(files: Files) -> None:
    both = [files.file(name, shared=True) for name in ("first", "second")]
    for rig in both:
        provisioned(rig)
        rig.load()
    first, second = both
    assert {name for name in tags(first) if "owner" in name} == {"docferry:owner:first", "docferry:owner:second"}
    before = first.scan()
    assert len(before) == 2 * DOCUMENTS
    for rig in both:
        report = validate(rig)
        assert (report.verdict, report.foreign, sum(one.items for one in report.collections)) == ("EQUAL", 0, DOCUMENTS)
        assert repair(rig).tombstones == 0
    assert first.scan() == before
    grave = before["SECOND#~i1", "DATA"] | {"_deleted": {"BOOL": True}, "_v": {"S": "1".rjust(22, "0")}}
    second.dynamodb.put_item(TableName=second.table, Item=grave)
    told = with_target(first, lambda target: purge(change_job(job_of(first)), target, dry_run=True))
    assert (told.scanned, told.items) == (0, DOCUMENTS)
    overlapping = files.file("third", shared=True, word="FIRST")
    with pytest.raises(EstateDrift, match=r"whose key FIRST#\{_id\} could be the same as FIRST#\{_id\}"):
        provisioned(overlapping)
