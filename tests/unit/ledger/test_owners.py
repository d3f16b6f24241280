"""A table of DynamoDB has one owner, or owners that share it knowingly, with keys that cannot meet."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from docferry.config import Migration, parse_migration
from docferry.core.compare.key_sets import could_make
from docferry.core.compare.ownership import Neighbours
from docferry.core.cutover.modes import Mode
from docferry.core.estate.tables import created_table
from docferry.core.estate.tags import owner_tag
from docferry.core.estate.values import TableSpec, TableState
from docferry.core.mapping.key_templates import parse_template
from docferry.errors import ConditionFailed, PreflightFailed
from docferry.flows.backfill.load import backfill_collection
from docferry.flows.backfill.plan import plan_backfill
from docferry.flows.kernel.job import Job
from docferry.flows.ledger.modes import change_mode, mode_in, mode_record
from docferry.flows.ledger.rooms.owners import (
    claim_tables,
    drop_claim,
    not_owned,
    read_neighbours,
    read_owners,
    require_owned,
)
from docferry.flows.preflight.check import CheckReport, check_ledger
from docferry.flows.provision.release import release_tables
from docferry.flows.provision.run import ownership, provision
from docferry.flows.purge import purge
from docferry.flows.replicate.follower import replicate
from docferry.flows.validate.first_pass import validate
from docferry.flows.validate.repair import repair
from docferry.ports.flows import Record
from docferry.testing.fakes import FakeEstate, FakeLedger, FakeSource, FakeTarget
from docferry.testing.jobs import Quiet, make_job
from docferry.wiring import desired, who

FILE = """
migration: {name}
source: {{database: {database}}}
tables: {{Items: {{indexes: [GSI1], shared: {shared}}}}}
collections:
  docs:
    item:
      entity: {entity}
      key: {{PK: "{pk}", SK: DATA}}
      index: {{GSI1: {{PK: "{gsi}", SK: "{{_id}}"}}}}
"""


def migration(name: str = "one", *, shared: bool = False, database: str = "", **words: str) -> Migration:
    """Its entity and its keys begin with its name, unless told otherwise."""
    given = {"entity": name.upper(), "pk": f"{name.upper()}#{{_id}}", "gsi": f"{name.upper()}BY#{{kind}}"} | words
    text = FILE.format(name=name, database=database or name, shared=str(shared).lower(), **given)
    return parse_migration(text.encode())


def told(of: Migration, ledger: FakeLedger, tables: Callable[[str], TableState | None] | None = None) -> list[str]:
    return [str(one) for one in not_owned(of, ledger, tables)]


def tagged(**owners: str) -> Callable[[str], TableState | None]:
    tags = {tag: value for name, ledger in owners.items() for tag, value in owner_tag(name, ledger).items()}
    return lambda table: created_table(TableSpec(name=table, tags=tags))


# --- the ledger ------------------------------------------------------------------------------------------------------


def test_a_second_migration_is_refused_and_told_whose_the_table_is() -> None:
    ledger = FakeLedger()
    claim_tables(migration("one"), ledger)
    (found,) = told(migration("two"), FakeLedger(ledger))
    assert "table Items: belongs to migration one (database one)" in found
    assert "docferry release FILE --migration one" in found
    with pytest.raises(PreflightFailed, match="belongs to migration one"):
        claim_tables(migration("two"), FakeLedger(ledger))
    assert [one.migration for one in read_owners(ledger, "Items").claims] == ["one"]


def test_owner_itself_is_welcome_again_and_notes_nothing_twice() -> None:
    ledger = FakeLedger()
    claim_tables(migration("one"), ledger)
    first = read_owners(ledger, "Items").record
    claim_tables(migration("one"), ledger)
    assert read_owners(ledger, "Items").record == first
    assert told(migration("one"), ledger) == []


def test_the_same_name_for_another_database_is_refused() -> None:
    ledger = FakeLedger()
    claim_tables(migration("one"), ledger)
    (found,) = told(migration("one", database="copy"), ledger)
    assert "loaded from database one, not copy" in found


def test_two_that_share_knowingly_with_keys_apart_both_own_it() -> None:
    ledger = FakeLedger()
    claim_tables(migration("one", shared=True), ledger)
    claim_tables(migration("two", shared=True), FakeLedger(ledger))
    assert [one.migration for one in read_owners(ledger, "Items").claims] == ["one", "two"]
    assert (told(migration("one", shared=True), ledger), told(migration("two", shared=True), ledger)) == ([], [])
    (found,) = told(migration("one"), ledger)  # its file does not share any more
    assert "belongs to migration two" in found


def test_sharing_takes_the_word_of_both_files() -> None:
    ledger = FakeLedger()
    claim_tables(migration("one"), ledger)
    (found,) = told(migration("two", shared=True), FakeLedger(ledger))
    assert "whose file does not share it" in found


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"pk": "ONE#{_id}"}, "key ONE#{_id} could be the same as ONE#{_id}"),
        ({"pk": "{kind}#{_id}"}, "could be the same as {kind}#{_id}"),
        ({"pk": "ON{_id}"}, ""),
        ({"gsi": "ONEBY#{_id}"}, "key ONEBY#{kind} of GSI1 could be the same as ONEBY#{_id}"),
        ({"entity": "ONE"}, "has items of entity ONE, too"),
    ],
)
def test_sharing_needs_keys_of_tables_and_indexes_and_entities_apart(words: dict[str, str], why: str) -> None:
    ledger = FakeLedger()
    claim_tables(migration("one", shared=True), ledger)
    found = told(migration("two", shared=True, **words), FakeLedger(ledger))
    assert [why in one for one in found] == ([True] if why else [])


def test_a_claim_only_grows_because_items_under_former_keys_may_be_left() -> None:
    ledger = FakeLedger()
    claim_tables(migration("one", shared=True, pk="OLD#{_id}"), ledger)
    claim_tables(migration("one", shared=True), ledger)
    (found,) = told(migration("two", shared=True, pk="OLD#{_id}"), FakeLedger(ledger))
    assert "whose key OLD#{_id} could be the same" in found


def test_of_two_that_claim_at_once_the_second_sees_the_first() -> None:
    class Late(FakeLedger):
        """Between reading and writing another migration is quicker."""

        def write(self, section: str, key: str, body: Mapping[str, Any], **rest: Any) -> Record:
            raise ConditionFailed("another was quicker")

    first = FakeLedger()

    class Between(FakeLedger):
        def of_table(self, table: str) -> FakeLedger:
            view = super().of_table(table)
            if read_owners(first, table).record is None:
                late = Late(first)
                late._records, late._last = dict(view._records), dict(view._last)
                claim_tables(migration("one"), first)
                return late
            return view

    with pytest.raises(PreflightFailed, match="belongs to migration one"):
        claim_tables(migration("two"), Between(first))


# --- the tag ---------------------------------------------------------------------------------------------------------


def test_tag_of_a_migration_in_another_ledger_is_a_refusal() -> None:
    (found,) = told(migration("two", shared=True), FakeLedger(), tagged(one="OtherLedger"))
    assert "belongs to migration one by its tag docferry:owner:one, whose ledger is table OtherLedger" in found
    (found,) = told(migration("one"), FakeLedger(), tagged(one="OtherLedger"))
    assert "whose ledger is table OtherLedger, not DocferryLedger" in found


def test_tag_that_the_ledger_knows_nothing_of_is_a_refusal_and_the_own_one_is_not() -> None:
    (found,) = told(migration("two"), FakeLedger(), tagged(one="DocferryLedger"))
    assert "does not say under which keys" in found
    assert told(migration("one"), FakeLedger(), tagged(one="DocferryLedger")) == []


def test_tag_of_a_migration_that_shares_through_this_ledger_is_none() -> None:
    ledger = FakeLedger()
    claim_tables(migration("one", shared=True), ledger)
    tables = tagged(one="DocferryLedger")
    claim_tables(migration("two", shared=True), FakeLedger(ledger), tables)


# --- everybody asks --------------------------------------------------------------------------------------------------


class Two:
    """Two migrations, one table. `one` owns it, and has loaded three documents."""

    def __init__(self, *, shared: bool, **words: str) -> None:
        self.one, self.two = migration("one", shared=shared), migration("two", shared=shared, **words)
        self.ledger = FakeLedger()
        self.target, self.estate = FakeTarget(), FakeEstate()
        self.target.create_table("Items")
        docs = [{"_id": number, "kind": "k"} for number in range(3)]
        self.sources = {one.name: FakeSource({"docs": docs}) for one in (self.one, self.two)}
        self.load(self.one)

    def job(self, of: Migration) -> Job:
        ledger = self.ledger if of is self.one else FakeLedger(self.ledger)
        if of is self.two:
            ledger = self.second
        return make_job(
            migration=of, source=self.sources[of.name], ledger=ledger, identity=who(of.name), estate=self.estate,
            stop=threading.Event(),
        )  # fmt: skip

    @property
    def second(self) -> FakeLedger:
        if not hasattr(self, "_second"):
            self._second = FakeLedger(self.ledger)
        return self._second

    def load(self, of: Migration) -> None:
        asyncio.run(backfill_collection(self.job(of), self.target, "docs"))

    def items(self) -> list[Any]:
        return sorted(self.target.tables["Items"].items())


def test_load_plan_check_validation_repair_and_purge_refuse_a_table_of_another() -> None:
    world = Two(shared=False)
    before = world.items()
    job = world.job(world.two)
    for act in (
        lambda: world.load(world.two),
        lambda: plan_backfill(job),
        lambda: asyncio.run(validate(job, world.target)),
        lambda: asyncio.run(repair(job, world.target)),
        lambda: asyncio.run(purge(job, world.target, dry_run=True)),
        lambda: require_owned(world.two, world.second),
    ):
        with pytest.raises(PreflightFailed, match="belongs to migration one"):
            act()
    report = CheckReport()
    check_ledger(world.two, world.second, report)
    assert [one.where for one in report.problems] == ["table Items"]
    assert world.items() == before


def test_replication_that_notes_a_claim_reads_the_tag_first() -> None:
    """Loaded by a docferry that noted none, while another file took the table in another ledger."""
    world = Two(shared=False)
    now = world.sources["one"].cluster_time()
    asyncio.run(replicate(world.job(world.one), world.target, until=now))  # noted: the tag is not asked again
    drop_claim(world.ledger, "Items", "one")
    spec = desired(world.one).tables[0]
    world.estate.tables["Items"] = replace(created_table(spec), tags=owner_tag("two", "OtherLedger"))
    with pytest.raises(PreflightFailed, match="belongs to migration two by its tag"):
        asyncio.run(replicate(world.job(world.one), world.target, until=now))
    assert read_owners(world.ledger, "Items").claims == ()


def test_provision_refuses_before_it_touches_a_table_and_its_dry_run_says_so() -> None:
    estate, ledger = FakeEstate(), FakeLedger()
    one, two = migration("one"), migration("two")

    def run(of: Migration, ledger: FakeLedger, *, dry_run: bool = False) -> Any:
        return provision(
            desired(of), estate, dry_run=dry_run, ownership=ownership(of, ledger, estate), progress=Quiet(),
            stop=threading.Event(),
        )  # fmt: skip

    run(one, ledger)
    assert estate.tables["Items"].tags == {"docferry:owner:one": "DocferryLedger"}
    assert not run(one, ledger).changed_anything
    tables = dict(estate.tables)
    assert "belongs to migration one" in run(two, FakeLedger(ledger), dry_run=True).refusals[0]
    with pytest.raises(Exception, match="belongs to migration one"):
        run(two, FakeLedger(ledger))
    with pytest.raises(Exception, match="does not say under which keys"):
        run(two, FakeLedger())  # a ledger that was lost: the tag still says whose it is
    assert estate.tables == tables


def test_table_of_a_docferry_without_tags_gets_its_tag_unasked() -> None:
    estate, of = FakeEstate(), migration("one")
    for spec in desired(of).tables:
        estate.tables[spec.name] = created_table(replace(spec, owner_tag={}))
    ledger = FakeLedger()
    provision(desired(of), estate, ownership=ownership(of, ledger, estate), progress=Quiet(), stop=threading.Event())
    assert estate.tables["Items"].tags == {"docferry:owner:one": "DocferryLedger"}


# --- shared ----------------------------------------------------------------------------------------------------------


def test_each_of_two_that_share_validates_equal_and_repairs_nothing_of_the_other() -> None:
    world = Two(shared=True)
    world.load(world.two)
    before = world.items()
    assert len(before) == 6
    for of in (world.one, world.two):
        report = asyncio.run(validate(world.job(of), world.target))
        assert (report.verdict, report.foreign_keys, report.extra_keys) == ("EQUAL", {}, {})
        assert asyncio.run(repair(world.job(of), world.target)).tombstones == 0
    assert world.items() == before


def test_purge_neither_counts_nor_deletes_tombstones_of_the_other() -> None:
    world = Two(shared=True)
    world.load(world.two)
    live = dict(world.items())["TWO#~i1", "DATA"]
    grave = {name: live[name] for name in ("PK", "SK", "_id", "entityType")}
    grave |= {"_v": {"S": "0" * 21 + "1"}, "_deleted": {"BOOL": True}}
    for number, entity in enumerate(("TWO", "ONE")):  # even if it says that it is one of the purger's
        key = (f"TWO#~i{number}", "DATA")
        world.target.tables["Items"][key] = grave | {"PK": {"S": key[0]}, "entityType": {"S": entity}}
    report = asyncio.run(purge(world.job(world.one), world.target, dry_run=True))
    assert (report.scanned, report.items) == (0, 3)


def test_whose_an_item_is_its_key_says_and_not_its_entity() -> None:
    neighbours = Neighbours({"Items": read_owners(_shared_ledger(), "Items").claims})
    assert neighbours.have("Items", "TWO#5")
    assert not neighbours.have("Items", "ONE#5")
    assert not neighbours.have("Items", "TWO#5#6")
    assert not neighbours.have("Other", "TWO#5")


def _shared_ledger() -> FakeLedger:
    ledger = FakeLedger()
    claim_tables(migration("two", shared=True), ledger)
    return ledger


def test_neighbours_are_those_of_the_other_migrations_alone() -> None:
    ledger = _shared_ledger()
    claim_tables(migration("one", shared=True), FakeLedger(ledger))
    neighbours = read_neighbours(migration("one", shared=True), FakeLedger(ledger))
    assert neighbours.have("Items", "TWO#5")
    assert not neighbours.have("Items", "ONE#5")


@pytest.mark.parametrize(
    ("source", "text", "made"),
    [
        ("A#{x}", "A#1", True),
        ("A#{x}", "A#", True),
        ("A#{x}", "B#1", False),
        ("A#{x}", "A#1#2", False),
        ("A{x}", "AB", True),
        ("A{x}#Z", "AB#Z", True),
        ("A{x}#Z", "AB#ZZ", False),
        ("{x}", "anything", True),
        ("ALL", "ALL", True),
    ],
)
def test_which_template_can_have_made_a_key(source: str, text: str, made: bool) -> None:
    assert could_make(parse_template(source), text) is made


# --- release ---------------------------------------------------------------------------------------------------------


def test_table_that_was_let_go_may_be_claimed_by_another() -> None:
    world = Two(shared=False)
    table = created_table(TableSpec(name="Items", owner_tag=owner_tag("one", "DocferryLedger")))
    world.estate.tables["Items"] = table
    assert release_tables(world.job(world.one)) == ["Items"]
    assert "docferry:owner:one" not in world.estate.tables["Items"].tags
    assert release_tables(world.job(world.one)) == []
    claim_tables(world.two, world.second, world.estate.fetch_table)


def test_table_is_not_let_go_while_dynamodb_serves() -> None:
    world = Two(shared=False)
    job = world.job(world.one)
    record = mode_record(job.ledger)
    change_mode(job.ledger, record, mode_in(record).move(Mode.DUAL_WRITE, 0), job.identity, "test")
    with pytest.raises(PreflightFailed, match="DUAL_WRITE"):
        release_tables(job)
    assert read_owners(world.ledger, "Items").of("one") is not None
