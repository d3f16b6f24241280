"""MongoDB's specification tests through the client: whatever pymongo passes on the same server passes while MongoDB leads.

DOCFERRY_SPECIFICATIONS=~/specifications pytest -s tests/contract/specifications
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from docferry import wiring
from docferry.sandbox import SandboxStack
from docferry.sandbox.mongo import SandboxReplicaSet
from pymongo import MongoClient
from support.backfill.rig import Rig, scanned_rig
from support.client.rig import MODES, empty, empty_tables, set_mode
from support.specifications.cases import (
    DIRECTORY,
    SUITES,
    TRANSACTIONS,
    Running,
    SpecificationCase,
    Unrunnable,
    cases_of,
    fresh,
)

pytestmark = [
    pytest.mark.specifications,
    pytest.mark.skipif(not DIRECTORY, reason="DOCFERRY_SPECIFICATIONS names no clone of mongodb/specifications"),
]
OTHERWISE = frozenset({"deleteOne-errorResponse: delete operations support errorResponse assertions"})
"""A server that fails `delete` is not met beside DynamoDB: a removal is sent as findAndModify there (docs/protocol.md)."""
SERVER_FAILS = frozenset({
    "aggregate-merge-errorResponse: aggregate $merge DuplicateKey error is accessible",
    "bulkWrite-errorResponse: bulkWrite operations support errorResponse assertions",
    "deleteOne-errorResponse: delete operations support errorResponse assertions",
    "insertOne-errorResponse: insert operations support errorResponse assertions",
    "updateOne-errorResponse: update operations support errorResponse assertions",
})  # fmt: skip
"""MongoDB is made to fail, which nobody meets once DynamoDB leads."""
SERVED_SOONER = frozenset({
    f"{one}: {what} with sort option unsupported (server-side error)"
    for one, what in (
        ("replaceOne-sort", "replaceOne"), ("updateOne-sort", "updateOne"),
        ("bulkWrite-replaceOne-sort", "BulkWrite replaceOne"), ("bulkWrite-updateOne-sort", "BulkWrite updateOne"),
    )
})  # fmt: skip
"""What MongoDB 8 does, and 6 refuses, is served."""
Verdicts = Mapping[str, str]
"""What became of each case: empty if it passed."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxReplicaSet]:
    """Some cases make a server fail."""
    with SandboxReplicaSet(tmp_path_factory.mktemp("server"), test_commands=True) as opened:
        yield opened


@pytest.fixture(scope="module")
def env(stack: SandboxStack, server: SandboxReplicaSet) -> dict[str, str]:
    return stack.env() | {"DOCFERRY_MONGO_URI": uri_of(server)}


def uri_of(server: SandboxReplicaSet, options: Mapping[str, Any] | None = None) -> str:
    """Some cases ask for a secondary, which there is none of: that shall not be waited for."""
    found = {name: str(one).lower() if isinstance(one, bool) else str(one) for name, one in (options or {}).items()}
    return server.uri("docferry", **({"serverSelectionTimeoutMS": "5000"} | found))


@pytest.fixture(scope="module")
def cases(server: SandboxReplicaSet) -> dict[str, list[SpecificationCase]]:
    with MongoClient[Any](server.uri("docferry")) as client:
        version = tuple(client.server_info()["versionArray"][:3])
    return {suite: [one for one in cases_of(suite) if one.runs_on(version)] for suite in (*SUITES, TRANSACTIONS)}


def judged(cases: list[SpecificationCase], run: Callable[[SpecificationCase], None]) -> Verdicts:
    """Of all that can be run."""
    found: dict[str, str] = {}
    for case in cases:
        try:
            run(case)
        except Unrunnable:
            continue
        except Exception as error:  # a verdict, whatever it is
            found[case.name] = f"{type(error).__name__}: {error}"[:300]
        else:
            found[case.name] = ""
    return found


@pytest.fixture(scope="module", params=(*SUITES, TRANSACTIONS))
def expected(
    request: pytest.FixtureRequest, cases: dict[str, list[SpecificationCase]], server: SandboxReplicaSet
) -> tuple[str, Verdicts]:
    """What pymongo passes."""
    with MongoClient[Any](uri_of(server)) as client, ExitStack() as opened:
        plain = client[f"plain{uuid.uuid4().hex[:8]}"]

        def connect(options: Mapping[str, Any]) -> Any:
            return opened.enter_context(MongoClient[Any](uri_of(server, options)))[plain.name]

        def run(case: SpecificationCase) -> None:
            fresh(case, plain)
            for one in case.data():
                if one["documents"]:
                    plain[one["collectionName"]].insert_many(one["documents"])
            Running(case, plain, plain, connect=connect).run()

        found = judged(cases[request.param], run)
        client.drop_database(plain.name)
    return request.param, found


@pytest.fixture
def rig(
    env: dict[str, str], cases: dict[str, list[SpecificationCase]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Rig]:
    names = {name for several in cases.values() for case in several for name in case.collections()}
    rig = scanned_rig(env, tmp_path, f"spec{uuid.uuid4().hex[:8]}", sorted(names))
    for name, value in rig.env.items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("DOCFERRY_MONGO_URI", env["DOCFERRY_MONGO_URI"])
    yield rig
    rig.mongo.drop_database(rig.migration.source.database)
    rig.close()


@pytest.mark.parametrize("mode", ["MONGO_ONLY", "DUAL_WRITE", "DYNAMODB_READS 100"])
def test_what_pymongo_passes_passes_while_mongodb_leads(
    rig: Rig,
    server: SandboxReplicaSet,
    cases: dict[str, list[SpecificationCase]],
    expected: tuple[str, Verdicts],
    mode: str,
) -> None:
    suite, theirs = expected
    set_mode(rig, MODES[mode])
    uri = rig.env["DOCFERRY_MONGO_URI"]
    with wiring.connect(rig.file) as manager, MongoClient[Any](uri) as client, ExitStack() as opened:
        plain = client[manager.name]

        def connect(options: Mapping[str, Any]) -> Any:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("DOCFERRY_MONGO_URI", uri_of(server, options))
                return opened.enter_context(wiring.connect(rig.file))

        def run(case: SpecificationCase) -> None:
            empty(rig)
            fresh(case, plain)
            for one in case.data():
                if one["documents"]:
                    manager[one["collectionName"]].insert_many(one["documents"])
            Running(case, manager, plain, connect=connect).run()

        ours = judged(cases[suite], run)
    passed = [name for name, said in theirs.items() if not said]
    print(
        f"\n{suite}: {len(theirs)} cases, pymongo passes {len(passed)}, {mode} {sum(not said for said in ours.values())}"
    )
    print("".join(f"  pymongo: {name}: {said}\n" for name, said in theirs.items() if said))
    worse = {name: ours.get(name, "not run") for name in passed if ours.get(name, "not run")}
    if mode != "MONGO_ONLY":
        worse = {name: said for name, said in worse.items() if name not in OTHERWISE}
    assert worse == {}
    assert len(passed) >= 20


LEAST_SERVED = {"crud/tests/unified": 250, "transactions-convenient-api/tests/unified": 12}
"""Of the cases that pymongo passes on the same server, with scans allowed, and without those that make MongoDB fail."""


@pytest.mark.parametrize("expected", LEAST_SERVED, indirect=True)
def test_once_dynamodb_leads_nothing_is_answered_wrongly(
    rig: Rig, cases: dict[str, list[SpecificationCase]], expected: tuple[str, Verdicts]
) -> None:
    """With scans allowed. What is not served is refused."""
    suite, theirs = expected
    set_mode(rig, MODES["DYNAMODB_ONLY"])
    with wiring.connect(rig.file) as manager, MongoClient[Any](rig.env["DOCFERRY_MONGO_URI"]) as client:
        plain = client[manager.name]

        def stored(name: str) -> list[dict[str, Any]]:
            return manager[name].find(sort=[("_id", 1)]).to_list()

        def run(case: SpecificationCase) -> None:
            empty_tables(rig)
            for one in case.data():
                if one["documents"]:
                    manager[one["collectionName"]].insert_many(one["documents"])
            Running(case, manager, plain, stored).run()

        served = [one for one in cases[suite] if not one.breaks_server]
        ours = judged(served, run)
    passed = [
        name for name, said in theirs.items() if not said and name in ours and name not in SERVER_FAILS | SERVED_SOONER
    ]
    refused = {name: said for name in passed if (said := ours[name]).startswith(("CallRefused", "NoAccessPattern"))}
    wrong = {name: said for name in passed if (said := ours[name]) and name not in refused}
    print(f"\n{suite}: DYNAMODB_ONLY {len(passed) - len(refused) - len(wrong)} of {len(passed)} pass")
    print("".join(f"  refused: {name}: {said}\n" for name, said in refused.items()))
    print("".join(f"  wrong: {name}: {said}\n" for name, said in wrong.items()))
    assert wrong == {}
    assert len(passed) - len(refused) >= LEAST_SERVED[suite]
