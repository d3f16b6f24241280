"""An approval that is given, and one that is refused, by clicks on Airflow's own page of Required Actions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from docferry.core.cutover.modes import Mode
from docferry.flows.cutover.flip import back_to
from docferry.flows.ledger.approvals import evidence_of, list_answers, list_approvals
from docferry.flows.ledger.modes import read_mode
from playwright.sync_api import Page, expect
from support.airflow.control_room import open_room, pictures_directory
from support.airflow.grid import open_page, take
from support.airflow.night import FLIP, Night
from support.airflow.standalone import eventually
from support.validate.planting import require_equal

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

AT_ONCE = {"soak_minutes": 0.01, "reads": 0, "slower": 0}
WAITING = "/api/v2/dags/~/dagRuns/~/hitlDetails?response_received=false&state=awaiting_input"
WHOLE = {"width": 1500, "height": 1500}


@pytest.fixture
def digest(night: Night) -> str:
    """Of a report that no approval is of: in DUAL_WRITE, all equal."""
    if read_mode(night.shop.ledger).mode is not Mode.DUAL_WRITE:
        back_to(night.shop.job(), Mode.DUAL_WRITE, "for another test")
    require_equal(night.shop)
    return evidence_of(night.shop.ledger).digest


@contextmanager
def asked(night: Night) -> Iterator[Page]:
    """maria has started the flip, and opens the request from the list of Required Actions."""
    maria = night.person("maria")
    maria.set_paused(FLIP, False)
    run_id = maria.trigger(FLIP, AT_ONCE)
    eventually(
        lambda: maria.get(WAITING)["hitl_details"], "the flip waits for an approval"
    )  # the list does not look again
    with open_page(maria) as page:
        page.goto(f"{maria.url}/required_actions")
        row = page.get_by_role("row").filter(has_text=run_id).filter(has_text="Approval Required")
        row.get_by_role("link", name="shop flip_reads: may it go on?").click()
        page.get_by_text("All compared documents are equal").wait_for()
        yield page


def answer(page: Page, option: str, why: str) -> None:
    button = page.get_by_role("button", name=option, exact=True)
    expect(button).to_be_disabled()  # as long as there is no reason
    page.locator("#element_why").fill(why)  # its label names no input
    button.click()
    page.get_by_text("wait_for_approval response successful").wait_for()


def evidence_on(page: Page) -> dict[str, str]:
    """The rows of all tables: the first cell, and the others."""
    rows = [row.get_by_role("cell").all_inner_texts() for row in page.locator("table tr").all()]
    return {cells[0]: " ".join(cells[1:]) for cells in rows if cells}


def test_who_reads_the_evidence_and_clicks_approve_lets_the_flip_go_on(
    night: Night, digest: str, tmp_path: Path
) -> None:
    with asked(night) as page:
        evidence = evidence_on(page)
        assert {"users", "orders", "products", "categories"} < set(evidence)
        assert (evidence["leads"], evidence["dead letters"]) == ("MongoDB (DUAL_WRITE)", "0")
        assert evidence["replication"].endswith("s behind")
        page.set_viewport_size(WHOLE)  # type: ignore[arg-type]
        take(page, pictures_directory(tmp_path) / "required-action.png")
        answer(page, "Approve", "read and agreed")
        assert night.ended() == "success"
    mode = read_mode(night.shop.ledger)
    assert (mode.mode, mode.percent) == (Mode.DYNAMODB_READS, 100)
    given = max(list_approvals(night.shop.ledger), key=lambda one: one.at_ms)
    assert (given.by, given.why, given.evidence) == ("maria (Airflow)", "read and agreed", digest)
    with open_room(night.person("victor"), "shop") as room:
        row = room.section("Who did what").get_by_role("row").filter(has_text="read and agreed")
        assert f"flip_reads was approved on report {digest[:12]}" in row.inner_text()


def test_who_clicks_reject_stops_the_run_with_the_reason_and_nothing_has_changed(
    night: Night, digest: str, tmp_path: Path
) -> None:
    mode, approvals = read_mode(night.shop.ledger), list_approvals(night.shop.ledger)
    with asked(night) as page:
        answer(page, "Reject", "not before the sale")
        assert night.ended() == "failed"
        page.get_by_role("link", name="Logs").click()
        page.get_by_text("flip_reads was rejected by maria: not before the sale").first.wait_for()
        take(page, tmp_path / "rejected.png")
    assert (read_mode(night.shop.ledger), list_approvals(night.shop.ledger)) == (mode, approvals)
    noted = max(list_answers(night.shop.ledger), key=lambda one: one.at_ms)
    assert (noted.by, noted.why, noted.what) == ("maria (Airflow)", "not before the sale", "rejected")
    assert noted.evidence == digest
    require_equal(night.shop)
