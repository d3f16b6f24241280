"""The throw-away stack: it comes up, it can be hurt on purpose, and it leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import socketserver
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import bson
import pytest
from botocore.session import Session
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from docferry.config import load_migration
from docferry.errors import DocumentError, PreflightFailed, RequestRefused, TimedOut, Unavailable
from docferry.rehearsal.oddities import AWKWARD, UNSTORABLE
from docferry.rehearsal.shop import COLLECTIONS, ShopPlan, load_shop, shop_documents
from docferry.sandbox import SandboxReplicaSet, SandboxStack, read_stack
from docferry.sandbox.aws import MOTO_SERVICES
from docferry.sandbox.processes import ReservedPort, start_child, wait_until
from docferry.sandbox.tools import ensure_mongod
from pymongo import MongoClient, WriteConcern
from pymongo.errors import OperationFailure, WriteError, WTimeoutError
from support.pace import Pace
from support.place import ROOT

SHOP_FILE = ROOT / "include" / "migrations" / "shop.yaml"
SMALL = ShopPlan(users=200, awkward=120)

# A stack in a process of its own, which then does what is asked of it on standard input.
OWNER = """
import sys
from pathlib import Path
from docferry.config import load_migration
from docferry.sandbox import SandboxStack
with SandboxStack(announce_in=Path(sys.argv[1]), keep=sys.argv[2] == "keep") as stack:
    print("up", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(scope="module")
def stack() -> Iterator[SandboxStack]:
    with SandboxStack() as opened:
        yield opened


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxReplicaSet]:
    with SandboxReplicaSet(
        tmp_path_factory.mktemp("three"), 3, test_commands=True, election_timeout_ms=2_000
    ) as opened:
        yield opened


# --- the stack ------------------------------------------------------------------------------------------------------


@pytest.mark.xdist_group("embedded_stack")
def test_env_of_an_open_stack_leads_to_both_databases(stack: SandboxStack, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in stack.env().items():
        monkeypatch.setenv(name, value)
    session = Session()
    assert session.create_client("sts").get_caller_identity()["Account"] == "123456789012"
    assert session.create_client("dynamodb").list_tables()["TableNames"] == []  # The canary is gone.
    with MongoClient[Any](os.environ["DOCFERRY_APP_MONGO_URI"]) as app:
        app.env.things.insert_one({"_id": 1})
        assert app.env.things.count_documents({}) == 1


@pytest.mark.xdist_group("embedded_stack")
def test_env_names_an_endpoint_for_services_that_only_moto_has(stack: SandboxStack) -> None:
    assert {f"AWS_ENDPOINT_URL_{service}" for service in MOTO_SERVICES} <= stack.env().keys()


@pytest.mark.xdist_group("embedded_stack")
def test_repr_and_logs_show_no_password(stack: SandboxStack) -> None:
    passwords = {stack.mongo.uri(user).split("@")[0].rpartition(":")[2] for user in ("docferry", "app")}
    shown = repr(stack) + repr(read_stack(stack.directory))
    shown += "".join(log.read_text(errors="replace") for log in stack.directory.glob("*.log"))
    assert len(passwords) == 2
    assert not [password for password in passwords if password in shown]


@pytest.mark.xdist_group("embedded_stack")
def test_stack_file_is_private_and_names_every_process(stack: SandboxStack) -> None:
    assert stat.S_IMODE((stack.directory / "stack.json").stat().st_mode) == 0o600
    kept = read_stack(stack.directory)
    assert kept.is_alive()
    assert kept.env() == stack.env()
    assert {process.name for process in kept.processes} == {"mongod-0", "ministack"}


@pytest.mark.xdist_group("embedded_stack")
def test_write_block_stops_the_application_and_not_docferry(stack: SandboxStack) -> None:
    with stack.mongo.client() as ours, stack.mongo.client("app") as app:
        ours.admin.command({"setUserWriteBlockMode": 1, "global": True})
        try:
            with pytest.raises(WriteError, match="User writes blocked"):
                app.block.things.insert_one({})
            ours.block.things.insert_one({})
        finally:
            ours.admin.command({"setUserWriteBlockMode": 1, "global": False})
        app.block.things.insert_one({})


@pytest.mark.xdist_group("embedded_stack")
def test_paused_aws_does_not_answer_until_it_is_resumed(stack: SandboxStack) -> None:
    stack.aws.pause()
    answered = threading.Event()

    def ask() -> None:
        stack.aws.reset()
        answered.set()

    asking = threading.Thread(target=ask)
    try:
        asking.start()
        assert not answered.wait(0.3)
    finally:
        stack.aws.resume()
    asking.join(10)
    assert answered.is_set()


def test_close_leaves_no_process_and_no_directory_and_can_be_repeated(tmp_path: Path) -> None:
    stack = SandboxStack(announce_in=tmp_path)
    with stack:
        kept, directory = read_stack(tmp_path), stack.directory
    assert not kept.is_alive()
    assert not directory.exists()
    assert list(tmp_path.iterdir()) == []
    stack.close()
    with pytest.raises(Unavailable):
        stack.env()


def test_wrong_emulator_is_refused_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("docferry.sandbox.aws.MINISTACK_VERSION", "1.4.21")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(RequestRefused, match=r"1\.4\.21 is needed"), SandboxStack():
        pass
    assert list(tmp_path.iterdir()) == []


def _owner(directory: Path, keep: str = "no") -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(directory), keep],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(directory)},
    )
    assert _pipe(process.stdout).readline() == "up\n"
    return process


def _pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def test_sigkill_of_the_owner_kills_every_process_and_the_next_stack_sweeps(tmp_path: Path) -> None:
    owner = _owner(tmp_path)
    kept = read_stack(tmp_path)
    assert kept.is_alive()
    owner.kill()
    owner.wait(60)
    wait_until(lambda: not any(p.is_alive() for p in kept.processes), timeout_s=5, what="the end of the orphans")
    assert kept.directory.exists()  # No process was left to remove it ...
    second = _owner(tmp_path)
    assert not kept.directory.exists()  # ... but the next one does.
    second.terminate()
    assert second.wait(60) == 128 + signal.SIGTERM
    assert list(tmp_path.glob("docferry-stack-*")) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_to_the_owner_cleans_up(tmp_path: Path, number: int) -> None:
    owner = _owner(tmp_path)
    kept = read_stack(tmp_path)
    owner.send_signal(number)
    assert owner.wait(60) != 0
    assert not any(process.is_alive() for process in kept.processes)
    assert list(tmp_path.iterdir()) == []


def test_kept_stack_outlives_its_owner_until_it_is_stopped(tmp_path: Path) -> None:
    owner = _owner(tmp_path, "keep")
    _pipe(owner.stdin).close()
    assert owner.wait(60) == 0
    kept = read_stack(tmp_path)
    assert kept.is_alive()
    with MongoClient[Any](kept.env()["DOCFERRY_MONGO_URI"], serverSelectionTimeoutMS=5_000) as client:
        assert client.admin.command("ping")["ok"]
    kept.stop()
    assert not any(process.is_alive() for process in kept.processes)
    assert list(tmp_path.iterdir()) == []


# --- the replica set ------------------------------------------------------------------------------------------------


@pytest.mark.xdist_group("embedded_three")
def test_held_back_secondary_serves_old_data_until_it_is_let_go(three: SandboxReplicaSet) -> None:
    with three.client(w="majority") as client:
        client.held.things.insert_one({"_id": 1})
        behind = three.secondaries()[0]
        three.hold_back(behind)
        client.held.things.insert_one({"_id": 2})  # The other secondary makes the majority.
        mine = three.member_client(behind).held.things
        assert mine.find_one({"_id": 2}) is None
        three.let_go(behind)
        assert mine.find_one({"_id": 2}) == {"_id": 2}


@pytest.mark.xdist_group("embedded_three")
def test_only_a_secondary_can_be_held_back(three: SandboxReplicaSet) -> None:
    with pytest.raises(RequestRefused, match="is the primary"):
        three.hold_back(three.primary())


@pytest.mark.xdist_group("embedded_three")
def test_step_down_makes_another_member_primary(three: SandboxReplicaSet) -> None:
    old = three.primary()
    assert three.step_down() != old
    three.wait_until_healthy()


@pytest.mark.xdist_group("embedded_three")
def test_killed_primary_is_replaced_and_takes_part_again_after_start(three: SandboxReplicaSet) -> None:
    old = three.primary()
    three.kill(old)
    assert three.primary() != old
    with three.client(w="majority") as client:
        client.killed.things.insert_one({"_id": 1})
        three.start(old)
        mine = three.member_client(old).killed.things
        assert wait_until(lambda: mine.find_one({"_id": 1}), timeout_s=20, what="the document") == {"_id": 1}


@pytest.mark.xdist_group("embedded_three")
def test_paused_member_is_not_counted_until_it_is_resumed(three: SandboxReplicaSet) -> None:
    frozen = three.secondaries()[0]
    three.pause(frozen)
    assert frozen not in three.secondaries()
    three.resume(frozen)
    three.wait_until_healthy()
    assert frozen in three.secondaries()


def test_set_with_an_arbiter_loses_its_write_majority_with_one_data_member(tmp_path: Path) -> None:
    with SandboxReplicaSet(tmp_path, 2, arbiter=True) as replica_set, replica_set.client() as client:
        assert client.admin.command("replSetGetStatus")["writeMajorityCount"] == 2
        replica_set.kill(replica_set.secondaries()[0])
        concern = WriteConcern("majority", wtimeout=300)
        with pytest.raises(WTimeoutError):
            client.get_database("stalled", write_concern=concern).things.insert_one({})


def test_wrong_password_is_refused(tmp_path: Path) -> None:
    with SandboxReplicaSet(tmp_path) as replica_set:
        good = replica_set.uri("app")
        assert "@127.0.0.1:" in good
        assert stat.S_IMODE((tmp_path / "keyfile").stat().st_mode) == 0o600
        bad = "mongodb://app:wrong@" + good.partition("@")[2]
        with MongoClient[Any](bad) as client, pytest.raises(OperationFailure, match="Authentication failed"):
            client.admin.command("listDatabases")


# --- processes and tools --------------------------------------------------------------------------------------------


def test_wait_fails_at_once_with_the_log_when_the_process_has_died(tmp_path: Path) -> None:
    child = start_child(["/bin/sh", "-c", "echo out of luck; exit 3"], name="luckless", log=tmp_path / "log")
    with Pace() as pace, pytest.raises(Unavailable, match=r"luckless ended with 3 before it listened\nout of luck"):
        wait_until(lambda: None, timeout_s=60, what="it listened", child=child)
    assert pace.seconds < 10


def test_wait_times_out_and_names_what_it_waited_for() -> None:
    with pytest.raises(TimedOut, match="in vain for Godot"):
        wait_until(lambda: None, timeout_s=0.1, what="Godot")


def test_child_started_by_a_thread_outlives_the_thread(tmp_path: Path) -> None:
    started = []
    thread = threading.Thread(
        target=lambda: started.append(start_child(["/bin/sleep", "60"], name="sleeper", log=tmp_path / "log"))
    )
    thread.start()
    thread.join()
    with pytest.raises(TimedOut):
        started[0].wait(0.5)
    started[0].stop()
    assert not started[0].is_alive()


def test_reserved_ports_differ_and_a_server_can_listen_on_one() -> None:
    ports = [ReservedPort() for _ in range(200)]
    try:
        assert len({port.number for port in ports}) == 200

        class Server(socketserver.TCPServer):
            allow_reuse_address = True

        Server(("127.0.0.1", ports[0].number), socketserver.BaseRequestHandler).server_close()
    finally:
        for port in ports:
            port.close()


def test_mongod_that_lacks_a_library_names_the_debian_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "mongod"
    fake.write_text("#!/bin/sh\necho 'libcurl.so.4: cannot open shared object file: No such file' >&2\nexit 127\n")
    fake.chmod(0o755)
    monkeypatch.setenv("MONGOD", str(fake))
    with pytest.raises(PreflightFailed, match="apt-get install libcurl4"):
        ensure_mongod()


# --- the shop -------------------------------------------------------------------------------------------------------


def _bytes(plan: ShopPlan) -> dict[str, list[bytes]]:
    return {name: [bson.encode(entry.document) for entry in shop_documents(name, plan)] for name in COLLECTIONS}


def test_shop_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    assert _bytes(SMALL) == _bytes(SMALL)
    other = _bytes(ShopPlan(users=200, awkward=120, seed=8))
    assert all(other[name] != documents for name, documents in _bytes(SMALL).items())


@pytest.mark.xdist_group("embedded_stack")
def test_loaded_shop_is_what_was_made_and_counted(stack: SandboxStack) -> None:
    counts = load_shop(stack.env()["DOCFERRY_APP_MONGO_URI"], "counted", users=200, awkward=120, pre_images=True)
    made = _bytes(SMALL)
    with stack.mongo.client() as client:
        for name in COLLECTIONS:
            raw = client.counted.get_collection(name, CodecOptions(document_class=RawBSONDocument)).find()
            assert sorted(bson.encode(entry) for entry in raw) == sorted(made[name])
            assert counts[name].documents == len(made[name])
            assert client.counted[name].options()["changeStreamPreAndPostImages"] == {"enabled": True}
    assert counts.unstorable == 12
    assert counts["users"].unstorable == 4
    assert sum(part.awkward for part in counts.collections.values()) > 80


@pytest.mark.xdist_group("embedded_stack")
def test_shop_is_not_loaded_on_top_of_another(stack: SandboxStack) -> None:
    uri = stack.env()["DOCFERRY_APP_MONGO_URI"]
    load_shop(uri, "twice", users=20, awkward=0, unstorable=0)
    with pytest.raises(RequestRefused, match="holds documents already"):
        load_shop(uri, "twice", users=20, awkward=0, unstorable=0)


def test_default_shop_makes_about_sixty_thousand_items() -> None:
    plan = ShopPlan()
    items = sum(entry.expected_items(name) for name in COLLECTIONS for entry in shop_documents(name, plan))
    assert 55_000 < items < 65_000


def test_every_kind_of_oddity_comes_up_in_the_default_shop() -> None:
    for name in ("users", "orders", "products", "categories"):
        seen = {entry.oddity for entry in shop_documents(name, ShopPlan())} - {""}
        kinds = {mutation.name for mutation in AWKWARD[name]} | {m.name for where, m in UNSTORABLE if where == name}
        assert seen == kinds


@pytest.mark.parametrize("name", COLLECTIONS)
def test_expected_items_are_what_the_mapping_makes(name: str) -> None:
    mapping = load_migration(SHOP_FILE).mapping(name)
    dead = 0
    for entry in shop_documents(name, SMALL):
        if entry.storable:
            items = [*mapping.to_items(entry.document, version=1), *mapping.guard_items(entry.document)]
            assert len(items) == entry.expected_items(name), entry.oddity
        else:
            dead += 1
            with pytest.raises(DocumentError):
                mapping.to_items(entry.document, version=1)
    assert dead > 0


def test_stack_file_that_is_missing_is_reported_as_no_stack(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no stack is up"):
        read_stack(tmp_path)
    (tmp_path / "stack.json").write_text(json.dumps({"directory": str(tmp_path), "env": {"A": "1"}, "processes": []}))
    assert not read_stack(tmp_path).is_alive()
