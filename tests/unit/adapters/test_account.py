"""Credentials of another AWS account are refused before anything is asked of that account, on every way to AWS."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import boto3
import pytest
from docferry.config import Migration, parse_migration
from docferry.errors import PreflightFailed
from docferry.ports.flows import Target
from docferry.wiring import Connections, connect
from support.place import ROOT

OURS, OTHER = "111122223333", "444455556666"
FILE = f"""\
migration: small
source: {{database: d}}
target: {{account: "{OURS}"}}
tables: {{Tab: {{}}}}
collections: {{logs: {{}}}}
"""
ANSWER = """<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>
<Arn>arn:aws:iam::{0}:user/u</Arn><UserId>u</UserId><Account>{0}</Account></GetCallerIdentityResult>
<ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></GetCallerIdentityResponse>"""


@contextmanager
def aws(account: str) -> Iterator[tuple[str, list[str]]]:
    """Where an AWS answers that tells STS's callers that they are of `account`, and the bodies of all requests to it."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            body = ANSWER.format(account).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("ACCESS_KEY_ID", "k"), ("SECRET_ACCESS_KEY", "s"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)


async def _nothing(target: Target) -> None:
    return None


WAYS: dict[str, Callable[[Connections, Migration], Any]] = {
    "the estate": lambda at, of: at.estate(of),
    "the ledger": lambda at, of: at.ledger(of),
    "the journal": lambda at, of: at.journal(of),
    "the streams": lambda at, of: at.streams(of),
    "rollback points": lambda at, of: at.points(of),
    "a flow": lambda at, of: at.run(of, _nothing),
}


@pytest.mark.parametrize("way", WAYS)
def test_another_account_is_refused_on_every_way(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with aws(OTHER) as (url, asked):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        connections = Connections(mongo_uri="mongodb://127.0.0.1", session=boto3.Session(region_name="us-east-1"))
        with pytest.raises(PreflightFailed, match=f"target.account: is {OURS}, and .* account {OTHER}"):
            WAYS[way](connections, parse_migration(FILE.encode()))
    assert ["GetCallerIdentity" in one for one in asked] == [True]


def test_an_application_of_another_account_does_not_start(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "small.yaml").write_text(FILE)
    monkeypatch.setenv("DOCFERRY_MONGO_URI", "mongodb://127.0.0.1")
    with aws(OTHER) as (url, asked):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        with pytest.raises(PreflightFailed, match=OTHER):
            connect(tmp_path / "small.yaml")
    assert len(asked) == 1


def test_the_account_of_the_file_is_asked_for_once_and_any_is_never_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    migration = parse_migration(FILE.encode())
    with aws(OURS) as (url, asked):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        connections = Connections(mongo_uri="mongodb://127.0.0.1", session=boto3.Session(region_name="us-east-1"))
        for way in WAYS.values():
            way(connections, replace(migration, target=replace(migration.target, account="")))
        assert asked == []
        for way in WAYS.values():
            way(connections, migration)
        assert len(asked) == 1


def test_nothing_takes_the_session_past_the_check() -> None:
    """`Connections.aws` is the only reader of the session, but for whether there are credentials and where an emulator is."""
    rooms = (ROOT / "plugins", ROOT / "dags", ROOT / "include" / "demo", ROOT / "include" / "docferry")
    lines = [
        f"{path.name}: {line.strip()}"
        for room in rooms
        for path in room.rglob("*.py")
        for line in path.read_text().splitlines()
        if re.search(r"connections\.session\b", line) or (path.name == "wiring.py" and "self.session" in line)
    ]
    assert sorted(lines) == [
        "wiring.py: require_account(self.session._session, account, migration.target.region)",
        "wiring.py: return self.session",
        "wiring.py: return self.session.get_credentials() is not None",
        'wiring_proof.py: client = aws_client(connections.session._session.create_client, "dynamodb", region_name=region)',
    ]
