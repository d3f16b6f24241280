"""A real provisioning process is killed at ten different requests; the next run ends in the undisturbed estate.

A proxy stands between the process and the emulator and counts what passes. At the chosen request it kills the process
with SIGKILL, either before passing the request on or after the emulator has answered and before the process hears of it.
"""

from __future__ import annotations

import http.client
import http.server
import os
import random
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from docferry.sandbox.aws import SandboxAws

CHANGES = ("CreateTable", "UpdateTable", "UpdateContinuousBackups", "UpdateTimeToLive", "TagResource", "UntagResource")
POINTS = 10
SCRIPT = """
import sys
import botocore.session
from docferry.adapters.aws.estate import AwsEstate
from docferry.core.estate.plan import desired_estate
from docferry.core.settings import LedgerSettings, TableSettings, TargetSettings
from docferry.flows.provision.run import Patience, add_replicas, provision

class Quiet:
    def say(self, text): pass
    def advance(self, *_): pass
    def is_set(self): return False

mark = sys.argv[1]
table = TableSettings(name="Shop" + mark, indexes=("GSI1", "GSI2"), tags={"Project": "migration"})
target = TargetSettings(region="us-east-1", replicas=("eu-west-1",))
desired = desired_estate([table], LedgerSettings(table="Ledger" + mark), target)
estate = AwsEstate(botocore.session.Session(), "us-east-1")
run = {"progress": Quiet(), "stop": Quiet(), "patience": Patience(poll_s=0.05, settle_s=20, agree_s=2, trouble_s=5)}
changed = provision(desired, estate, **run).changed_anything
changed = add_replicas(desired, estate, **run).changed_anything or changed
print("changed" if changed else "unchanged")
"""


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxAws]:
    with SandboxAws(tmp_path_factory.mktemp("aws")) as aws:
        yield aws


class Proxy:
    """Passes requests on, counts those that change something, and kills `victim` at number `at` (from 1)."""

    def __init__(self, upstream: str, at: int = 0, *, after_answer: bool = False) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.at, self.after_answer = at, after_answer
        self.victim: subprocess.Popen[str] | None = None
        self.changes: list[str] = []
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def kill(self) -> None:
        assert self.victim is not None
        os.kill(self.victim.pid, signal.SIGKILL)
        self.victim.wait(timeout=10)

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # One packet an answer: in two, each would wait for a delayed acknowledgement (40 ms).

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                operation = self.headers["X-Amz-Target"].rsplit(".", 1)[-1]
                if operation in CHANGES:
                    proxy.changes.append(operation)
                    if len(proxy.changes) == proxy.at:
                        self._die(body)
                        return
                status, headers, answer = self._pass_on(body)
                self.send_response(status)
                for name, value in headers:
                    if name.lower() not in {"content-length", "transfer-encoding", "connection", "date", "server"}:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def _die(self, body: bytes) -> None:
                if proxy.after_answer:
                    self._pass_on(body)
                proxy.kill()
                self.close_connection = True

            def _pass_on(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
                connection = http.client.HTTPConnection(proxy.upstream, timeout=20)
                headers = {k: v for k, v in self.headers.items() if k.lower() != "host"}
                connection.request("POST", self.path, body, headers)
                reply = connection.getresponse()
                answer = reply.read()
                connection.close()
                return reply.status, reply.getheaders(), answer

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        return Handler


@contextmanager
def serving(proxy: Proxy) -> Iterator[Proxy]:
    thread = threading.Thread(target=proxy.server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield proxy
    finally:
        proxy.server.shutdown()
        thread.join()
        proxy.server.server_close()


def provision(emulator: SandboxAws, mark: str, proxy: Proxy) -> tuple[int, str]:
    """Exit code and last word of a provisioning process whose DynamoDB is the proxy."""
    env = {**os.environ, **emulator.env(), "AWS_ENDPOINT_URL_DYNAMODB": proxy.url}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, mark], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    proxy.victim = process
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode in {0, -signal.SIGKILL}, err
    return process.returncode, out.strip()


def estate_of(emulator: SandboxAws, mark: str) -> dict[str, Any]:
    """Everything AWS says about the three tables, without docferry and without names, ids and times."""
    found = {}
    for region, base in (("us-east-1", "Ledger"), ("us-east-1", "Shop"), ("eu-west-1", "Shop")):
        client = boto3.client(
            "dynamodb",
            region_name=region,
            endpoint_url=emulator.endpoint,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        name = base + mark
        table = client.describe_table(TableName=name)["Table"]
        tags = client.list_tags_of_resource(ResourceArn=table["TableArn"])["Tags"]
        for volatile in (
            "TableId",
            "CreationDateTime",
            "LatestStreamArn",
            "LatestStreamLabel",
            "TableArn",
            "TableName",
        ):
            table.pop(volatile, None)
        table["BillingModeSummary"].pop("LastUpdateToPayPerRequestDateTime", None)
        for index in table.get("GlobalSecondaryIndexes", []):
            index.pop("IndexArn")
        backups = client.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
        found[f"{base} in {region}"] = {
            "table": table,
            "tags": tags,
            "pitr": backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"],
            "ttl": client.describe_time_to_live(TableName=name)["TimeToLiveDescription"],
        }
    return found


@pytest.mark.slow
def test_provision_when_killed_anywhere_and_run_again_ends_in_the_same_estate(emulator: SandboxAws) -> None:
    undisturbed = uuid.uuid4().hex[:8]
    with serving(Proxy(emulator.endpoint)) as whole:
        assert provision(emulator, undisturbed, whole) == (0, "changed")
    expected = estate_of(emulator, undisturbed)
    assert set(whole.changes) == set(CHANGES), "each kind of change must be there to be killed at"

    everywhere = [(at, after) for at in range(1, len(whole.changes) + 1) for after in (False, True)]
    for at, after_answer in random.Random(20261122).sample(everywhere, POINTS):
        mark, place = uuid.uuid4().hex[:8], f"{whole.changes[at - 1]} ({at}), after the answer: {after_answer}"
        with serving(Proxy(emulator.endpoint, at, after_answer=after_answer)) as deadly:
            assert provision(emulator, mark, deadly)[0] == -signal.SIGKILL, place
        assert deadly.changes == whole.changes[:at], place
        with serving(Proxy(emulator.endpoint)) as healed:
            assert provision(emulator, mark, healed)[0] == 0, place
        assert len(healed.changes) <= len(whole.changes) - at + 1, f"{place}: work was done twice"
        assert estate_of(emulator, mark) == expected, place
