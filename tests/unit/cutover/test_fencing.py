"""Which fence will hold, and what revocation takes: every case, without a server."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from docferry.core.cutover.fence_plan import (
    FenceFacts,
    FenceKind,
    FencePlan,
    FenceState,
    Grant,
    OpenTransaction,
    Privilege,
    Role,
    Scope,
    UserFacts,
    choose_fence,
    grant_of,
    user_id,
    without_writes,
)
from docferry.core.settings import CutoverSettings
from hypothesis import given
from hypothesis import strategies as st

SCOPE = Scope(migration="shop", database="myapp", collections=("users", "orders"))
OWN = UserFacts(id="admin.docferry", bypasses=True, writes=True, any_resource=True)
APP = UserFacts(id="admin.app", bypasses=False, writes=True)
READER = UserFacts(id="admin.reports", bypasses=False, writes=False)
BATCH = UserFacts(id="myapp.batch", bypasses=False, writes=True)
ROOT = UserFacts(id="admin.root", bypasses=True, writes=True, any_resource=True)
ALONE = FenceFacts(own_user=OWN.id, users=(OWN, APP, READER), scope=SCOPE)
SHARED = replace(ALONE, scope=replace(SCOPE, databases=("other",)))


def chosen(facts: FenceFacts, **cutover: Any) -> FenceKind | list[str]:
    """The kind, or the problems in words."""
    found = choose_fence(facts, CutoverSettings(**cutover))
    return found if isinstance(found, FenceKind) else [str(problem) for problem in found]


def refused(facts: FenceFacts, *words: str, **cutover: Any) -> None:
    """Each problem holds one of the words, in this order, and says what to do."""
    found = choose_fence(facts, CutoverSettings(**cutover))
    assert not isinstance(found, FenceKind), found
    assert len(found) == len(words), found
    for problem, word in zip(found, words, strict=True):
        assert word in str(problem)
        assert problem.suggestion


# --- the write block -------------------------------------------------------------------------------------------------


def test_write_block_is_chosen_where_the_cluster_holds_nothing_else() -> None:
    assert chosen(ALONE) is FenceKind.WRITE_BLOCK
    assert chosen(ALONE, app_users=("app",)) is FenceKind.WRITE_BLOCK
    assert chosen(ALONE, fence="write_block") is FenceKind.WRITE_BLOCK


def test_ttl_index_is_no_matter_to_the_write_block() -> None:
    assert chosen(replace(ALONE, ttl=("users",))) is FenceKind.WRITE_BLOCK


OBSTACLES: dict[str, tuple[FenceFacts, str]] = {
    "another database": (SHARED, "other"),
    "another collection": (replace(ALONE, scope=replace(SCOPE, others=("sessions",))), "myapp.sessions"),
    "a user who bypasses": (
        replace(ALONE, users=(OWN, APP, replace(READER, bypasses=True))),
        "admin.reports holds bypass",
    ),
    "docferry does not bypass": (replace(ALONE, users=(replace(OWN, bypasses=False), APP)), "docferry's own user"),
    "blocked already": (replace(ALONE, write_block=FenceState.UP), "blocks writes already"),
    "cannot be seen": (replace(ALONE, write_block=FenceState.UNKNOWN), "does not tell"),
}


@pytest.mark.parametrize("case", OBSTACLES)
def test_write_block_that_would_not_hold_is_not_chosen(case: str) -> None:
    facts, word = OBSTACLES[case]
    refused(facts, word, "names no user")
    refused(facts, word, fence="write_block")
    refused(facts, word, fence="write_block", app_users=("app",))
    assert chosen(facts, app_users=("app",)) is FenceKind.REVOKE


def test_who_bypasses_can_be_waived_by_name() -> None:
    facts = replace(ALONE, users=(OWN, APP, ROOT))
    refused(facts, "admin.root holds bypass", fence="write_block")
    assert chosen(facts, waived_writers=("root",)) is FenceKind.WRITE_BLOCK
    assert chosen(facts, waived_writers=("admin.root",)) is FenceKind.WRITE_BLOCK
    refused(facts, "admin.root holds bypass", fence="write_block", waived_readers=("root",))


def test_without_access_control_nothing_is_chosen() -> None:
    refused(replace(ALONE, own_user=None), "no access control", app_users=("app",))
    refused(replace(ALONE, own_user=None), "no access control", fence="write_block")


# --- revocation ------------------------------------------------------------------------------------------------------


def test_revocation_can_be_asked_for() -> None:
    assert chosen(ALONE, fence="revoke", app_users=("app",)) is FenceKind.REVOKE


@pytest.mark.parametrize(
    ("facts", "users", "words"),
    [
        (SHARED, ("nobody",), ("there is no user admin.nobody", "admin.app may write")),
        (SHARED, ("app", "docferry"), ("admin.docferry is docferry's own",)),
        (replace(SHARED, users=(OWN, APP, BATCH)), ("app",), ("myapp.batch may write",)),
        (replace(SHARED, users=(OWN, APP, ROOT)), ("app", "root"), ("admin.root has a role over every resource",)),
        (replace(SHARED, ttl=("orders",)), ("app",), ("orders has a TTL index",)),
    ],
    ids=["unknown user", "own user", "another writer", "root", "ttl"],
)
def test_revocation_that_would_not_hold_is_not_chosen(
    facts: FenceFacts, users: tuple[str, ...], words: tuple[str, ...]
) -> None:
    refused(facts, *words, fence="revoke", app_users=users)
    blocked = choose_fence(facts, CutoverSettings(fence="write_block"))
    assert not isinstance(blocked, FenceKind)
    refused(facts, *(problem.what for problem in blocked), *words, app_users=users)


def test_other_writers_are_named_or_waived() -> None:
    facts = replace(SHARED, users=(OWN, APP, BATCH))
    assert chosen(facts, app_users=("app", "myapp.batch")) is FenceKind.REVOKE
    assert chosen(facts, app_users=("app",), waived_writers=("myapp.batch",)) is FenceKind.REVOKE


def test_name_without_a_database_is_of_admin() -> None:
    assert user_id("app") == "admin.app"
    assert user_id("myapp.app") == "myapp.app"
    assert user_id("myapp.ann.smith") == "myapp.ann.smith"


# --- what is taken and what is kept ----------------------------------------------------------------------------------

READ_WRITE = frozenset({"find", "listIndexes", "insert", "update", "remove", "createIndex"})
READ = frozenset({"find", "listIndexes"})


def on(database: str, collection: str, actions: frozenset[str] = READ_WRITE) -> Privilege:
    return Privilege(resource={"db": database, "collection": collection}, actions=actions)


WIDE = replace(SCOPE, others=("sessions",), databases=("blog",))


def may(privileges: list[Privilege], action: str, database: str, collection: str) -> bool:
    return any(action in one.actions and one.covers(database, collection) for one in privileges)


@pytest.mark.parametrize("resource", [("myapp", ""), ("", ""), ("myapp", "users"), ("", "users")])
def test_only_writes_to_the_migrations_collections_are_taken(resource: tuple[str, str]) -> None:
    before = [on(*resource)]
    kept = without_writes(before, WIDE)
    places = [("myapp", "users"), ("myapp", "orders"), ("myapp", "sessions"), ("blog", "posts"), ("blog", "users")]
    for database, collection in places:
        moved = database == "myapp" and collection in SCOPE.collections
        for action in READ_WRITE:
            was = may(before, action, database, collection)
            assert may(kept, action, database, collection) == (was and (action in READ or not moved)), (
                action,
                collection,
            )
    assert not WIDE.is_written_by(kept)


@pytest.mark.parametrize("resource", [("archive", ""), ("", ""), ("archive", "users"), ("", "users")])
def test_writes_to_the_migrations_collections_in_its_other_databases_are_taken_too(resource: tuple[str, str]) -> None:
    several = replace(WIDE, places=(("archive", "users"),), beside=(("archive", "sessions"),))
    before = [on(*resource)]
    kept = without_writes(before, several)
    assert several.is_written_by(before)
    assert not several.is_written_by(kept)
    for place in (("archive", "sessions"), ("myapp", "sessions"), ("blog", "users")):
        assert may(kept, "insert", *place) == may(before, "insert", *place), place
    assert may(kept, "find", "archive", "users")
    refused(
        replace(ALONE, scope=several), "the cluster also holds blog, myapp.sessions, archive.sessions", "names no user"
    )


def test_privileges_that_have_nothing_to_do_with_it_stay_as_they_are() -> None:
    others = [
        on("blog", ""),
        on("myapp", "sessions"),
        on("", "system.js"),
        Privilege(resource={"cluster": True}, actions=frozenset({"listDatabases"})),
    ]
    assert without_writes(others, WIDE) == others


_actions = st.frozensets(st.sampled_from(sorted(READ_WRITE | {"anyAction", "dropDatabase", "collMod"})), min_size=1)
_places = st.tuples(st.sampled_from(("", "myapp", "blog")), st.sampled_from(("", "users", "sessions", "posts")))


@given(st.lists(st.tuples(_places, _actions), max_size=4))
def test_stand_in_never_writes_and_never_gives_more_than_was_there(
    parts: list[tuple[tuple[str, str], frozenset[str]]],
) -> None:
    before = [on(*place, actions) for place, actions in parts]
    kept = without_writes(before, WIDE)
    assert not WIDE.is_written_by(kept)
    for one in kept:
        for action in one.actions:
            place = one.resource["db"], one.resource["collection"]
            inside = place if place[1] else (place[0] or "blog", "posts")
            if one.covers(*inside):
                assert may(before, action, *inside)


def test_grant_names_the_roles_that_write_and_only_these() -> None:
    roles = [
        Role(database="myapp", name="readWrite", privileges=(on("myapp", ""),)),
        Role(database="myapp", name="dbAdmin", privileges=(on("myapp", "", READ),)),
        Role(database="blog", name="readWrite", privileges=(on("blog", ""),)),
    ]
    grant = grant_of("myapp.app", roles, WIDE)
    assert grant.roles == (("myapp", "readWrite"),)
    assert grant.stand_in.startswith("docferry.fence.shop.")
    assert may(list(grant.kept), "find", "myapp", "users")
    assert grant_of("myapp.other", roles, WIDE).stand_in != grant.stand_in


def test_plan_comes_back_from_the_ledger_as_far_as_lifting_needs_it() -> None:
    grant = Grant(user="admin.app", roles=(("myapp", "readWrite"),), stand_in="x", kept=(on("myapp", "users"),))
    plan = FencePlan(kind=FenceKind.REVOKE, grants=(grant,))
    assert FencePlan.from_body(plan.to_body()) == replace(plan, grants=(replace(grant, kept=()),))
    block = FencePlan(kind=FenceKind.WRITE_BLOCK)
    assert FencePlan.from_body(block.to_body()) == block


def test_transaction_is_told_by_who_it_is_and_for_how_long() -> None:
    one = OpenTransaction(app="", user="", client="10.0.0.7:4711", open_s=83.04, session=b"secret")
    assert "10.0.0.7:4711" in str(one)
    assert "83.0 s" in str(one)
    assert "secret" not in repr(one)
