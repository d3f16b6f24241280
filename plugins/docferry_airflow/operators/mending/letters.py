"""Dead letters and stray writes: listed without what they hold, tried again, settled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException
from docferry.errors import PreflightFailed, Problem, ValidationFailed

from docferry_airflow.operators.base import ConfirmedOperator, MigrationOperator, Work

if TYPE_CHECKING:
    from airflow.sdk import Context
    from docferry.flows.kernel.job import Job
    from docferry.flows.ledger.rooms.strays import StrayLetter
    from docferry.flows.validate.replay import ReplayReport
    from docferry.ports.flows import Target

MOST_LINES = 200
"""Of the log. The result has the counts of all."""


class ListLettersOperator(MigrationOperator):
    """How many documents could not be carried, which and why; stray writes, too. By handles: no document, no id, no value.

    :param collections: Only these; empty means all.
    """

    template_fields: Sequence[str] = ("migration_file", "collections")

    def __init__(self, *, collections: Sequence[str] | str = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.collections = collections

    def carry_out(self, work: Work) -> dict[str, Any]:
        from docferry.flows.ledger.dead_letters import list_letters
        from docferry.flows.ledger.reverse_letters import list_reverse_letters
        from docferry.flows.ledger.rooms.strays import list_strays

        with work.job() as job:
            letters = {name: list_letters(job.ledger, name) for name in _chosen(work, self.collections)}
            back, strays = list_reverse_letters(job.ledger), list_strays(job.ledger)
        lines = [
            "{collection} {letter}: {reason} {path}".format(**one.masked()).rstrip()
            for found in letters.values()
            for one in found
        ]
        lines += [f"back to MongoDB, {one.collection}: {one.reason} {one.path}".rstrip() for one in back]
        lines += [f"stray {one.key}: {one.operation} of {one.collection} in {one.old.label}" for one in strays]
        for line in lines[:MOST_LINES]:
            self.log.info(line)
        if len(lines) > MOST_LINES:
            self.log.info("and %d more", len(lines) - MOST_LINES)
        counts = {name: len(found) for name, found in letters.items()}
        return {"letters": counts, "back_to_mongodb": len(back), "strays": len(strays)}


class ReplayLettersOperator(ConfirmedOperator):
    """Try the documents of dead letters again, as MongoDB has them now. Fails if one stays dead.

    :param collections: Only these; empty means all.
    :param letters: Handles, as the list shows them, or ids of documents; empty means all.
    :param confirmed: The migration's name, typed; not needed for a dry run.
    :param plan_only: Only say how many would be tried; fails with what would refuse it.
    """

    template_fields: Sequence[str] = (*ConfirmedOperator.template_fields, "collections", "letters")

    def __init__(
        self,
        *,
        collections: Sequence[str] | str = (),
        letters: Sequence[str] | str = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.collections = collections
        self.letters = letters

    def carry_out(self, work: Work) -> dict[str, Any]:
        from docferry.flows.validate.replay import plan_replay

        names, ids = _chosen(work, self.collections), [str(one) for one in self.letters or ()]
        self.require_confirmed("replay", work)
        with work.job() as job:
            found = {name: len(plan_replay(job, name, ids)) for name in names}
            for name, count in found.items():
                self.log.info("%s: %d letter(s) %s", name, count, "would be tried" if self.plan_only else "to try")
            if ids and not any(found.values()):
                what = f"none of the {len(ids)} is an open dead letter of {', '.join(names)}"
                raise PreflightFailed("replay", [Problem(where="letters", what=what, suggestion="list them")])
            if self.plan_only:
                return {"would_try": found}
            return self._replayed(work, job, [name for name, count in found.items() if count], ids)

    def _replayed(self, work: Work, job: Job, names: Sequence[str], ids: Sequence[str]) -> dict[str, Any]:
        ran = {}
        for name in names:
            ran[name] = work.counted(job, "replay", partial(_replay, job, name, ids)).to_dict()
            self.log.info("%s: %s", name, ", ".join(f"{what} {count}" for what, count in ran[name].items()))
        if dead := sum(one["still_dead"] for one in ran.values()):
            raise ValidationFailed(f"{dead} document(s) still cannot be stored: list the letters for the reasons", ran)
        return ran


class SettleStraysOperator(ConfirmedOperator):
    """Close stray writes that a person has dealt with. Who and why stay in the ledger; the copies go.

    :param keys: As the list shows them.
    :param why: Kept with each.
    :param confirmed: The migration's name, typed; not needed for a dry run.
    :param plan_only: Only say which are there.
    """

    template_fields: Sequence[str] = (*ConfirmedOperator.template_fields, "keys", "why")

    def __init__(
        self,
        *,
        keys: Sequence[str] | str = (),
        why: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.keys = keys
        self.why = why
        self._person = ""

    def execute(self, context: Context) -> Any:
        self._person = person_of(context)
        return super().execute(context)

    def carry_out(self, work: Work) -> dict[str, Any]:
        from docferry.flows.ledger.rooms.strays import read_stray, settle_stray

        with work.job() as job:
            found = {str(key): read_stray(job.ledger, str(key)) for key in self.keys or ()}
            if problems := list(_settling_problems(found, str(self.why))):
                raise PreflightFailed("settling stray writes", problems)
            if self.plan_only:
                return {"would_settle": sorted(found)}
            self.require_confirmed("settling stray writes", work)
            for letter in filter(None, found.values()):
                settle_stray(job.ledger, letter, self._person, str(self.why))
        return {"settled": sorted(found)}


def _settling_problems(found: dict[str, StrayLetter | None], why: str) -> Iterator[Problem]:
    if not found:
        yield Problem(where="strays", what="none is named", suggestion="list them, and name the keys")
    if not why.strip():
        yield Problem(where="why", what="is missing", suggestion="say what was done about them")
    for key, letter in found.items():
        if letter is None:
            yield Problem(where=key, what="is no stray write that is open", suggestion="list them")


async def _replay(job: Job, collection: str, ids: Sequence[str], target: Target) -> ReplayReport:
    from docferry.flows.validate.replay import replay_letters

    return await replay_letters(job, target, collection, ids)


def _chosen(work: Work, collections: Sequence[str] | str) -> list[str]:
    return [work.migration.mapping(name).collection for name in collections or work.migration.mappings]


def person_of(context: Context) -> str:
    """Who asked for this run, as Airflow knows them. Raises AirflowFailException for a run that no person asked for."""
    name = getattr(context["dag_run"], "triggering_user_name", None)
    if not name:
        raise AirflowFailException("Airflow does not say who asked for this run: start it from the UI or by the API")
    return f"{name} (Airflow)"
