"""The proof of a model: both sides side by side on scratch tables, of which none is left, whatever ends the process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import boto3
import pytest
import yaml
from docferry.adapters.aws.analyze.scratch import DynamoScratch
from docferry.adapters.local.scratch_manifest import ScratchManifest
from docferry.core.analyze.proof import TAG, scratch_name
from docferry.errors import InvariantBroken, PreflightFailed
from docferry.rehearsal.shop import load_shop
from docferry.sandbox import SandboxStack
from docferry.sandbox.airflow import repository
from pymongo import MongoClient
from support.backfill.rig import table_names
from support.design.films import films_rig
from support.place import ROOT
from support.replicate.rig import end

KILLS = int(os.environ.get("DOCFERRY_PROVE_KILLS", "2"))


@pytest.fixture(scope="module")
def shop(stack: SandboxStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small shop whose documents are all in order, and its migration file."""
    name = f"proved_{uuid.uuid4().hex[:8]}"
    load_shop(stack.env()["DOCFERRY_MONGO_URI"], users=120, database=name, awkward=0, unstorable=0)
    tree = yaml.safe_load((repository() / "include" / "migrations" / "shop.yaml").read_text())
    tree |= {"migration": name, "source": {"database": name}, "ledger": {"table": f"{name}Ledger"}}
    tree["target"].pop("replicas")
    file = tmp_path_factory.mktemp("proved") / "shop.yaml"
    file.write_text(yaml.safe_dump(tree, sort_keys=False))
    yield file
    with MongoClient[Any](stack.env()["DOCFERRY_MONGO_URI"]) as client:
        client.drop_database(name)


def command(file: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "docferry.cli", "analyze", "--prove", str(file), "--out", str(out), "--json", *more]


def environment(stack: SandboxStack) -> dict[str, str]:
    return {**os.environ, **stack.env(), "PYTHONPATH": str(ROOT / "include")}


def prove(stack: SandboxStack, file: Path, out: Path, *more: str, code: int = 0) -> dict[str, Any]:
    ran = subprocess.run(
        command(file, out, *more), env=environment(stack), capture_output=True, text=True, timeout=300, check=False
    )
    assert ran.returncode == code, ran.stdout + ran.stderr
    told: dict[str, Any] = json.loads(ran.stdout)
    return told


def dynamodb(stack: SandboxStack) -> Any:
    env = stack.env()
    keys = {"aws_access_key_id": env["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": env["AWS_SECRET_ACCESS_KEY"]}
    return boto3.client("dynamodb", region_name="us-east-1", endpoint_url=stack.aws.endpoint, **keys)


def scratch_of(stack: SandboxStack, monkeypatch: pytest.MonkeyPatch) -> DynamoScratch:
    for name, value in stack.env().items():
        monkeypatch.setenv(name, value)
    return DynamoScratch(boto3.Session(region_name="us-east-1")._session, "us-east-1")


@pytest.mark.timeout(300)
def test_every_pattern_of_the_shop_gives_what_mongodb_gives_and_no_table_is_left(
    stack: SandboxStack, shop: Path, tmp_path: Path
) -> None:
    told = prove(stack, shop, tmp_path, "--calls", "3")
    assert (told["ok"], told["failed"], told["different"]) == (True, 0, 0)
    found = json.loads((tmp_path / "proof.json").read_text())
    patterns = {one["name"]: one for one in found["patterns"]}
    assert set(yaml.safe_load(shop.read_text())["access_patterns"]) < set(patterns)
    assert all(one["same"] == one["dynamodb"]["calls"] == 3 for one in patterns.values()), patterns
    before_and_after = patterns["active_users_in_city with counts of orders_of_user"]
    assert before_and_after["mongodb"]["p50"] > 0
    assert before_and_after["pages"] > 2
    by_key = patterns["user_by_username"]
    assert (by_key["documents_dynamodb"], by_key["pages"]) == (1.0, 1.0)
    assert by_key["units"] >= 1.0
    assert by_key["items_read"] >= 1.0
    page = (tmp_path / "proof.html").read_text()
    assert "What an emulator cannot show" in page
    assert dynamodb_scratch(stack) == []
    assert ScratchManifest(tmp_path).names() == {}


@pytest.mark.timeout(300)
def test_documents_that_an_index_does_not_hold_are_told(stack: SandboxStack, shop: Path, tmp_path: Path) -> None:
    name = yaml.safe_load(shop.read_text())["source"]["database"]
    with MongoClient[Any](stack.env()["DOCFERRY_MONGO_URI"]) as client:
        products = client[name]["products"]
        half = [one["_id"] for one in products.find({}, {"_id": 1})][::2]
        products.update_many({"_id": {"$in": half}}, {"$unset": {"name": ""}})
        try:
            ran = subprocess.run(
                command(shop, tmp_path, "--calls", "4"),
                env=environment(stack),
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            products.update_many({"_id": {"$in": half}}, {"$set": {"name": "again"}})
    assert ran.returncode == 1, ran.stdout + ran.stderr
    found = {one["name"]: one for one in json.loads((tmp_path / "proof.json").read_text())["patterns"]}
    assert found["products_in_category"]["missing"] > 0
    assert found["products_in_category"]["more"] == 0
    assert "fewer" in (tmp_path / "proof.html").read_text()
    assert dynamodb_scratch(stack) == []


def dynamodb_scratch(stack: SandboxStack) -> list[str]:
    return sorted(name for name in table_names(dynamodb(stack)) if "scratch" in name)


@pytest.mark.timeout(60 + 60 * KILLS)
def test_killed_at_random_moments_it_leaves_no_table_after_the_next_start(
    stack: SandboxStack, shop: Path, tmp_path: Path
) -> None:
    random = Random("kills")
    seen, earlier = 0, set[str]()
    for number in range(KILLS):
        proving = subprocess.Popen(
            command(shop, tmp_path, "--calls", "20"),
            env=environment(stack),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while ScratchManifest(tmp_path).names().keys() <= earlier and proving.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        earlier |= ScratchManifest(tmp_path).names().keys()
        if number:  # the first one is killed between the manifest and the table
            time.sleep(random.uniform(0, 3))
        proving.send_signal(signal.SIGKILL)
        proving.wait(timeout=30)
        seen += len(dynamodb_scratch(stack))
    told = subprocess.run(
        command(shop, tmp_path, "--clean"), env=environment(stack), capture_output=True, text=True, check=True
    )
    assert dynamodb_scratch(stack) == [], told.stdout
    assert seen or KILLS < 3, "no kill came while there were tables"


@pytest.mark.timeout(120)
def test_stopped_by_a_signal_it_removes_its_tables_itself(stack: SandboxStack, shop: Path, tmp_path: Path) -> None:
    proving = subprocess.Popen(
        [*command(shop, tmp_path), "--calls", "2000"], env=environment(stack), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not dynamodb_scratch(stack):
        assert time.monotonic() < deadline
        assert proving.poll() is None
        time.sleep(0.01)
    proving.send_signal(signal.SIGTERM)
    proving.communicate(timeout=60)
    assert dynamodb_scratch(stack) == []


def test_tables_that_are_no_scratch_tables_are_never_removed(
    stack: SandboxStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch, client = scratch_of(stack, monkeypatch), dynamodb(stack)
    untagged = scratch_name(uuid.uuid4().hex[:8], 0)
    client.create_table(
        TableName=untagged,
        KeySchema=[{"AttributeName": "PK", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "PK", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    try:
        assert untagged in scratch.names()
        for name in (
            untagged,
            "Shop",
            "docferry-scratch-",
            "docferry-scratch-00000000-1x",
            "xdocferry-scratch-00000000-1",
        ):
            with pytest.raises(InvariantBroken):
                scratch.delete(name)
        assert client.describe_table(TableName=untagged)["Table"]["TableName"] == untagged
        arn = client.describe_table(TableName=untagged)["Table"]["TableArn"]
        client.tag_resource(ResourceArn=arn, Tags=[{"Key": TAG, "Value": "1"}])
        scratch.delete(untagged)
        assert scratch.status(untagged) in ("", "DELETING")
    finally:
        if scratch.status(untagged):
            client.delete_table(TableName=untagged)


def test_two_processes_do_not_prove_in_one_directory(tmp_path: Path) -> None:
    with (
        ScratchManifest(tmp_path).held(),
        pytest.raises(PreflightFailed, match="another process"),
        ScratchManifest(tmp_path).held(),
    ):
        pass
    with ScratchManifest(tmp_path).held():
        pass


@pytest.mark.timeout(300)
def test_a_model_with_keys_and_indexes_of_its_own_is_proved(stack: SandboxStack, tmp_path: Path) -> None:
    rig = films_rig(stack.env(), tmp_path)
    try:
        told = prove(stack, rig.file, tmp_path / "out", "--calls", "3")
    finally:
        end(rig)
    found = {one["name"]: one for one in json.loads((tmp_path / "out" / "proof.json").read_text())["patterns"]}
    assert {name: one["failed"] for name, one in found.items() if one["failed"]} == {}
    assert (told["ok"], told["failed"], told["different"]) == (True, 0, 0)
    assert found["films_of_genre"]["same"] == found["person"]["same"] == 3
    assert found["films_in_language"]["same"] == 3, "over shards, of an index with conditions"
    assert dynamodb_scratch(stack) == []
