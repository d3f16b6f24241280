"""People are told by the providers' own notifiers: a real SNS topic and a real SMTP server hear what is said, and what is not."""

from __future__ import annotations

import socketserver
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from email import message_from_bytes, policy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from docferry.config import load_migration
from docferry.core.settings import NotifySettings
from docferry.sandbox import SandboxStack
from support.airflow.home import write_migration
from support.config import problems_of
from support.place import ROOT

pytestmark = pytest.mark.usefixtures("airflow_home")

TEXT = ["It waits.", "{{ 7 * 7 }} <b>"]


class Mailbox(socketserver.ThreadingTCPServer):
    """Takes every mail; `letters` are what was sent as data."""

    allow_reuse_address = daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Postman)
        self.letters: list[str] = []


class _Postman(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self._say("220 here")
        for line in iter(self.rfile.readline, b""):
            word = line[:4].upper()
            if word == b"DATA":
                self._say("354 go on")
                data = b"".join(iter(self.rfile.readline, b".\r\n"))
                self.server.letters.append(_read(data))  # type: ignore[attr-defined]
            self._say("221 bye" if word == b"QUIT" else "250 yes")
            if word == b"QUIT":
                return

    def _say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


def _read(data: bytes) -> str:
    """Subject and text, as a person sees them."""
    mail = message_from_bytes(data, policy=policy.default)
    parts = [str(part.get_content()) for part in mail.walk() if part.get_content_maintype() == "text"]
    return "\n".join([mail["Subject"], *parts])


@pytest.fixture
def mailbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailbox]:
    with Mailbox() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        where = f"smtp://127.0.0.1:{server.server_address[1]}/?disable_ssl=true&disable_tls=true&from_email=d%40x.org"
        monkeypatch.setenv("AIRFLOW_CONN_SMTP_HERE", where)
        yield server
        server.shutdown()


def told(tmp_path: Path, *ways: NotifySettings, occasion: Any = "approval") -> None:
    from docferry_airflow.notifying import tell

    migration = replace(load_migration(write_migration(tmp_path, "told")), notify=ways)
    tell(migration, occasion, "flip_reads waits for an approval", TEXT, {})


def test_mail_is_sent_as_it_is_and_never_rendered(tmp_path: Path, mailbox: Mailbox) -> None:
    way = NotifySettings(by="smtp", to="ann@example.org", connection="smtp_here", when=("approval",))
    told(tmp_path, way)
    (letter,) = mailbox.letters
    assert "told: flip_reads waits for an approval" in letter
    assert "{{ 7 * 7 }} &lt;b&gt;" in letter
    told(tmp_path, way, occasion="failure")
    assert len(mailbox.letters) == 1


def test_sns_topic_is_told(connections: SandboxStack, tmp_path: Path) -> None:
    env = connections.env()
    keys = {"aws_access_key_id": env["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": env["AWS_SECRET_ACCESS_KEY"]}
    sns, sqs = (
        boto3.client(name, region_name="us-east-1", endpoint_url=connections.aws.endpoint, **keys)
        for name in ("sns", "sqs")
    )
    name = f"told-{uuid.uuid4().hex[:8]}"
    topic, queue = sns.create_topic(Name=name)["TopicArn"], sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    told(tmp_path, NotifySettings(by="sns", to=topic, connection="aws_default"))
    (message,) = sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=20)["Messages"]
    assert "It waits." in message["Body"]
    assert "flip_reads waits for an approval" in message["Body"]


def test_message_that_cannot_be_sent_stops_nothing_and_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(
        "AIRFLOW_CONN_SMTP_HERE", "smtp://127.0.0.1:1/?disable_ssl=true&disable_tls=true&from_email=d%40x.org"
    )
    told(tmp_path, NotifySettings(by="smtp", to="ann@example.org", connection="smtp_here"))
    assert "ann@example.org was not told by smtp: ConnectionRefusedError" in caplog.text


def test_failure_is_told_without_the_errors_text(tmp_path: Path, mailbox: Mailbox) -> None:
    from docferry_airflow.notifying import on_failure

    ways = [{"by": "smtp", "to": "ann@example.org", "connection": "smtp_here"}]
    path = write_migration(tmp_path, "told", notify=ways)
    ti = SimpleNamespace(dag_id="told.validate", task_id="compare", run_id="r")
    context: Any = {"ti": ti, "exception": ValueError("ann's secret")}
    on_failure(str(path))(context)
    (letter,) = mailbox.letters
    assert "told.validate failed" in letter
    assert "ended with ValueError" in letter
    assert "secret" not in letter


def test_file_that_names_a_provider_which_is_not_installed_is_refused_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from docferry_airflow.dag_factory import find_migrations

    write_migration(tmp_path, "told", notify=[{"by": "slack", "to": "#migrations"}])
    monkeypatch.setenv("DOCFERRY_MIGRATIONS", str(tmp_path))
    found = find_migrations()
    assert found.migrations == ()
    assert "pip install apache-airflow-providers-slack" in str(found.errors[0])


def test_place_that_does_not_fit_its_way_is_refused_by_the_file() -> None:
    text = (ROOT / "include" / "migrations" / "events.yaml").read_text()
    found = problems_of(text + "\nnotify: [{by: sns, to: alarms}, {by: smtp, to: ann}, {by: slack, to: '#ok'}]\n")
    assert [one.where for one in found] == ["notify.0.to", "notify.1.to"]
