"""A request of the load that was sent and not answered arrives up to a quarter of an hour later, and so does a second copy of
what replication puts: no document is older in DynamoDB than in MongoDB in the end. Not without any one of the rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from docferry.flows.ledger.load_headers import LateWrites
from support.journals.late_load import LateTarget, run

RUNS = 8
RUNS_TO_BREAK = 60
HAPPENS = ("late batch", "late put", "killed")


def test_no_document_is_stale_whatever_arrives_late() -> None:
    seen: Counter[str] = Counter()
    for seed in range(RUNS):
        found = run(seed)
        assert not found["stale"], f"seed {seed}: {found}"
        seen += found
    assert not (set(HAPPENS) - set(seen)), seen


def nothing_is_waited_for(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LateWrites, "until_ms", lambda self, lives_s: 0)


def dead_process_alone_is_waited_for(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        LateWrites, "until_ms", lambda self, lives_s: self.orphaned_ms and self.orphaned_ms + int(lives_s * 1000)
    )


def dead_process_is_not_waited_for(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LateWrites, "until_ms", lambda self, lives_s: self.signed_ms and self.signed_ms + int(lives_s * 1000))


def signature_is_waited_for_by_half(patch: pytest.MonkeyPatch) -> None:
    whole = LateWrites.until_ms
    patch.setattr(LateWrites, "until_ms", lambda self, lives_s: whole(self, lives_s / 2))


def puts_have_no_condition(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LateTarget, "is_newer", staticmethod(lambda item, there: True))


BROKEN: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    one.__name__: one
    for one in (
        nothing_is_waited_for, dead_process_alone_is_waited_for, dead_process_is_not_waited_for,
        signature_is_waited_for_by_half, puts_have_no_condition,
    )
}  # fmt: skip


@pytest.mark.cutover
@pytest.mark.parametrize("rule", BROKEN)
def test_each_rule_is_needed(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    BROKEN[rule](monkeypatch)
    assert any(run(seed)["stale"] for seed in range(RUNS_TO_BREAK)), f"{RUNS_TO_BREAK} runs do without"
