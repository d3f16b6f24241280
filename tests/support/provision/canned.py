"""An AWS of canned answers, for what no emulator has: each request and each answer is held against botocore's own models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import botocore.session
from botocore import xform_name
from botocore.validate import validate_parameters
from docferry.core.estate.resource_plan import call_of
from docferry.core.estate.resources import AwsCall, Resource
from docferry.core.estate.values import EstateStep
from docferry.testing.fakes.estate import FakeEstate

Answers = Mapping[str, Sequence[Mapping[str, Any] | None]]
"""By operation: one answer after the other, and then the last one again. None: there is no such thing."""


_SESSION = botocore.session.get_session()


@cache
def _operation(service: str, operation: str) -> Any:
    model = _SESSION.get_service_model(service)
    (name,) = [one for one in model.operation_names if xform_name(one) == operation]
    return model.operation_model(name)


def hold_against_model(call: AwsCall, answer: Mapping[str, Any] | None = None) -> None:
    """Raises botocore's error for what its model does not have; an error code that it does not know fails, too."""
    model = _operation(call.service, call.operation)
    validate_parameters(dict(call.arguments), model.input_shape)
    if answer is not None:
        validate_parameters(dict(answer), model.output_shape)


class CannedEstate(FakeEstate):
    """Tables in memory, and for resources one stage after the other: each request that changes something leads to the next."""

    def __init__(self, *stages: Answers) -> None:
        super().__init__()
        self.stages, self.stage, self.looks = stages, 0, 0
        self.changes: list[AwsCall] = []
        self._given: dict[tuple[int, str], int] = {}

    def ask(self, call: AwsCall) -> Mapping[str, Any] | None:
        self.looks += 1
        answers = self.stages[self.stage][call.operation]
        number = self._given.get((self.stage, call.operation), 0)
        self._given[self.stage, call.operation] = number + 1
        answer = answers[min(number, len(answers) - 1)]
        assert answer is not None or call.absent, f"{call.operation} has no answer for what is not there"
        hold_against_model(call, answer)
        return answer

    def apply(self, step: EstateStep) -> None:
        if not isinstance(step.spec, Resource):
            super().apply(step)
            return
        call = call_of(step, self.ask)
        hold_against_model(call)
        self.changes.append(call)
        self.stage = min(self.stage + 1, len(self.stages) - 1)
