"""An estate on the emulators, and one run of provision."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import boto3
import botocore.session
import pytest
from docferry.adapters.aws.estate import AwsEstate
from docferry.core.estate.plan import desired_estate
from docferry.core.estate.values import DesiredEstate
from docferry.core.settings import DaxSettings, LedgerSettings, TableSettings, TargetSettings
from docferry.flows.provision.report import ProvisionReport
from docferry.flows.provision.run import Patience, provision
from docferry.sandbox.aws import SandboxAws

REGION, ABROAD = "us-east-1", "eu-west-1"


HASTY = Patience(poll_s=0.05, settle_s=20, agree_s=1, trouble_s=1)


@pytest.fixture(scope="module")
def emulators(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxAws]:
    with SandboxAws(tmp_path_factory.mktemp("aws"), dax=True) as aws:
        yield aws


@pytest.fixture(autouse=True)
def _environment(emulators: SandboxAws, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in emulators.env().items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def estate() -> AwsEstate:
    return AwsEstate(botocore.session.Session(), REGION)


@pytest.fixture
def dynamodb() -> Any:
    return boto3.client("dynamodb", region_name=REGION)


@pytest.fixture
def desired() -> DesiredEstate:
    return shop()


def shop(dax: DaxSettings | None = None, **changes: Any) -> DesiredEstate:
    mark = uuid.uuid4().hex[:8]
    table = replace(
        TableSettings(name=f"Shop{mark}", indexes=("GSI1", "GSI2"), tags={"Project": "migration"}), **changes
    )
    target = TargetSettings(region=REGION, replicas=(ABROAD,))
    return desired_estate([table], LedgerSettings(table=f"Ledger{mark}"), target, dax)


class Listener:
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def advance(self, subject: str, done: int, total: int, note: str = "") -> None:
        self.said.append(f"{subject} {done}/{total}")


class Stop:
    def __init__(self, after: int = 10**9) -> None:
        self.asked, self.after = 0, after

    def is_set(self) -> bool:
        self.asked += 1
        return self.asked > self.after


def run(
    desired: DesiredEstate, estate: Any, flow: Callable[..., ProvisionReport] = provision, **more: Any
) -> ProvisionReport:
    return flow(desired, estate, **{"progress": Listener(), "stop": Stop(), "patience": HASTY, **more})


def outcomes(report: ProvisionReport) -> list[str]:
    return [resource.outcome.value for resource in report.resources]


def table_name(desired: DesiredEstate) -> str:
    return desired.tables[1].name
