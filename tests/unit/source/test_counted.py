"""Calls that were seen running beside those of the source: by the clients' counts, and by the profiler."""

from __future__ import annotations

from docferry.client.membership import Membership
from docferry.config import load_migration
from docferry.core.analyze.facts import QueryShape
from docferry.core.cutover.instances import unserved_by
from docferry.core.source.calls import CallVerdict
from docferry.core.source.shapes import call_of_shape, counted_in, seen_of, shown
from docferry.flows.ledger.modes import list_instances
from docferry.rehearsal.trial import trial_of
from docferry.testing.fakes import FakeLedger
from docferry.wiring import who
from support.source.calls import SHOP, calls_in

APP = """
    def f(db, x):
        db.users.find({"visits": {"$gt": x}})
        db.users.find_one({"username": x})
"""


def test_calls_of_the_source_have_the_clients_counts_and_other_shapes_come_last() -> None:
    ledger = FakeLedger()
    member = Membership(lambda: ledger, who)
    member.join()
    for _ in range(3):
        member.tally.count_unserved("users.find(visits $gt)")
    member.tally.count_unserved("users.find(status)")
    member.leave()
    found = counted_in(calls_in(app__py=APP), unserved_by(list_instances(ledger), ()))
    assert [(shown(one), one.file, one.calls) for one in found] == [
        ("users.find(visits $gt)", "app.py", 3),
        ("users.find_one(username)", "app.py", None),
        ("users.find(status)", "", 1),
    ]
    with trial_of(load_migration(SHOP)) as trial:
        verdicts = [trial.judge(one).verdict for one in found]
    assert verdicts == [CallVerdict.PATTERN, CallVerdict.SERVED, CallVerdict.PATTERN]


def test_shapes_of_the_profiler_are_counted_at_the_call_or_come_as_calls_of_their_own() -> None:
    seen = [
        QueryShape(collection="users", kind="find", range=("visits",), calls=7),
        QueryShape(collection="users", kind="find", equality=("username",), calls=2),
        QueryShape(collection="orders", kind="update", equality=("status",), sets=("paid",), many=True, calls=5),
    ]
    counted, others = seen_of(calls_in(app__py=APP), seen)
    assert [one.calls for one in counted] == [7, 2]
    assert [(shown(one), one.calls) for one in map(call_of_shape, others)] == [("orders.update_many(status)", 5)]
