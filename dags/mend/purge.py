"""Purge: delete tombstones that nothing older can follow any more.

**Enter when** deletes have left many tombstones and waiting for their TTL costs too much. Never needed for correctness.
Everything is loaded, replication follows with little lag, and no load, repair or replay is under way.

**Steps**
1. Run as it is, with `dry_run`: the log shows the proof, each condition with its evidence, and how many tombstones may go.
2. Run without `dry_run`, with the migration's name in `confirm`. The first such run notes up to where everything is applied,
   and says how long to wait.
3. Run without `dry_run` again after that: it deletes what is older than what was noted. Newer tombstones stay for another
   time.

**Done when** the run succeeds: scanned = purged + kept + changed meanwhile, in the log and in the task's result.

**If it fails** the error lists every condition that does not hold, and what to do about each; nothing was deleted. Anything
else: run it again.

**Roll back by** nothing: a tombstone that is gone is not missed, as the proof says. Items that are alive are never touched.
"""

from docferry_airflow.dag_factory import MENDING, migrations, phase_dag
from docferry_airflow.forms import confirmation, dry_run
from docferry_airflow.operators.purge import PurgeTombstonesOperator
from docferry_airflow.pools import DYNAMO_WRITE

for migration in migrations():
    params = {
        "dry_run": dry_run("Only show the proof and count; delete nothing.", on=True),
        "confirm": confirmation(migration),
    }
    with phase_dag(migration, "purge", doc=__doc__, params=params, tags=(MENDING,)):
        PurgeTombstonesOperator(
            task_id="purge_tombstones",
            confirmed="{{ params.confirm }}",
            prove_only="{{ params.dry_run }}",
            pool=DYNAMO_WRITE,
        )
