"""The same drill on AWS's own engine, where one is given: its stream times are rounded to the minute."""

from __future__ import annotations

import os

import pytest
from docferry.rehearsal.drill import RAMP, drill
from support.aws.local_gaps import LocalGaps

URL = "DOCFERRY_DYNAMODB_LOCAL_URL"
RATE = 5.0
"""Requests a second of each process: the engine answers in 6 ms and more, one after the other."""


@pytest.mark.slow
@pytest.mark.dynamodb_local
@pytest.mark.cutover
@pytest.mark.timeout(900)
@pytest.mark.skipif(URL not in os.environ, reason=f"{URL} is not set")
def test_a_drill_on_dynamodb_local_loses_nothing() -> None:
    with LocalGaps(os.environ[URL]) as local:
        report = drill(print, ramp=RAMP[-1:], rate=RATE, dynamodb_url=local.url)
    told = f"\n{report.render()}"
    print(told)
    assert report.ok, told
    assert [one["after"] for one in report.switches] == ["DYNAMODB_ONLY", "MONGO_ONLY", "DYNAMODB_ONLY", "MONGO_ONLY"]
