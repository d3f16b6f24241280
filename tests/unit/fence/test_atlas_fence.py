"""The shipped command that fences MongoDB Atlas, against a stand-in for Atlas's Administration API."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from docferry.adapters.atlas import fence as script
from docferry.adapters.atlas.fence import Again, Refused, fenced, run
from docferry.adapters.local.fence_command import About, FenceCommand
from docferry.errors import RequestRefused, Unavailable
from support.atlas.stand_in import PRIVATE, AtlasStandIn, Roles, standing_in

ABOUT = About(
    migration="shop", database="shop", collections=("users",), users=("admin.app", "$external.arn:aws:iam::1:role/web")
)
APP: Roles = [
    {"databaseName": "shop", "roleName": "readWrite"},
    {"databaseName": "other", "roleName": "readWrite"},
    {"databaseName": "shop", "roleName": "dbAdmin"},
    {"databaseName": "admin", "roleName": "clusterMonitor"},
]
WEB: Roles = [{"databaseName": "admin", "roleName": "readWriteAnyDatabase"}]
CLOSED = [
    {"databaseName": "shop", "roleName": "read"},
    {"databaseName": "other", "roleName": "readWrite"},
    {"databaseName": "admin", "roleName": "clusterMonitor"},
]


@pytest.fixture
def atlas(monkeypatch: pytest.MonkeyPatch) -> Iterator[AtlasStandIn]:
    monkeypatch.setattr(script, "POLL_S", 0.01)
    users = {("admin", "app"): list(APP), ("$external", "arn:aws:iam::1:role/web"): list(WEB)}
    with standing_in(AtlasStandIn(users=users)) as made:
        yield made


def given(atlas: AtlasStandIn, within_s: float = 30.0, **changed: str) -> dict[str, str]:
    return atlas.environment() | ABOUT.environment(within_s) | changed


def roles(atlas: AtlasStandIn) -> list[Roles]:
    return list(atlas.users.values())


def test_closing_takes_the_writing_roles_and_opening_gives_back_what_there_was(atlas: AtlasStandIn) -> None:
    memo = run("plan", "", given(atlas))
    assert run("state", memo, given(atlas)) == "open"
    assert roles(atlas) == [APP, WEB]
    atlas.pending = 3
    run("close", memo, given(atlas))
    assert atlas.pending == 0
    assert roles(atlas) == [CLOSED, [{"databaseName": "admin", "roleName": "readAnyDatabase"}]]
    assert run("state", memo, given(atlas)) == "closed"
    run("open", memo, given(atlas))
    assert roles(atlas) == [APP, WEB]
    assert run("state", memo, given(atlas)) == "open"


def test_it_logs_in_by_digest_and_no_key_is_in_the_memo(atlas: AtlasStandIn) -> None:
    memo = run("plan", "", given(atlas))
    assert atlas.refused >= 1  # the challenge
    assert len(atlas.asked) == 2
    assert PRIVATE not in memo
    with pytest.raises(Refused, match="Atlas answered 401") as caught:
        run("plan", "", given(atlas, DOCFERRY_FENCE_ATLAS_PRIVATE_KEY="wrong-key"))
    assert "wrong-key" not in str(caught.value)


def test_what_is_done_already_is_not_asked_for_again(atlas: AtlasStandIn) -> None:
    memo = run("plan", "", given(atlas))
    run("close", memo, given(atlas))
    atlas.asked.clear()
    run("close", memo, given(atlas))
    assert not [one for one in atlas.asked if one.startswith("PATCH")]


def test_a_half_closed_fence_and_a_change_under_way_are_partly(atlas: AtlasStandIn) -> None:
    memo = run("plan", "", given(atlas))
    atlas.users["admin", "app"] = list(CLOSED)
    assert run("state", memo, given(atlas)) == "partly"
    run("close", memo, given(atlas))
    atlas.pending = 5
    assert run("state", memo, given(atlas)) == "partly"


def test_a_cluster_that_does_not_apply_the_change_in_time_is_to_be_tried_again(atlas: AtlasStandIn) -> None:
    memo = run("plan", "", given(atlas))
    atlas.pending = 1_000_000
    with pytest.raises(Again, match="has not applied the change yet"):
        run("close", memo, given(atlas, within_s=0.1))


@pytest.mark.parametrize(("status", "kind"), [(500, Again), (503, Again), (429, Again), (403, Refused), (404, Refused)])
def test_what_atlas_answers_says_whether_to_try_again(atlas: AtlasStandIn, status: int, kind: type[Exception]) -> None:
    atlas.fail = [status]
    with pytest.raises(kind, match=f"GET databaseUsers/admin/app: Atlas answered {status} UNEXPECTED_ERROR"):
        run("plan", "", given(atlas))


def test_a_plan_that_would_take_nothing_or_cannot_tell_is_refused(atlas: AtlasStandIn) -> None:
    memo = run("plan", "", given(atlas))
    run("close", memo, given(atlas))
    with pytest.raises(Refused, match="there is nothing to take"):  # or opening it would give back what is left
        run("plan", "", given(atlas))
    with pytest.raises(Refused, match="the role buyer may write"):
        fenced([{"roleName": "buyer", "databaseName": "admin"}], ["shop"], {})
    with pytest.raises(Refused, match="the role atlasAdmin may write"):
        fenced([{"roleName": "atlasAdmin", "databaseName": "admin"}], ["shop"], {})
    two = [{"roleName": "readWrite", "databaseName": name} for name in ("shop", "archive", "other")]
    assert [one["roleName"] for one in fenced(two, ["shop", "archive"], {})] == ["read", "read", "readWrite"]
    kept: Any = fenced([{"roleName": "buyer", "databaseName": "admin"}], ["shop"], {"buyer": "looker"})
    assert kept == [{"roleName": "looker", "databaseName": "admin"}]


def test_a_user_of_writing_roles_alone_keeps_one_that_reads(atlas: AtlasStandIn) -> None:
    atlas.users["admin", "app"] = [{"databaseName": "shop", "roleName": "dbAdmin"}]
    memo = json.loads(run("plan", "", given(atlas)))
    assert memo["users"]["admin.app"]["closed"] == [{"roleName": "read", "databaseName": "shop"}]


def test_what_is_not_set_is_named(atlas: AtlasStandIn) -> None:
    with pytest.raises(Refused, match="DOCFERRY_FENCE_ATLAS_PROJECT, DOCFERRY_FENCE_ATLAS_PRIVATE_KEY must be set"):
        run("plan", "", given(atlas, DOCFERRY_FENCE_ATLAS_PROJECT="", DOCFERRY_FENCE_ATLAS_PRIVATE_KEY=""))
    with pytest.raises(Refused, match=r"cutover\.app_users names no user"):
        run("plan", "", given(atlas, DOCFERRY_FENCE_USERS="[]"))


def test_as_a_command_it_keeps_the_contract(atlas: AtlasStandIn) -> None:
    words = (sys.executable, "-m", "docferry.adapters.atlas.fence")
    command = FenceCommand(words, 30.0, ABOUT, os.environ | atlas.environment())
    memo = command.run("plan")
    assert command.run("state", memo) == "open"
    atlas.fail = [503]
    with pytest.raises(Unavailable, match=r"status 75: .*Atlas answered 503"):
        command.run("state", memo)
    with pytest.raises(RequestRefused, match="status 1: standard input must be what `plan` has said"):
        command.run("open", "something else")
    done = subprocess.run([*words, "perhaps"], capture_output=True, check=False, timeout=30)
    assert done.returncode == 2
