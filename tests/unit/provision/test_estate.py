"""The rules by which an estate is planned: pure values in, steps and differences out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from docferry.core.estate.dax import plan_dax
from docferry.core.estate.dax_state import DaxClusterState, DaxGroupState, DaxState
from docferry.core.estate.keys import keys_of
from docferry.core.estate.plan import desired_estate, plan_estate
from docferry.core.estate.replicas import check_replicable, plan_replica, replica_key
from docferry.core.estate.resources import MARKER
from docferry.core.estate.tables import created_table, plan_table, predict_table
from docferry.core.estate.values import (
    REPLICA_MARKER,
    Action,
    ActualEstate,
    DaxSpec,
    EstatePlan,
    IndexState,
    LedgerTableSpec,
    ReplicaSpec,
    TableSpec,
    TableState,
    spec_digest,
)
from docferry.core.settings import Billing, Capacity, DaxSettings, LedgerSettings, TableSettings, TargetSettings
from docferry.errors import ConfigError
from hypothesis import given
from hypothesis import strategies as st

SHOP = TableSpec(name="Shop", indexes=("GSI1", "GSI2"), tags={"Project": "migration"})
SCALED = replace(
    SHOP,
    billing="provisioned",
    capacity=Capacity(read_units=5, write_units=6, max_read_units=50, max_write_units=60),
)


def after(spec: TableSpec, state: TableState | None = None) -> TableState:
    """The state once every step of the plan has been taken."""
    for step in plan_table(spec, state).steps:
        state = predict_table(state, step)
    assert state is not None
    return state


def actions(plan: EstatePlan) -> list[Action]:
    return [step.action for step in plan.steps]


# --- a new table -----------------------------------------------------------------------------------------------------


def test_plan_when_nothing_exists_shows_every_step_and_needs_no_permission() -> None:
    plan = plan_table(SHOP, None)
    assert actions(plan) == [Action.CREATE_TABLE, Action.SET_PITR, Action.SET_TTL, Action.FINISH]
    assert plan.differences == ()
    assert plan.refusals(allow_changes=False) == ()


def test_plan_of_a_provisioned_table_scales_table_and_indexes_in_both_dimensions() -> None:
    scaled = [step.detail for step in plan_table(SCALED, None).steps if step.action is Action.SET_SCALING]
    assert scaled == ["/read", "/write", "GSI1/read", "GSI1/write", "GSI2/read", "GSI2/write"]


def test_desired_estate_starts_with_the_ledger_and_knows_the_replicas() -> None:
    tables = [TableSettings(name="Shop", indexes=("GSI1",))]
    desired = desired_estate(tables, LedgerSettings(), TargetSettings(replicas=("eu-west-1", "eu-west-2")))
    ledger = desired.tables[0]
    assert ledger == LedgerTableSpec(name="DocferryLedger")
    assert (ledger.indexes, ledger.pitr, ledger.encryption, ledger.deletion_protection) == ((), True, "KMS", True)
    assert (ledger.billing, ledger.stream, ledger.ttl_attribute) == ("on_demand", False, "_ttl")
    assert [(r.table.name, r.region) for r in desired.replicas] == [("Shop", "eu-west-1"), ("Shop", "eu-west-2")]


def test_desired_estate_when_names_collide_or_capacity_is_missing_reports_both() -> None:
    tables = [TableSettings(name="DocferryLedger"), TableSettings(name="P", billing="provisioned")]
    with pytest.raises(ConfigError) as caught:
        desired_estate(tables, LedgerSettings(), TargetSettings())
    assert [problem.where for problem in caught.value.problems] == ["DocferryLedger", "tables.P"]


# --- drift -----------------------------------------------------------------------------------------------------------

DRIFTED: dict[str, tuple[dict[str, Any], Action]] = {
    "pitr": ({"pitr": False}, Action.SET_PITR),
    "protection": ({"deletion_protection": False}, Action.SET_PROTECTION),
    "stream off": ({"stream": None}, Action.SET_STREAM),
    "encryption": ({"encryption": "AWS_OWNED"}, Action.SET_ENCRYPTION),
    "ttl off": ({"ttl_attribute": None}, Action.SET_TTL),
    "tag": ({"tags": {"Project": "other"}}, Action.SET_TAGS),
    "billing": ({"billing": "provisioned", "read_units": 1, "write_units": 1}, Action.SET_BILLING),
    "index": ({"indexes": (IndexState(name="GSI1", keys=keys_of(SHOP.design("GSI1").key)),)}, Action.ADD_INDEX),
}


@pytest.mark.parametrize("name", DRIFTED)
def test_plan_when_a_table_drifted_in_place_needs_permission(name: str) -> None:
    fields, action = DRIFTED[name]
    plan = plan_table(SHOP, replace(after(SHOP), **fields))
    assert actions(plan) == [action]
    assert len(plan.differences) == 1
    assert plan.refusals(allow_changes=False) == plan.differences
    assert plan.refusals(allow_changes=True) == ()


FIXED: dict[str, dict[str, Any]] = {
    "keys": {"keys": (("id", "HASH", "S"),)},
    "key type": {"keys": (("PK", "HASH", "N"), ("SK", "RANGE", "S"))},
    "stream view": {"stream": "KEYS_ONLY"},
    "other ttl": {"ttl_attribute": "expires"},
    "index keys": {"indexes": (IndexState(name="GSI1", keys=(("a", "HASH", "S"),)), after(SHOP).indexes[1])},
    "projection": {"indexes": (replace(after(SHOP).indexes[0], projection="KEYS_ONLY"), after(SHOP).indexes[1])},
}


@pytest.mark.parametrize("name", FIXED)
def test_plan_when_a_difference_cannot_be_mended_in_place_refuses_even_with_permission(name: str) -> None:
    plan = plan_table(SHOP, replace(after(SHOP), **FIXED[name]))
    assert plan.steps == ()
    assert len(plan.refusals(allow_changes=True)) == 1


def test_plan_when_an_index_is_extra_reports_it_and_never_deletes() -> None:
    extra = IndexState(name="ByHand", keys=(("x", "HASH", "N"),))
    state = replace(after(SHOP), indexes=(*after(SHOP).indexes, extra))
    plan = plan_table(SHOP, state)
    assert plan.steps == ()
    assert len(plan.refusals(allow_changes=False)) == 1
    assert plan.refusals(allow_changes=True) == ()


def test_plan_when_a_tag_is_extra_mentions_it_and_leaves_it_alone() -> None:
    plan = plan_table(SHOP, replace(after(SHOP), tags={**SHOP.tags, "owner": "ops"}))
    assert plan.steps == ()
    assert plan.differences == ()
    assert "owner" in plan.notes[0]


def test_plan_under_autoscaling_takes_any_capacity_of_the_range() -> None:
    done = after(SCALED)
    assert plan_table(SCALED, replace(done, read_units=37)).steps == ()
    assert actions(plan_table(SCALED, replace(done, read_units=51))) == [Action.SET_CAPACITY]
    fixed = replace(SCALED, capacity=Capacity(read_units=5, write_units=6))
    assert actions(plan_table(fixed, replace(done, read_units=37, scaling=()))) == [Action.SET_CAPACITY]


def test_plan_when_the_key_is_not_named_takes_any_kms_key_but_a_named_one_must_match() -> None:
    state = replace(after(SHOP), kms_key="arn:aws:kms:us-east-1:1:key/a")
    assert plan_table(SHOP, state).steps == ()
    assert actions(plan_table(replace(SHOP, kms_key="arn:aws:kms:us-east-1:1:key/b"), state)) == [Action.SET_ENCRYPTION]


# --- an interrupted run ----------------------------------------------------------------------------------------------


def test_plan_when_our_own_run_was_interrupted_finishes_without_permission() -> None:
    plan = plan_table(SCALED, created_table(SCALED))
    assert {Action.SET_PITR, Action.SET_TTL, Action.SET_SCALING, Action.FINISH} == set(actions(plan))
    assert plan.refusals(allow_changes=False) == ()


def test_plan_when_the_marker_is_for_another_spec_or_missing_is_drift() -> None:
    other = replace(created_table(SHOP), tags={**SHOP.tags, MARKER: spec_digest(replace(SHOP, pitr=False))})
    bare = replace(created_table(SHOP), tags=dict(SHOP.tags))
    assert len(plan_table(SHOP, other).refusals(allow_changes=False)) == 2
    assert len(plan_table(SHOP, bare).refusals(allow_changes=False)) == 2


def test_plan_under_the_marker_excuses_only_what_create_table_cannot_do() -> None:
    state = replace(created_table(SHOP), deletion_protection=False)
    assert [d.split(":")[1].strip() for d in plan_table(SHOP, state).differences] == ["deletion protection"]


# --- properties ------------------------------------------------------------------------------------------------------

index_names = st.sampled_from(["GSI1", "GSI2", "GSI3"])
capacities = st.builds(
    Capacity,
    read_units=st.integers(1, 5),
    write_units=st.integers(1, 5),
    max_read_units=st.none() | st.integers(6, 9),
    max_write_units=st.none() | st.integers(6, 9),
)
tags = st.dictionaries(st.sampled_from("abc"), st.sampled_from(["1", "2"]))


@st.composite
def specs(draw: st.DrawFn) -> TableSpec:
    billing: Billing = draw(st.sampled_from(["on_demand", "provisioned"]))
    return TableSpec(
        name="T",
        indexes=tuple(draw(st.lists(index_names, unique=True))),
        billing=billing,
        capacity=draw(capacities) if billing == "provisioned" else None,
        pitr=draw(st.booleans()),
        encryption=draw(st.sampled_from(["KMS", "AWS_OWNED"])),
        stream=draw(st.booleans()),
        deletion_protection=draw(st.booleans()),
        tags=draw(tags),
    )


@st.composite
def states(draw: st.DrawFn, spec: TableSpec) -> TableState | None:
    """Nothing; what some other spec left; or what a run of this or another spec left when it was killed."""
    source = draw(st.sampled_from([None, spec, draw(specs())]))
    if source is None:
        return None
    state: TableState | None = None
    steps = plan_table(source, None).steps
    for step in steps[: draw(st.integers(1, len(steps)))]:
        state = predict_table(state, step)
    return state


@given(st.data())
def test_property_applying_a_plan_leaves_nothing_to_plan(data: st.DataObject) -> None:
    spec = data.draw(specs())
    state = data.draw(states(spec))
    plan = plan_table(spec, state)
    done = after(spec, state)
    again = plan_table(spec, done)
    assert again.steps == ()
    assert after(spec, done) == done
    assert all(not difference.tolerable or difference in again.blocked for difference in plan.blocked)


@given(st.data())
def test_property_a_killed_run_of_the_same_spec_is_continued_without_permission(data: st.DataObject) -> None:
    spec = data.draw(specs())
    steps = plan_table(spec, None).steps
    state: TableState | None = None
    for step in steps[: data.draw(st.integers(0, len(steps)))]:
        state = predict_table(state, step)
    plan = plan_table(spec, state)
    assert plan.refusals(allow_changes=False) == ()
    assert after(spec, state) == after(spec)


@given(specs())
def test_property_what_exists_is_never_changed_unasked(spec: TableSpec) -> None:
    foreign = TableState(name="T", keys=SHOP.keys)
    plan = plan_table(spec, foreign)
    assert all(step.needs_permission for step in plan.steps)
    assert bool(plan.steps or plan.blocked) == bool(plan.refusals(allow_changes=False))


def test_plan_estate_joins_tables_and_dax() -> None:
    desired = desired_estate([TableSettings(name="Shop")], LedgerSettings(), TargetSettings(), DAX_SETTINGS)
    plan = plan_estate(desired, ActualEstate(tables={"Shop": after(desired.tables[1])}))
    assert {step.resource for step in plan.steps} == {
        "table DocferryLedger",
        "DAX cluster cache",
        "DAX subnet group nets",
        "DAX parameter group tuned",
    }


# --- replicas --------------------------------------------------------------------------------------------------------

IRELAND = ReplicaSpec(table=SHOP, region="eu-west-1")


def test_plan_replica_when_missing_marks_creates_completes_and_unmarks() -> None:
    plan = plan_replica(IRELAND, after(SHOP), None)
    assert actions(plan)[:2] == [Action.BEGIN_REPLICA, Action.CREATE_REPLICA]
    assert set(actions(plan)[2:-1]) == {Action.SET_PITR, Action.SET_TAGS, Action.SET_PROTECTION}
    assert actions(plan)[-1] is Action.FINISH_REPLICA
    assert plan.refusals(allow_changes=False) == ()


def test_plan_replica_when_interrupted_goes_on_and_when_drifted_asks() -> None:
    born = replace(created_table(SHOP), tags={}, deletion_protection=False)
    main = replace(after(SHOP), replicas={"eu-west-1": "ACTIVE"})
    marked = replace(main, tags={**main.tags, REPLICA_MARKER: "eu-west-1"})
    assert plan_replica(IRELAND, marked, born).refusals(allow_changes=False) == ()
    assert len(plan_replica(IRELAND, main, born).refusals(allow_changes=False)) == 3
    assert plan_replica(IRELAND, main, after(SHOP)) == EstatePlan()


def test_plan_replica_when_a_foreign_table_is_in_the_way_or_an_index_is_missing_refuses() -> None:
    main = replace(after(SHOP), replicas={"eu-west-1": "ACTIVE"})
    assert len(plan_replica(IRELAND, after(SHOP), after(SHOP)).refusals(allow_changes=True)) == 1
    assert len(plan_replica(IRELAND, main, replace(after(SHOP), indexes=())).refusals(allow_changes=True)) == 2
    assert len(plan_replica(IRELAND, replace(main, replicas={"eu-west-1": "CREATING"}), None).blocked) == 1


def test_check_replicable_names_every_reason() -> None:
    bad = replace(
        SHOP, stream=False, billing="provisioned", capacity=Capacity(read_units=1, write_units=1), kms_key="arn:x:key/1"
    )
    assert len(check_replicable(bad, ["us-east-1"], "us-east-1")) == 4
    assert check_replicable(SHOP, ["eu-west-1"], "us-east-1") == []


def test_replica_key_is_the_multi_region_key_of_that_region() -> None:
    spec = replace(SHOP, kms_key="arn:aws:kms:us-east-1:1:key/mrk-1")
    assert replica_key(spec, "eu-west-1") == "arn:aws:kms:eu-west-1:1:key/mrk-1"
    assert replica_key(SHOP, "eu-west-1") is None


# --- DAX -------------------------------------------------------------------------------------------------------------

DAX_SETTINGS = DaxSettings(
    cluster="cache",
    subnet_group="nets",
    subnets=("subnet-2", "subnet-1"),
    parameter_group="tuned",
    parameters={"query-ttl-millis": "1000"},
    security_groups=("sg-1",),
    role_arn="arn:aws:iam::1:role/dax",
    tags={"Project": "migration"},
)
DAX = desired_estate([], LedgerSettings(), TargetSettings(), DAX_SETTINGS).dax or pytest.fail("no DAX")
EMPTY = DaxState(cluster=None, subnet_group=None, parameter_group=None)


def dax_state(spec: DaxSpec) -> DaxState:
    cluster = DaxClusterState(
        name=spec.cluster,
        status="available",
        node_type=spec.node_type,
        nodes=spec.nodes,
        subnet_group=spec.subnet_group,
        parameter_group=spec.parameter_group,
        security_groups=spec.security_groups,
        role_arn=spec.role_arn,
        encryption_at_rest=spec.encryption,
        encryption_in_transit=spec.encryption,
        tags=spec.tags,
    )
    return DaxState(
        cluster=cluster,
        subnet_group=DaxGroupState(name="nets", values={"subnet-1": "", "subnet-2": ""}),
        parameter_group=DaxGroupState(name="tuned", values={"query-ttl-millis": "1000", "record-ttl-millis": "300000"}),
    )


def test_plan_dax_when_nothing_exists_makes_groups_first() -> None:
    plan = plan_dax(DAX, EMPTY)
    assert actions(plan) == [
        Action.CREATE_SUBNET_GROUP,
        Action.CREATE_PARAMETER_GROUP,
        Action.SET_PARAMETERS,
        Action.CREATE_CLUSTER,
    ]
    assert plan.refusals(allow_changes=False) == ()


def test_plan_dax_when_all_is_there_is_empty() -> None:
    assert plan_dax(DAX, dax_state(DAX)) == EstatePlan()


def test_plan_dax_when_a_group_was_begun_by_us_finishes_it_else_asks() -> None:
    ours = replace(EMPTY, parameter_group=DaxGroupState(name="tuned", description=DAX.description))
    theirs = replace(EMPTY, parameter_group=DaxGroupState(name="tuned", description="by hand"))
    assert plan_dax(DAX, ours).refusals(allow_changes=False) == ()
    assert len(plan_dax(DAX, theirs).refusals(allow_changes=False)) == 1


@pytest.mark.parametrize(
    ("fields", "in_place"),
    [
        ({"nodes": 1}, True),
        ({"security_groups": ("sg-9",)}, True),
        ({"parameter_group": "default.dax1.0"}, True),
        ({"tags": {}}, True),
        ({"node_type": "dax.t3.small"}, False),
        ({"subnet_group": "other"}, False),
        ({"role_arn": "other"}, False),
        ({"encryption_in_transit": False}, False),
    ],
)
def test_plan_dax_when_the_cluster_drifted_shows_it(fields: dict[str, Any], in_place: bool) -> None:
    state = dax_state(DAX)
    assert state.cluster is not None
    plan = plan_dax(DAX, replace(state, cluster=replace(state.cluster, **fields)))
    assert len(plan.refusals(allow_changes=False)) == 1
    assert (plan.refusals(allow_changes=True) == ()) is in_place


def test_plan_dax_when_security_groups_prove_nothing_says_so() -> None:
    state = dax_state(DAX)
    assert state.cluster is not None
    plan = plan_dax(DAX, replace(state, cluster=replace(state.cluster, security_groups=None), unverified=("sg",)))
    assert plan == EstatePlan(unverified=("DAX cluster cache: sg",))
