"""The phases that change where the application reads and writes: one flow of the library each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from docferry_airflow.operators.base import MigrationOperator, Work, require_typed

if TYPE_CHECKING:
    from airflow.sdk import Context


MONGO_ONLY, DUAL_WRITE = "MONGO_ONLY", "DUAL_WRITE"
ASK, STAY = "ask", "leave everything as it is"


class BeginDualWriteOperator(MigrationOperator):
    """The application writes to both databases from now on.

    :param compare: Percent of its reads that are compared.
    :param plan_only: Only say what would be done; fails with what would refuse it.
    """

    template_fields: Sequence[str] = ("migration_file", "compare", "plan_only")

    def __init__(self, *, compare: int | str = 100, plan_only: bool | str = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.compare = compare
        self.plan_only = plan_only

    def carry_out(self, work: Work) -> dict[str, Any]:
        from docferry.flows.cutover.flip import begin_dual_write, plan_dual_write

        with work.job() as job:
            if self.plan_only:
                return _told(self.log, plan_dual_write(job, int(self.compare)))
            return begin_dual_write(job, int(self.compare)).to_dict()


def _told(log: Any, would: str) -> dict[str, Any]:
    """What a dry run says, in the log and as its summary."""
    log.info("%s; nothing was changed", would)
    return {"would": would}


class FlipReadsOperator(MigrationOperator):
    """A share of the reads comes from DynamoDB from now on, watched for a while; it steps back by itself past its bound.

    :param percent: Of the reads, by key.
    :param soak_minutes: How long it is watched; as long again if it has served too few reads by then.
    :param reads: So many must have been compared before, and the share's part of so many served; 0 waives both.
    :param slower: DynamoDB's p95 may be so many times MongoDB's, if it is over 50 ms; 0 waives it.
    :param waived: Shapes of calls that DynamoDB cannot answer, and no process makes any more.
    :param steps: The shares that are taken; a task whose percent is none of them is skipped.
    :param plan_only: Only say what would be done; fails with what would refuse it.
    """

    template_fields: Sequence[str] = (
        "migration_file", "percent", "soak_minutes", "reads", "slower", "waived", "steps", "plan_only"
    )  # fmt: skip

    def __init__(
        self,
        *,
        percent: int | str,
        soak_minutes: float | str = 10,
        reads: int | str = 300,
        slower: float | str = 3.0,
        waived: Sequence[str] | str = (),
        steps: Sequence[int] | str = (),
        plan_only: bool | str = False,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("retries", 0)  # after a step back a person should look
        kwargs.setdefault("trigger_rule", "none_failed")  # a step that is left out does not leave out those behind it
        super().__init__(**kwargs)
        self.percent = percent
        self.soak_minutes = soak_minutes
        self.reads = reads
        self.slower = slower
        self.waived = waived
        self.steps = steps
        self.plan_only = plan_only

    def carry_out(self, work: Work) -> dict[str, Any]:
        from docferry.flows.cutover.flip import flip_reads, plan_flip
        from docferry.flows.cutover.flip_evidence import FlipBounds

        if self.steps and int(self.percent) not in [int(one) for one in self.steps]:
            raise AirflowSkipException(f"{self.percent} % is none of the steps {list(self.steps)}")
        bounds = FlipBounds(reads=int(self.reads), slower=float(self.slower))
        with work.job() as job:
            if self.plan_only:
                return _told(self.log, plan_flip(job, int(self.percent), bounds, list(self.waived)))
            soak_s = float(self.soak_minutes) * 60
            return flip_reads(job, int(self.percent), soak_s, bounds, list(self.waived)).to_dict()


class SwitchToDynamoDBOperator(MigrationOperator):
    """DynamoDB leads: writes wait for seconds, MongoDB is fenced, everything is applied and compared. Or all stays as it was.

    :param waived: `lift`, if a lift of the fence may be on its way and its process is known to be gone;
        `watch` and `strays` as in `docferry stop-mongo-writes --waive`.
    :param plan_only: Only say whether DynamoDB could become the leader; fails with what would refuse it.
    """

    template_fields: Sequence[str] = ("migration_file", "waived", "plan_only")

    def __init__(self, *, waived: Sequence[str] | str = (), plan_only: bool | str = False, **kwargs: Any) -> None:
        kwargs.setdefault("retries", 0)
        kwargs.setdefault("trigger_rule", "none_failed")  # a dry run leaves out what comes before
        super().__init__(**kwargs)
        self.waived = waived
        self.plan_only = plan_only

    def carry_out(self, work: Work) -> dict[str, Any]:
        from docferry.flows.cutover.to_dynamodb import require_ready, switch_to_dynamodb

        with work.job() as job:
            if self.plan_only:
                require_ready(job, list(self.waived))
                return _told(self.log, "DynamoDB can become the leader")
            return work.counted(
                job, "switch", lambda target: switch_to_dynamodb(job, target, list(self.waived))
            ).to_dict()


class HowFarOperator(MigrationOperator):
    """Asks under Required Actions how far a rollback is to go, and shows what each way would do. Returns the mode.

    :param to: A mode, which is then taken without asking; or ASK.
    :param plan_only: Nothing is asked; what each way would do is only shown.
    :param waived: Instances that vanished and are known to be gone; `validation` in an emergency.
    """

    template_fields: Sequence[str] = ("migration_file", "to", "plan_only", "waived")

    def __init__(
        self, *, to: str = ASK, plan_only: bool | str = False, waived: Sequence[str] | str = (), **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.to = to
        self.plan_only = plan_only
        self.waived = waived

    def execute(self, context: Context) -> Any:
        if self.to != ASK:
            return self.to
        ways = super().execute(context)
        if self.plan_only:
            return MONGO_ONLY
        from airflow.sdk.exceptions import TaskAwaitingInput
        from airflow.sdk.execution_time.hitl import upsert_hitl_detail

        upsert_hitl_detail(
            ti_id=context["ti"].id,
            options=[*ways, STAY],
            subject="rollback: how far?",
            body="\n".join(f"- **{to}**: {would}" for to, would in ways.items()),
            params={},
        )
        raise TaskAwaitingInput(method_name="execute_complete", timeout=None)

    def carry_out(self, work: Work) -> dict[str, str]:
        from docferry.flows.cutover.rollback import plan_ways_back

        with work.job() as job:
            ways = {str(to): would for to, would in plan_ways_back(job, self.waived).items()}
        for to, would in ways.items():
            self.log.info("as far as %s: %s", to, would)
        return ways

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> str:
        """The answer. What it means is checked against the mode of now when it is carried out."""
        if "error" in event:
            raise AirflowFailException(f"rollback: the question could not be asked: {event['error']}")
        (chosen,) = event["chosen_options"]
        by = (event.get("responded_by_user") or {}).get("name", "")
        self.log.info("%s says: %s", by, chosen)
        if chosen == STAY:
            raise AirflowSkipException(f"{by} leaves everything as it is")
        return str(chosen)


class RollbackOperator(MigrationOperator):
    """MongoDB leads again, from whatever mode; nothing that was written meanwhile is lost.

    :param to: How far: MONGO_ONLY or DUAL_WRITE.
    :param plan_only: Only say what would be done, and what would refuse it.
    :param waived: Instances that vanished and are known to be gone; `validation` in an emergency.
    """

    template_fields: Sequence[str] = ("migration_file", "to", "plan_only", "waived")

    def __init__(
        self, *, to: str = MONGO_ONLY, plan_only: bool | str = False, waived: Sequence[str] | str = (), **kwargs: Any
    ) -> None:
        kwargs.setdefault("retries", 0)
        super().__init__(**kwargs)
        self.to = to
        self.plan_only = plan_only
        self.waived = waived

    def carry_out(self, work: Work) -> dict[str, Any]:
        from docferry.core.cutover.modes import Mode
        from docferry.flows.cutover.rollback import plan_rollback, roll_back

        to = Mode(self.to)
        with work.job() as job:
            would = plan_rollback(job, to, self.waived)
            self.log.info("rollback as far as %s: %s", to, would)
            if self.plan_only:
                return {"would": would}
            return work.counted(job, "rollback", lambda target: roll_back(job, target, to, self.waived)).to_dict()


class FinalizeOperator(MigrationOperator):
    """The soak is over: reverse replication stops, and there is no way back by replication any more.

    :param confirmed: The migration's name, as the operator typed it.
    :param waived: `watch`: the rest of the watch of MongoDB; `strays`: stray writes that are not settled.
    :param plan_only: Only say what would be done; fails with what would refuse it.
    """

    template_fields: Sequence[str] = ("migration_file", "confirmed", "waived", "plan_only")

    def __init__(
        self, *, confirmed: str, waived: Sequence[str] | str = (), plan_only: bool | str = False, **kwargs: Any
    ) -> None:
        kwargs.setdefault("trigger_rule", "none_failed")  # a dry run leaves out what comes before
        super().__init__(**kwargs)
        self.confirmed = confirmed
        self.waived = waived
        self.plan_only = plan_only

    def carry_out(self, work: Work) -> dict[str, Any]:
        from docferry.flows.cutover.rollback import finalize, plan_finalize

        if self.plan_only:
            with work.job() as job:
                return _told(self.log, plan_finalize(job, list(self.waived)))
        require_typed("finalize", self.confirmed, work.migration.name)
        with work.job() as job:
            return {"mode": str(finalize(job, self.waived))}


class WatchHoldOperator(MigrationOperator):
    """Puts back a hold that was left behind: the second guard beside the task that changes the leader.

    :param minutes: How long to watch at most. It ends with the change, or soon if there is none.
    """

    def __init__(self, *, minutes: float = 30, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.minutes = minutes

    def execute(self, context: Context) -> Any:
        from docferry.config import load_migration

        from docferry_airflow.notifying import tell

        found = super().execute(context)
        if found["put_back"]:
            lines = [
                "Writes waited past their deadline, and the process that made them wait was gone. All is as it was before."
            ]
            tell(load_migration(self.migration_file), "hold", "a hold was overdue, and was put back", lines, context)
        return found

    def carry_out(self, work: Work) -> dict[str, Any]:
        from docferry.flows.cutover.hold_watch import watch_hold

        with work.job() as job:
            return {"put_back": watch_hold(job, self.minutes * 60)}
