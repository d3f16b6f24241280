"""Rollback points: list, make, verify, restore beside the live data, restore over it.

**Enter when** you want a second line before a phase, or what no mode can undo has happened: data that was wrong before it was
migrated, a mistake in the application, an operator's. The usual way back is the DAG `rollback`, which loses nothing. The file
has a section `rollback_points`.

**Steps**: `action` says which one task runs. All but the list take `dry_run`, which is on.
1. `list_points`: what there is, when it was made, and whether it was what was recorded when it was verified last.
2. `make_point`: MongoDB's database and a backup of each table, read again before it lists.
3. `verify_point`: all of `point` is read again. It changes nothing.
4. `restore_beside`: `point` goes into a database and tables of their own, and is compared. Nothing that exists is written
   into.
5. `restore_over_live`, after 4: MongoDB's live database becomes what `point` was. The dry run counts what is lost, and prints
   a sentence that must be typed into `sentence`; it is another one as soon as anything changes. DynamoDB's tables are never
   written over.

**Done when** the run succeeds.

**If it fails** while it makes or restores, run it again: it begins anew, and removes what it left. A restore over live data
that was interrupted leaves the database half restored, and says so: take the dry run's new sentence, and run it again.

**Roll back by** a point that you make before: a restore over live data is undone by another.
"""

from docferry_airflow.dag_factory import MENDING, chosen_task, migrations, phase_dag
from docferry_airflow.forms import SAFETY, SCOPE, dry_run, one_of, text
from docferry_airflow.operators.mending.points import (
    ListPointsOperator,
    RestoreBesideOperator,
    RestoreOverLiveOperator,
    VerifyPointOperator,
)
from docferry_airflow.operators.points import RollbackPointOperator, snapshot_param

ACTIONS = ("list_points", "make_point", "verify_point", "restore_beside", "restore_over_live")
PLAN_ONLY = "{{ params.dry_run }}"

for migration in migrations():
    params = {
        "action": one_of("Action", ACTIONS, "The one task that runs."),
        "point": text("Point", "Its name. For make_point, none means the time.", SCOPE),
        **snapshot_param(migration),
        "into": text("Database beside", "Of the restore; none means <database>_restored_<point>."),
        "dry_run": dry_run(on=True),
        "sentence": text("Sentence", "For restore_over_live: what its dry run prints, typed exactly.", SAFETY),
    }
    with phase_dag(migration, "points", doc=__doc__, params=params, tags=(MENDING,)):
        named = {"point": "{{ params.point }}"}
        chosen_task(
            "{{ params.action }}",
            [
                ListPointsOperator(task_id="list_points"),
                RollbackPointOperator(
                    task_id="make_point",
                    snapshot="{{ params.snapshot }}" if "snapshot" in params else "",
                    plan_only=PLAN_ONLY,
                    **named,
                ),
                VerifyPointOperator(task_id="verify_point", **named),
                RestoreBesideOperator(task_id="restore_beside", into="{{ params.into }}", plan_only=PLAN_ONLY, **named),
                RestoreOverLiveOperator(
                    task_id="restore_over_live",
                    beside="{{ params.into }}",
                    sentence="{{ params.sentence }}",
                    plan_only=PLAN_ONLY,
                    **named,
                ),
            ],
        )
