"""What a user gives: MongoDB's bill, a workload, the report of an analysis; and the command that takes them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from docferry.cli.main import main
from docferry.config.price_book import load_bill, load_price_book
from docferry.config.workload import analyzed_sizes, load_analysis, load_workload
from docferry.core.cost.calls import CallRates, IndexReads
from docferry.errors import ConfigError

MIGRATION = {
    "migration": "shop",
    "source": {"database": "myapp"},
    "tables": {"Shop": {}},
    "collections": {"users": {}, "orders": {}},
}
ANALYSIS = {
    "facts": {
        "collections": [
            {"name": "users", "documents": 1000, "average_bytes": 900.0, "reads_s": 40.0, "writes_s": 2.0},
            {"name": "orders", "documents": 5000, "average_bytes": 2100.0, "reads_s": None, "writes_s": None},
        ]
    }
}


def written(path: Path, tree: Any) -> Path:
    path.write_text(yaml.safe_dump(tree))
    return path


def test_a_bill_in_the_playbooks_shape_is_priced_by_the_book(tmp_path: Path) -> None:
    bill = load_bill(
        written(
            tmp_path / "bill.yaml",
            {
                "ec2": [
                    {"what": "Primary", "instance": "r5.2xlarge"},
                    {"what": "Secondary", "instance": "r5.xlarge", "count": 2},
                    {"what": "Arbiter", "usd": 15},
                ],
                "ebs": [{"type": "gp3", "gb": 1000, "count": 3}],
                "transfer": 50,
                "licence": {"ops manager": 200},
            },
        )
    )
    assert bill is not None
    assert bill.parts == pytest.approx(
        {
            "ec2: 1 (Primary, r5.2xlarge) x 1": 0.504 * 730,
            "ec2: 2 (Secondary, r5.xlarge) x 2": 2 * 0.252 * 730,
            "ec2: 3 (Arbiter) x 1": 15,
            "ebs: 1 (gp3) x 3": 240,
            "transfer": 50,
            "licence: ops manager": 200,
        }
    )


def test_a_bill_says_every_part_that_is_no_amount(tmp_path: Path) -> None:
    tree = {
        "atlas": [{"tier": "M999"}],
        "x": "much",
        "ebs": [{"gb": -1}, {"gb": 1, "wrong": 2}],
        "n": [{"usd": 1, "count": "a"}],
    }
    with pytest.raises(ConfigError) as caught:
        load_bill(written(tmp_path / "bill.yaml", tree))
    assert {one.where for one in caught.value.problems} == {"atlas: 1", "x", "ebs: 1", "ebs: 2", "n: 1: count"}


def test_an_atlas_tier_has_the_books_price(tmp_path: Path) -> None:
    book = replace(load_price_book(), atlas_hour={"M40": 1.0})
    bill = load_bill(written(tmp_path / "bill.yaml", {"atlas": [{"tier": "M40", "count": 2}]}), book)
    assert bill is not None
    assert bill.usd == pytest.approx(2 * 730)


def test_a_workload_is_read_with_its_plan(tmp_path: Path) -> None:
    tree = {
        "collections": {"users": {"by_key": 4, "by_index": {"GSI1": {"calls": 2, "results": 3}}, "update": 1}},
        "plan": {"processes": 20, "team_weeks": 3, "team_week_usd": 4000},
        "day": [1] * 23 + [25],
    }
    found = load_workload(written(tmp_path / "w.yaml", tree), {"users": None}, {"GSI1"})
    assert found.rates == {"users": CallRates(by_key=4, by_index={"GSI1": IndexReads(calls=2, results=3)}, update=1)}
    assert (found.plan.processes, found.plan.journal_units, found.day[23]) == (20, 2.0, 25)


def test_a_workload_says_everything_that_is_wrong_with_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as of_form:
        load_workload(written(tmp_path / "w.yaml", {"collections": {"users": {"reads": 1, "insert": -1}}}), {}, set())
    assert {one.where for one in of_form.value.problems} == {"collections.users.reads", "collections.users.insert"}
    tree = {"collections": {"user": {"by_index": {"G": {"calls": 1}}}}, "day": [0] * 24}
    with pytest.raises(ConfigError) as of_names:
        load_workload(written(tmp_path / "w.yaml", tree), {"users": None}, {"GSI1"})
    assert {one.where for one in of_names.value.problems} == {"collections.user", "collections.user.by_index.G", "day"}


def test_an_analysis_gives_sizes_and_rates(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(json.dumps(ANALYSIS))
    found = load_analysis(tmp_path / "report.json")
    assert found.rates == {"users": CallRates(by_key=40, update=2)}
    sizes = analyzed_sizes(found, "orders", "Shop")
    assert (sizes.documents, sizes.item_bytes, sizes.put_units) == (5000, 2100, 3)
    assert analyzed_sizes(found, "events", "Shop").sampled == 0


def test_what_is_no_analysis_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"report\.json"):
        load_analysis(written(tmp_path / "x.json", {"facts": 1}))


def run(*arguments: str) -> Any:
    return CliRunner().invoke(main, ["cost", *arguments])


def test_the_command_prices_an_analysis_without_any_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCFERRY_MONGO_URI", raising=False)
    file, report = written(tmp_path / "m.yaml", MIGRATION), tmp_path / "report.json"
    report.write_text(json.dumps(ANALYSIS))
    bill = written(tmp_path / "bill.yaml", {"EC2": 500})
    given = [str(file), "--analysis", str(report), "--mongodb-bill", str(bill)]
    told = run(*given, "--out", str(tmp_path / "out"))
    assert told.exit_code == 0, told.output
    assert "USD a month less than MongoDB's bill" in told.output
    assert "each read is taken for one by key" in told.output
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"cost.html", "cost.md", "cost.json"}
    body = json.loads(run(*given, "--json").stdout)
    assert body["comparison"]["mongodb_usd"] == 500
    assert body["book"] == "us-east-1, list prices, of 2026-11-22"


def test_the_command_says_where_sizes_could_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCFERRY_MONGO_URI", raising=False)
    told = run(str(written(tmp_path / "m.yaml", MIGRATION)))
    assert told.exit_code == 2
    assert "--analysis" in told.output
