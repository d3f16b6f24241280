"""The drill with documents over 400 KB: three of 0.5 to 15 MB lie there, and a share of what is written has 0.45 MB."""

from __future__ import annotations

import pytest
from docferry.core.settings import Overflow
from docferry.rehearsal.drill import RAMP, drill
from docferry.rehearsal.large import LargeDocuments

pytestmark = [pytest.mark.cutover, pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.mark.parametrize("overflow", ["split", "s3"])
def test_a_drill_with_documents_of_many_bytes_loses_nothing(overflow: Overflow) -> None:
    report = drill(print, processes=3, rate=4.0, ramp=RAMP[-1:], large=LargeDocuments(overflow=overflow))
    told = f"\n{report.render()}"
    print(told)
    assert report.ok, told
    assert [one["after"] for one in report.switches] == ["DYNAMODB_ONLY", "MONGO_ONLY", "DYNAMODB_ONLY", "MONGO_ONLY"]
