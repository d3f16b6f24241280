"""Who may see dead letters in the control room, and that the ledger knows who did: asked of the app, as a browser asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bson
import pytest
from docferry.errors import ItemTooLarge
from docferry.flows.ledger.dead_letters import list_letters, list_looks, open_letter
from docferry.testing.fakes import FakeLedger
from support.airflow.home import write_migration

SECRET = "ann@example.org"
PLACE = "/api/seen.dead_letters/letters"
OURS = {"X-Docferry": "1", "Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def ledger(airflow_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeLedger:
    """With one dead letter, of a migration whose file is good."""
    from docferry_airflow.control_room import web

    write_migration(tmp_path, "seen")
    monkeypatch.setenv("DOCFERRY_MIGRATIONS", str(tmp_path))
    made = FakeLedger()
    monkeypatch.setattr(web, "_ledger_of", lambda migration: made)
    error = ItemTooLarge(f"{SECRET} is too large", id=f"~{SECRET}", path="notes")
    open_letter(made, "users", error, bson.encode({"_id": SECRET, "notes": "long"}), 7)
    return made


@pytest.fixture
def client(ledger: FakeLedger) -> Any:
    from airflow.api_fastapi.app import create_app
    from docferry_airflow.control_room import web
    from fastapi.testclient import TestClient

    create_app(apps="core")  # which opens the auth manager
    return TestClient(web.make_app())


def token(role: str) -> dict[str, str]:
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    signed = get_auth_manager().generate_jwt(SimpleAuthManagerUser(username=f"a {role}", role=role))
    return {"Authorization": f"Bearer {signed}"}


def show(client: Any, ledger: FakeLedger, headers: dict[str, str]) -> Any:
    (letter,) = list_letters(ledger, "users")
    return client.post(f"{PLACE}/users", json={"letters": [letter.handle]}, headers=headers)


def test_list_shows_neither_documents_nor_ids_and_is_for_those_who_may_see_the_migration(client: Any) -> None:
    assert client.get(PLACE).status_code == 401
    listed = client.get(PLACE, headers=token("viewer"))
    assert listed.status_code == 200
    assert listed.json()["counts"]["users"] == 1
    assert [(one["reason"], one["path"]) for one in listed.json()["letters"]] == [("ItemTooLarge", "notes")]
    assert SECRET not in listed.text


@pytest.mark.parametrize(
    ("role", "more", "status"),
    [
        ("", {}, 401),
        ("viewer", {}, 403),
        ("admin", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("admin", {"X-Docferry": ""}, 403),
        ("admin", {}, 200),
    ],
)
def test_documents_are_for_those_who_may_replay_them_from_the_page_alone_and_the_ledger_knows_who_looked(
    client: Any, ledger: FakeLedger, role: str, more: dict[str, str], status: int
) -> None:
    answered = show(client, ledger, OURS | more | (token(role) if role else {}))
    assert answered.status_code == status
    assert (SECRET in answered.text) is (status == 200)
    assert [one.by for one in list_looks(ledger)] == (["a admin (Airflow)"] if status == 200 else [])


def test_nothing_is_shown_if_it_cannot_be_noted_or_is_no_open_letter(
    client: Any, ledger: FakeLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = OURS | token("admin")
    gone = client.post(f"{PLACE}/users", json={"letters": ["0" * 16]}, headers=headers)
    assert (gone.status_code, list_looks(ledger)) == (409, [])
    other = client.post(f"{PLACE}/nothing", json={"letters": ["0" * 16]}, headers=headers)
    assert other.status_code == 409

    def refuse(*_: Any, **__: Any) -> None:
        raise ItemTooLarge("the ledger says no", id="x", path="x")

    monkeypatch.setattr(ledger, "write", refuse)
    answered = show(client, ledger, headers)
    assert (answered.status_code, SECRET in answered.text) == (503, False)
