"""Who else uses MongoDB: looks are added up, what the file waives is marked, and what cannot be seen is said."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from docferry.config import parse_migration
from docferry.core.cutover.mongodb_clients import Doing, Sighting
from docferry.core.settings import CutoverSettings
from docferry.errors import AccessDenied, Unavailable
from docferry.flows.preflight import mongodb_clients as foreign
from docferry.flows.preflight.mongodb_clients import ForeignReport, foreigners
from docferry.testing.fakes import FakeClients
from docferry.testing.jobs import make_job
from support.backfill.rig import Quiet

MIGRATION = parse_migration(b"migration: m\nsource: {database: myapp}\ntables: {Tab: {}}\ncollections: {users: {}}\n")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "EVERY_S", 0.005)


def seen(app: str, doing: Doing = Doing.IDLE, namespace: str = "", **more: Any) -> Sighting:
    about = {"driver": "PyMongo 4.16", "user": "admin.app", "host": "10.0.0.7"} | more
    return Sighting(app=app, doing=doing, namespace=namespace, **about)


def watched(clients: FakeClients, for_s: float = 0.05, **cutover: Any) -> ForeignReport:
    job = make_job(
        migration=replace(MIGRATION, cutover=CutoverSettings(**cutover)),
        clients=clients,
        progress=Quiet(),
        stop=threading.Event(),
    )
    return foreigners(job, for_s)


def test_looks_are_added_up_by_client() -> None:
    looks = (
        [seen("batch"), seen("batch"), seen("web", Doing.READ, "myapp.users")],
        [seen("batch", Doing.WRITE, "myapp.orders")],
        [seen("web", host="10.0.0.8"), seen("web", driver="mongo-go-driver 1.12")],
    )
    tries = (watched(FakeClients(*looks), for_s) for for_s in (0.05, 0.5, 5.0))  # a slow machine looks more rarely
    report = next(one for one in tries if one.looks >= len(looks))
    first, second, *rest = report.clients
    assert (first.app, first.does, first.most, first.namespaces) == ("batch", Doing.WRITE, 2, {"myapp.orders"})
    assert (second.app, second.does, second.namespaces) == ("web", Doing.READ, {"myapp.users"})
    assert [one.does for one in rest] == [Doing.IDLE, Doing.IDLE]
    assert json.loads(json.dumps(report.to_dict()))["foreign_writers"] == 1


def test_what_a_look_cannot_see_is_said() -> None:
    text = watched(FakeClients([seen("web")], unseen=["db3:27017"])).render()
    assert "between two looks, was not seen" in text
    assert "db3:27017" in text
    assert "web" in text
    assert "no program but docferry" in watched(FakeClients([])).render()


def test_docferrys_own_library_is_known_by_its_name() -> None:
    report = watched(FakeClients([seen("docferry-client", Doing.WRITE, "myapp.users"), seen("docferry-clients")]))
    assert [(one.app, one.own) for one in report.clients] == [
        ("docferry-client", True),
        ("docferry-clients", False),
    ]
    assert [one.app for one in report.foreign] == ["docferry-clients"]


@pytest.mark.parametrize(
    ("cutover", "writer", "reader"),
    [
        ({}, False, False),
        ({"waived_writers": ("nightly",)}, True, False),
        ({"waived_writers": ("app",)}, True, True),
        ({"waived_readers": ("nightly", "web")}, False, True),
        ({"waived_readers": ("admin.app",)}, False, True),
    ],
)
def test_who_is_waived_is_marked_and_a_waived_reader_may_not_write(
    cutover: dict[str, Any], writer: bool, reader: bool
) -> None:
    report = watched(FakeClients([seen("nightly", Doing.WRITE), seen("web", Doing.READ)]), **cutover)
    assert {one.app: one.waived for one in report.clients} == {"nightly": writer, "web": reader}
    assert len(report.foreign) == 2 - writer - reader


def test_look_that_is_not_answered_is_counted() -> None:
    clients = FakeClients([seen("web")])
    clients.faults.fail_next(Unavailable("no primary"))
    report = watched(clients)
    assert report.failed == 1
    assert "1 more looks were not answered" in report.limits


def test_no_answer_at_all_is_an_error_and_so_is_a_refusal() -> None:
    clients = FakeClients()
    clients.faults.fail_next(*[Unavailable("no primary")] * 1_000)
    with pytest.raises(Unavailable, match="no primary"):
        watched(clients)
    clients.faults = FakeClients().faults
    clients.faults.fail_next(AccessDenied("needs inprog"))
    with pytest.raises(AccessDenied):
        watched(clients)


def test_stop_ends_it_with_what_was_seen_so_far() -> None:
    looks: Sequence[Sequence[Sighting]] = [[seen("web")]]
    stop = threading.Event()
    stop.set()
    job = make_job(migration=MIGRATION, clients=FakeClients(*looks), progress=Quiet(), stop=stop)
    report = foreigners(job, 3_600.0)
    assert report.looks == 1
    assert report.seconds < 1.0
