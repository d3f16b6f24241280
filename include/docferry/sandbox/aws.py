"""The AWS emulators on this machine: ministack for nearly everything, moto beside it for what ministack has not."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from docferry.errors import RequestRefused, TimedOut, Unavailable
from docferry.sandbox.processes import ChildProcess, ReservedPort, start_child, wait_until
from docferry.sandbox.tools import MINISTACK_VERSION, Say, ensure_ministack, ensure_moto, say_nothing

REGION = "us-east-1"
CANARY_REPLICA = "eu-west-1"
ACCOUNT_ID = "123456789012"
ACCESS_KEY_ID = "docferryembedded"
"""Letters and digits only: DynamoDB Local refuses others, and twelve digits would be taken for an account id."""
SECRET_ACCESS_KEY = "nosecretatall"  # noqa: S105 - it opens nothing; the emulators check no signature
START_TIMEOUT_S = 60.0
REQUEST_TIMEOUT_S = 10.0

MOTO_SERVICES = ("DAX", "APPLICATION_AUTO_SCALING", "XRAY")
"""ministack answers 400 to these."""
MINISTACK_SERVICES = ("DYNAMODB", "DYNAMODB_STREAMS", "S3", "STS", "IAM", "EC2", "KMS", "CLOUDWATCH")
"""Named one by one, too, because a variable of the caller's environment for one service would beat AWS_ENDPOINT_URL."""


class SandboxAws:
    """ministack on 127.0.0.1, in memory, and moto_server beside it if `dax`. No state is shared between the two.

    Use as a context manager, or open() and close(). `directory` takes the logs and must exist.
    Raises: PreflightFailed if the programs cannot be installed, Unavailable or TimedOut if they do not start,
    RequestRefused if what answers is not the ministack that this project was tried with.
    """

    def __init__(
        self, directory: Path, dax: bool = False, *, outlive_parent: bool = False, say: Say = say_nothing
    ) -> None:
        self.directory, self.dax = directory, dax
        self._outlive_parent, self._say = outlive_parent, say
        self._port = ReservedPort()
        self._moto_port = ReservedPort() if dax else None
        self._processes: list[ChildProcess] = []

    def __repr__(self) -> str:
        return f"SandboxAws({self.endpoint}, dax={self.dax})"

    def __enter__(self) -> SandboxAws:
        try:
            return self.open()
        except BaseException:
            self.close()
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port.number}"

    @property
    def moto_endpoint(self) -> str | None:
        return f"http://127.0.0.1:{self._moto_port.number}" if self._moto_port else None

    def open(self) -> SandboxAws:
        """Start the emulators together, wait until they answer, and check that they are what they should be."""
        program = ensure_ministack(self._say)
        moto = self._start_moto()
        ministack = self._start("ministack", [program], _ministack_settings(self._port.number, self.directory))
        health = wait_until(
            lambda: _get_json(f"{self.endpoint}/_ministack/health"),
            timeout_s=START_TIMEOUT_S,
            what="ministack answers",
            child=ministack,
        )
        _check_version(health)
        self._sing_canary()
        if moto is not None:
            wait_until(
                lambda: _answers(f"{self.moto_endpoint}/moto-api/"),
                timeout_s=START_TIMEOUT_S,
                what="moto answers",
                child=moto,
            )
        return self

    def close(self) -> None:
        """Stop the emulators; what they held is gone. Idempotent."""
        for process in self._processes:
            process.stop(grace_s=0.5)
        for port in (self._port, self._moto_port):
            if port is not None:
                port.close()

    def processes(self) -> list[ChildProcess]:
        return list(self._processes)

    def env(self) -> dict[str, str]:
        """Variables that lead every AWS SDK here. Account 123456789012, us-east-1, credentials that open nothing."""
        beside = self.moto_endpoint or self.endpoint
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            **{f"AWS_ENDPOINT_URL_{service}": self.endpoint for service in MINISTACK_SERVICES},
            **{f"AWS_ENDPOINT_URL_{service}": beside for service in MOTO_SERVICES},
            "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def pause(self) -> None:
        """Freeze the emulators: connections stay open and nothing answers."""
        for process in self._processes:
            process.pause()

    def resume(self) -> None:
        for process in self._processes:
            process.resume()

    def reset(self) -> None:
        """Forget every table, bucket and key of ministack (10 ms)."""
        _post(f"{self.endpoint}/_ministack/reset", b"", {})

    def _start_moto(self) -> ChildProcess | None:
        if self._moto_port is None:
            return None
        program = ensure_moto(self._say)
        return self._start("moto", [program, "-H", "127.0.0.1", "-p", str(self._moto_port.number)], {})

    def _start(self, name: str, command: list[str | Path], settings: Mapping[str, str]) -> ChildProcess:
        process = start_child(
            command,
            name=name,
            log=self.directory / f"{name}.log",
            env={**_clean_environment(), **settings},
            outlive_parent=self._outlive_parent,
        )
        self._processes.append(process)
        return process

    def _sing_canary(self) -> None:
        """A write in one region must show in another: the ministack to beware of only pretends it.

        Why: pip resolves ministack together with a current boto3 to an old version, whose global tables are accepted
        and do nothing. Tests against that one are green and prove nothing.
        """
        table = f"DocferryCanary{time.monotonic_ns()}"
        key = {"AttributeName": "PK", "AttributeType": "S"}
        item = {"PK": {"S": "canary"}}
        self._call(
            "CreateTable",
            TableName=table,
            AttributeDefinitions=[key],
            KeySchema=[{"AttributeName": "PK", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
        )
        self._call("UpdateTable", TableName=table, ReplicaUpdates=[{"Create": {"RegionName": CANARY_REPLICA}}])
        self._call("PutItem", TableName=table, Item=item)
        try:
            wait_until(
                lambda: self._call("GetItem", region=CANARY_REPLICA, TableName=table, Key=item).get("Item"),
                timeout_s=10,
                what="an item to reach its replica",
            )
        except (TimedOut, RequestRefused) as error:
            raise RequestRefused(f"the emulator at {self.endpoint} does not replicate global tables") from error
        self.reset()

    def _call(self, operation: str, *, region: str = REGION, **arguments: Any) -> dict[str, Any]:
        # Without an SDK: loading botocore's models would cost more than all the rest of the start.
        credential = f"Credential={ACCESS_KEY_ID}/20260101/{region}/dynamodb/aws4_request"
        headers = {
            "Content-Type": "application/x-amz-json-1.0",
            "X-Amz-Target": f"DynamoDB_20120810.{operation}",
            "Authorization": f"AWS4-HMAC-SHA256 {credential}, SignedHeaders=host, Signature=0",
        }
        answer: dict[str, Any] = json.loads(_post(self.endpoint, json.dumps(arguments).encode(), headers))
        return answer


def _ministack_settings(port: int, directory: Path) -> dict[str, str]:
    return {
        "BIND_HOST": "127.0.0.1",  # It listens on every interface otherwise.
        "GATEWAY_PORT": str(port),
        "MINISTACK_ACCOUNT_ID": ACCOUNT_ID,
        "MINISTACK_REGION": REGION,
        "LOG_LEVEL": "WARNING",
        "SFTP_ENABLED": "0",
        "IOT_MTLS_ENABLED": "0",
        "TMPDIR": str(directory),  # Its pid file goes there.
    }


def _clean_environment() -> dict[str, str]:
    """The caller's environment without what would change an emulator: AWS settings, its own options, Python paths."""
    unwanted = ("AWS_", "MINISTACK_", "MOTO_", "PYTHON", "PERSIST_STATE", "STATE_DIR", "S3_PERSIST", "VIRTUAL_ENV")
    return {k: v for k, v in os.environ.items() if not k.startswith(unwanted)}


def _check_version(health: Mapping[str, Any]) -> None:
    found = health.get("version")
    if found != MINISTACK_VERSION:
        raise RequestRefused(f"ministack {MINISTACK_VERSION} is needed, {found} answers")


def _get_json(url: str) -> dict[str, Any] | None:
    try:
        with urllib.request.urlopen(url, timeout=REQUEST_TIMEOUT_S) as reply:
            answer: dict[str, Any] = json.load(reply)
            return answer
    except (OSError, ValueError):
        return None


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=REQUEST_TIMEOUT_S):
            return True
    except OSError:
        return False


def _post(url: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    request = urllib.request.Request(url, data=body, headers=dict(headers), method="POST")
    try:
        with urllib.request.urlopen(request, timeout=REQUEST_TIMEOUT_S) as reply:
            answer: bytes = reply.read()
            return answer
    except urllib.error.HTTPError as error:
        raise RequestRefused(f"{url} answered {error.code}: {error.read()[:300]!r}", code=str(error.code)) from error
    except OSError as error:
        raise Unavailable(f"{url} does not answer: {error}") from error
