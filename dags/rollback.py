"""Rollback: MongoDB leads again, from whatever mode, and nothing that was written meanwhile is lost.

**Enter when** an operator decides so. While DynamoDB leads, a full validation since then must have found all equal: run
`validate` first, while `reverse` runs. In an emergency `waived: [validation]` goes without, and the mode's history says so. With
`dry_run` the log says what it would do, and what would refuse it, and nothing else happens.

**Steps**
1. `how_far` asks under Required Actions, and shows what each way would do from here: as far as `MONGO_ONLY`, MongoDB alone;
   or as `DUAL_WRITE`, where DynamoDB is still written, and reads are compared. If `to` is given at the start, nothing is
   asked.
2. `give_mongodb_the_lead`. From DUAL_WRITE or DYNAMODB_READS: a change of mode. From DYNAMODB_ONLY: writes wait (seconds, with a
   deadline), every process acknowledges and says what it wrote last, MongoDB has applied all of it, the fence is lifted, MongoDB
   leads; dual writes begin once replication follows. Reads never stop.

**Done when** the run succeeds: `docferry mode` says the mode. The DAG `replicate` goes on from there by itself.

**If it fails** everything is as it was. An instance that disappeared without ending its registration may still have a request
on its way: wait, or name it in `waived` if you know that it is gone. If only dual writes could not begin, MongoDB leads, and
the error says what they lack: the DAG `dual_write` begins them.

**Roll back by** going forward again: `dual_write`, `flip_reads`, `stop_mongo_writes`.
"""

from docferry_airflow.dag_factory import migrations, phase_dag
from docferry_airflow.forms import SAFETY, dry_run, lines, one_of
from docferry_airflow.operators.cutover import ASK, DUAL_WRITE, MONGO_ONLY, HowFarOperator, RollbackOperator

WAIVED = "Instances (ids) that are known to be gone; in an emergency validation, watch, strays. One a line; recorded."

for migration in migrations():
    params = {
        "to": one_of("How far", (ASK, MONGO_ONLY, DUAL_WRITE), "How far; or be asked, and see what it would do."),
        "waived": lines("Waived", WAIVED, SAFETY),
        "dry_run": dry_run(),
    }
    given = {"plan_only": "{{ params.dry_run }}", "waived": "{{ params.waived }}"}
    with phase_dag(migration, "rollback", doc=__doc__, params=params):
        chosen = HowFarOperator(task_id="how_far", to="{{ params.to }}", **given)
        RollbackOperator(task_id="give_mongodb_the_lead", to=chosen.output, **given)
