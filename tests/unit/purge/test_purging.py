"""The proof that tombstones may go: every condition that can fail, and how far the horizon may reach."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from bson.timestamp import Timestamp
from docferry.core.cutover.purge_proof import Ages, Facts, Proof, WritersSeen, prove
from docferry.core.versions import snapshot_version, version_of

NOW = 1_700_000_000
AGES = Ages(dead=1860.0, stale=60.0)


def at(seconds_ago: float) -> Timestamp:
    return Timestamp(NOW - round(seconds_ago), 1)


def version(seconds_ago: float) -> int:
    return version_of(at(seconds_ago), 0)


def look(seconds_ago: float, behind_s: float = 60) -> WritersSeen:
    return WritersSeen(
        at=at(seconds_ago), at_ms=(NOW - round(seconds_ago)) * 1000, version=version(seconds_ago + behind_s)
    )


FINE = Facts(
    began=at(0),
    ended=at(0),
    ended_ms=NOW * 1000,
    applied=version(2),
    lost=False,
    follower="replicator-7",
    pending=3,
    loads=(),
    writers=(),
    letters={},
    seen=(look(2000),),
)


def proof_of(**changes: Any) -> Proof:
    return prove(replace(FINE, **changes), AGES)


def refusal(**changes: Any) -> str:
    proof = proof_of(**changes)
    assert (proof.holds, proof.horizon) == (False, None)
    (broken,) = proof.broken
    return str(broken)


def test_everything_in_order_proves_what_was_applied_at_the_look() -> None:
    proof = proof_of()
    assert proof.holds
    assert proof.horizon == look(2000).version
    shown = proof.render()
    assert "replicator-7" in shown
    assert "3 pending, all later" in shown
    assert "2000 s ago" in shown
    assert "DOES NOT HOLD" not in shown


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lost": True}, ("position is lost", "backfill --again")),
        ({"loads": ["users is loading (conditional), held by loader-3"]}, ("loader-3", "end it")),
        ({"writers": ["repair is held by mender-4"]}, ("mender-4", "wait for its end")),
    ],
)
def test_whoever_may_still_sign_an_older_version_is_named_and_forbids_it(
    changes: dict[str, Any], words: tuple[str, ...]
) -> None:
    text = refusal(**changes)
    assert all(word in text for word in words), text


def test_replication_without_a_position_of_its_own_would_begin_before_the_backfill() -> None:
    proof = proof_of(applied=None)
    assert not proof.holds
    assert "docferry replicate" in str(proof.broken[0])
    assert proof.seen == (), "nothing is noted of a look that proves nothing"


def test_every_problem_is_told_at_once() -> None:
    proof = proof_of(applied=None, loads=["a"], writers=["b"], seen=())
    assert len(proof.broken) == 4
    assert "no tombstone may go" in proof.render()


# --- requests that are still on their way ----------------------------------------------------------------------------


def test_first_look_says_how_long_to_wait_and_is_noted() -> None:
    proof = proof_of(seen=())
    assert "run again in 1860 s" in str(proof.broken[0])
    assert proof.seen == (WritersSeen(at=at(0), at_ms=NOW * 1000, version=version(60)),)


@pytest.mark.parametrize(("seconds_ago", "holds"), [(1859, False), (1860, True)])
def test_look_must_be_as_old_as_requests_can_get(seconds_ago: int, holds: bool) -> None:
    assert proof_of(seen=(look(seconds_ago),)).holds is holds


def test_old_tombstone_that_was_only_just_applied_stays() -> None:
    """Replication was a day behind until now: what it signed a moment ago is older than the tombstone."""
    day = 86_400.0
    proof = proof_of(applied=version(0), seen=(look(1900, behind_s=day),))
    assert proof.horizon is not None
    assert proof.horizon <= version(1900 + day) < version(day)


def test_clock_that_jumps_does_not_make_a_look_old() -> None:
    young = look(10)
    jumped_here = replace(young, at_ms=young.at_ms - 86_400_000)
    jumped_there = replace(young, at=at(86_400))
    for one in (jumped_here, jumped_there):
        assert "too young" in refusal(seen=(one,))


def test_tombstone_younger_than_any_request_stays_even_if_all_is_applied() -> None:
    """Instances hold no leases: of them only age is known."""
    ahead = replace(look(1860), version=version(5))
    proof = proof_of(seen=(ahead,))
    assert proof.horizon == version(1860)


def test_look_claims_no_more_than_was_applied_nor_than_a_primary_that_lost_its_place_would_say() -> None:
    behind = proof_of(applied=version(500), seen=()).seen[0]
    assert behind.version == version(500)
    (close,) = proof_of(applied=version(0), seen=(), began=at(30)).seen
    assert close.version == version(90), "a process that begins to read now may be told a time of a minute ago"


def test_what_is_of_the_very_place_that_is_read_again_stays() -> None:
    applied = version_of(at(5000), 7)
    proof = proof_of(applied=applied, seen=(replace(look(2000), version=applied),))
    assert proof.horizon == applied
    assert version_of(at(5000), 6) < applied <= version_of(at(5000), 7) < snapshot_version(at(5000))


# --- looks -----------------------------------------------------------------------------------------------------------


def test_purge_that_is_run_often_gets_somewhere() -> None:
    """A young look is kept until it is old; a newer one does not take its place."""
    seen: tuple[WritersSeen, ...] = ()
    proved: list[int] = []
    for minute in range(0, 200, 5):
        moment = Timestamp(NOW + minute * 60, 1)
        facts = replace(FINE, began=moment, ended=moment, ended_ms=moment.time * 1000, applied=version_of(moment, 0))
        proof = prove(replace(facts, seen=seen), AGES)
        assert len(proof.seen) <= 2
        seen = proof.seen
        if proof.horizon is not None:
            proved.append(proof.horizon)
            assert proof.horizon <= version_of(Timestamp(moment.time - 1860, 1), 0)
    assert len(set(proved)) >= 4
    assert proved == sorted(proved)


def test_old_look_still_counts_while_somebody_writes_but_nothing_goes() -> None:
    proof = proof_of(writers=["repair is held by x"])
    assert proof.seen == FINE.seen, "it is kept, and no new one is noted"
    assert [one.name for one in proof.broken] == ["no repair and no replay is under way"]


def test_replication_that_was_moved_back_makes_looks_beyond_it_void() -> None:
    proof = proof_of(applied=version(9000))
    assert not proof.holds
    assert proof.seen == (WritersSeen(at=at(0), at_ms=NOW * 1000, version=version(9000)),)


def test_dead_letters_are_shown_and_do_not_keep_other_tombstones() -> None:
    proof = proof_of(letters={"users": 2, "orders": 0})
    assert proof.holds
    assert "2 of users" in proof.render()
    assert "orders" not in proof.render()
