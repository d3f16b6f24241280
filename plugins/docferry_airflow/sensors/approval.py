"""Waiting for a person to allow a phase, on the evidence that is shown: in Airflow's Required Actions, or by the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseSensorOperator, Param
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from docferry_airflow.reports import RoomLink, ValidationLink

if TYPE_CHECKING:
    from airflow.sdk import Context
    from docferry.config import Migration
    from docferry.core.settings import CutoverSettings
    from docferry.errors import Problem
    from docferry.flows.ledger.approvals import Approval
    from docferry.flows.ledger.reports import RecordedReport
    from docferry.ports.flows import Ledger

APPROVE, REJECT = "Approve", "Reject"
LEAST_WHY = 5
WHY = f"Say why in at least {LEAST_WHY} characters; without a reason the question comes again."
SHOWN = "shown"
"""The digest of the evidence that the person was shown is kept under this key."""


class PhaseApprovalSensor(BaseSensorOperator):
    """Passes when the ledger holds an approval for this phase and the last validation report. Otherwise it asks for one under
    Required Actions, holding no slot, and writes the answer to the ledger. A newer report needs a new approval.

    :param migration_file: Path of the migration file.
    :param phase: The phase, as the ledger knows it.
    """

    template_fields: Sequence[str] = ("migration_file", "phase")
    operator_extra_links = (RoomLink(), ValidationLink())

    def __init__(self, *, migration_file: str, phase: str, **kwargs: Any) -> None:
        kwargs.setdefault("mode", "reschedule")
        super().__init__(**kwargs)
        self.migration_file = migration_file
        self.phase = phase
        self._read: Migration | None = None
        self._opened: Ledger | None = None

    def poke(self, context: Context) -> bool:
        """Whether there is evidence to decide on: a full validation that found all equal, and is not too old."""
        return self._evidence() is not None

    def execute(self, context: Context) -> Any:
        super().execute(context)
        report = self._evidence()
        if report is None or self._lacking(report) is None:
            return self._summary(report)
        return self._ask(context, report)

    def _ask(self, context: Context, report: RecordedReport) -> NoReturn:
        """Park the task until it is answered. Asked again, it shows what it showed first, without the answer."""
        from airflow.sdk.exceptions import TaskAwaitingInput
        from airflow.sdk.execution_time.hitl import upsert_hitl_detail
        from docferry.flows.ledger.times import now_ms

        from docferry_airflow.notifying import tell

        context["ti"].xcom_push(key=SHOWN, value=report.digest)
        upsert_hitl_detail(
            ti_id=context["ti"].id,
            options=[APPROVE, REJECT],
            subject=f"{self._migration().name} {self.phase}: may it go on?",
            body=_body(self.phase, report, now_ms(), self._given(report), self._room()),
            params={
                "why": Param("", type="string", title="Why", description=f"{WHY} Kept with the approval.").serialize()
            },
        )
        lines = [
            f"{report.equal} (report {report.digest[:12]}).",
            "Answer under Required Actions, or in the control room.",
        ]
        tell(self._migration(), "approval", f"{self.phase} waits for an approval", lines, context)
        raise TaskAwaitingInput(method_name="execute_complete", timeout=None)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> Any:
        """The answer, checked against the evidence of now: it may have aged, and then it is asked for anew."""
        from docferry.errors import PreflightFailed
        from docferry.flows.cutover.approving import give_approval
        from docferry.flows.ledger.approvals import IN_AIRFLOW

        if "error" in event:
            raise AirflowFailException(f"{self.phase}: the approval could not be asked for: {event['error']}")
        by = (event.get("responded_by_user") or {}).get("name", "")
        why = str((event.get("params_input") or {}).get("why", "")).strip()
        shown = context["ti"].xcom_pull(task_ids=self.task_id, key=SHOWN)
        if event.get("chosen_options") != [APPROVE]:
            self._rejected(shown, by or "an unknown user", why)
        report = self._evidence()
        if report is None or shown != report.digest:
            what = "is not fresh any more" if report is None else "is older than the last one"
            self._note(shown, by, why, f"did not count: the validation that was shown {what}")
            raise AirflowException(f"{self.phase}: the validation that {by} saw {what}: it is asked anew")
        if len(why) < LEAST_WHY:
            self._note(shown, by, why, "did not count: it gives no reason")
            self.log.warning(
                "%s: %s approved without a reason, so the question is asked again. %s", self.phase, by, WHY
            )
            self._ask(context, report)
        try:
            give_approval(self._ledger(), self.phase, shown, f"{by}{IN_AIRFLOW}", why, self._cutover())
        except PreflightFailed as refused:
            self.log.warning(
                "%s: the answer of %s does not count, so the question is asked again: %s", self.phase, by, refused
            )
            self._ask(context, report)
        if (lacking := self._lacking(report)) is not None:
            self.log.info("%s: %s approved; %s", self.phase, by, lacking)
            self._ask(context, report)
        return self._summary(report)

    def _rejected(self, shown: str, by: str, why: str) -> NoReturn:
        """The run ends, whether the ledger can be reached or not."""
        from docferry.errors import StoreError
        from docferry.flows.ledger.approvals import REJECTED

        told = f"{self.phase} was rejected by {by}"
        try:
            self._note(shown, by, why, REJECTED)
        except StoreError as error:
            told += f"; this could not be noted in the ledger: {error}"
        raise AirflowFailException(f"{told}{f': {why}' if why else ''}")

    def _note(self, shown: str, by: str, why: str, what: str) -> None:
        """An answer that gives no approval, for the audit trail."""
        from docferry.flows.ledger.approvals import IN_AIRFLOW, note_answer

        note_answer(self._ledger(), self.phase, shown, f"{by}{IN_AIRFLOW}", why, what)

    def _migration(self) -> Migration:
        """Read once in a process: each look of this sensor is one."""
        from docferry.config import load_migration

        if self._read is None:
            self._read = load_migration(self.migration_file)
        return self._read

    def _ledger(self) -> Ledger:
        """The same."""
        from docferry_airflow.hooks.connections import connections_from_airflow

        if self._opened is None:
            self._opened = connections_from_airflow(self._migration()).ledger(self._migration())
        return self._opened

    def _cutover(self) -> CutoverSettings:
        return self._migration().cutover

    def _room(self) -> Mapping[str, Any]:
        """Where the migration stands, as the control room shows it."""
        from docferry.flows.reporting.room import room_of

        return room_of(self._migration(), self._ledger())

    def _evidence(self) -> RecordedReport | None:
        from docferry.errors import PreflightFailed
        from docferry.flows.cutover.approving import fresh_evidence

        try:
            return fresh_evidence(self._ledger())
        except PreflightFailed as missing:
            self.log.info("waiting for evidence: %s", missing)
            return None

    def _lacking(self, report: RecordedReport) -> Problem | None:
        from docferry.flows.ledger.approvals import unapproved

        return unapproved(self._ledger(), self.phase, report.digest, self._cutover())

    def _given(self, report: RecordedReport) -> list[Approval]:
        from docferry.flows.ledger.approvals import approvals_of

        return approvals_of(self._ledger(), self.phase, report.digest)

    def _summary(self, report: RecordedReport | None) -> dict[str, Any]:
        """The last approval that was needed."""
        found = self._given(report) if report is not None else []
        return found[-1].to_dict() if found else {}


def _body(phase: str, report: RecordedReport, now_ms: int, given: Sequence[Approval], room: Mapping[str, Any]) -> str:
    """The evidence, for the person who decides. `now_ms` is when the question is asked: it may stay open for hours."""
    from docferry.flows.ledger.reports import shown_ms
    from docferry.flows.preflight.thresholds import REPORT_AGE_S

    made = f"{shown_ms(report.at_ms)}, {_age(now_ms - report.at_ms)} before this question was asked"
    rows = "\n".join(f"| {one.collection} | {one.documents:,} | {one.items:,} |" for one in report.collections)
    facts = "\n".join(f"| {what} | {how} |" for what, how in _facts(room))
    before = "".join(f"{one.by} has approved it: {one.why}. A second person's approval is needed.\n\n" for one in given)
    return (
        f"{before}{NEXT.get(phase, '')}\n\n"
        f"All compared documents are equal: {report.equal}.\n\n"
        f"The report was made at {made}.\n\n"
        f"| collection | documents | items |\n| --- | --- | --- |\n{rows}\n\n"
        f"| what | when this was asked |\n| --- | --- |\n{facts}\n\n"
        f"Report {report.digest[:12]}. After a newer validation, and once this one is over "
        f"{REPORT_AGE_S / 3600:.0f} hours old, {phase} needs a new approval. {WHY}"
    )


NEXT: Mapping[str, str] = {
    "flip_reads": "After this, reads come from DynamoDB, a share at a time; each share is watched, and steps back by itself if "
    "reads differ. MongoDB keeps leading: the DAG rollback puts all reads back at once, and nothing can be lost.",
    "stop_mongo_writes": "After this, DynamoDB leads: writes wait for some seconds, then go to DynamoDB alone, and MongoDB "
    "follows. The DAG rollback makes MongoDB lead again, with everything that was written meanwhile.",
    "finalize": "After this there is no way back: MongoDB no longer follows DynamoDB, and is left as it is.",
}
"""What happens next, and how to go back: for the person who signs."""


def _facts(room: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What may have changed since the report."""
    app, leads = room["application"], room["leads"]
    yield "leads", f"{leads['leader']} ({leads['mode']})"
    state = room["reverse"] if leads["leader"] == "DynamoDB" else room["replication"]
    if state is None or not state["fresh"] or state.get("lag_s") is None:
        yield "replication", "how far it is behind is not known"
    else:
        yield "replication", f"{state['lag_s']:.0f} s behind"
    yield "dead letters", f"{sum(one['letters'] for one in room['collections']):,}"
    yield "stray writes", f"{room['strays']:,}"
    yield "processes of the application", f"{app['live']:,}"
    yield "compared reads", f"{app['reads_equal']:,} equal, {app['reads_different']:,} different"
    yield "calls that DynamoDB cannot answer", f"{len(room['unserved']):,} kinds"


def _age(ms: int) -> str:
    """A duration as a person says it, in the largest unit of which there are two."""
    seconds = max(0, ms // 1000)
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}s"
    return f"{seconds} seconds"
