"""What only looks: is all well, and who uses the databases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from docferry.errors import PreflightFailed, Problem

from docferry_airflow.operators.base import MigrationOperator, Work


class HealthOperator(MigrationOperator):
    """Members, tables, lag, the last validation, dead letters, the application. Fails unless all parts are healthy."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("retries", 0)
        super().__init__(**kwargs)

    def carry_out(self, work: Work) -> dict[str, Any]:
        from docferry.flows.cutover.phases import full_health

        with work.job() as job:
            report = full_health(job)
        for line in report.render().splitlines():
            self.log.info(line)
        if not report.ok:
            parts = {name: part for name, part in report.parts.items() if part.status.value != "healthy"}
            found = [Problem(where=name, what=f"is {one.status}: {one.why}") for name, one in parts.items()]
            raise PreflightFailed(f"the health of {report.migration}", found)
        return report.to_dict()


class ListInstancesOperator(MigrationOperator):
    """The application's processes, as they register themselves: which mode each follows, and when it was seen."""

    def carry_out(self, work: Work) -> dict[str, Any]:
        from docferry.flows.ledger.modes import describe_instance, list_instances, read_mode

        ledger = work.connections.ledger(work.migration)
        mode, found = read_mode(ledger), [describe_instance(one) for one in list_instances(ledger)]
        self.log.info("the mode is %s, epoch %d", mode, mode.epoch)
        for one in found:
            seen = "live" if one["live"] else "gone"
            self.log.info(
                "%s (%s): %s, epoch %d, %s, seen %.0f s ago",
                *(one["name"], one["id"], one["mode"], one["epoch"], seen, one["seen_s_ago"]),
            )
        return {"mode": str(mode), "live": sum(bool(one["live"]) for one in found), "instances": len(found)}


class MongoClientsOperator(MigrationOperator):
    """Programs that use MongoDB without docferry's client. Fails if one of them writes, and is not waived by the file.

    :param seconds: How long to look.
    """

    template_fields: Sequence[str] = ("migration_file", "seconds")

    def __init__(self, *, seconds: float | str = 10.0, **kwargs: Any) -> None:
        kwargs.setdefault("retries", 0)
        super().__init__(**kwargs)
        self.seconds = seconds

    def carry_out(self, work: Work) -> dict[str, Any]:
        from docferry.flows.preflight.mongodb_clients import foreigners

        with work.job() as job:
            found = foreigners(job, float(self.seconds))
        for line in found.render().splitlines():
            self.log.info(line)
        if found.writers:
            problem = Problem(
                where="MongoDB's connections",
                what=f"{len(found.writers)} program(s) write without docferry's client: see the log",
                suggestion="move them to the client, or waive them in the file (cutover.waived_writers)",
            )
            raise PreflightFailed("the clients of MongoDB", [problem])
        return {"looked_s": float(self.seconds), "writers": 0}
