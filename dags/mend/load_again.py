"""Load again: read collections anew under live traffic, after a lost stream position, a drop or a rename.

**Enter when** `replicate` says that it has lost its position (then all collections are loaded again), or that a collection was
dropped, renamed or lost its images. MongoDB leads. Switch the DAG `replicate` off, and end the run that is under way (mark it
as failed): the load and replication take turns. The DAG `backfill` must be switched on.

**Steps**
1. Run as it is, with `dry_run`: the log of `make_ready` says what would be loaded, how long that takes, and what is in the
   way.
2. Run without `dry_run`, with the migration's name in `confirm`. `make_ready` notes a new stream position, and marks the
   collections.
3. `load` starts a run of the DAG `backfill`, and waits for it. Every put is conditional: nothing newer is touched.
4. Switch `replicate` on again. Then run `repair`: what was deleted while the stream could not be followed is extra in
   DynamoDB.

**Done when** the run succeeds, and `validate` after the repair finds all equal.

**If it fails** because replication is being worked on, its run has not ended yet: it is tried again. If the load fails, see
the run of `backfill`; clear `load` here once it is corrected. Cleared from `make_ready` on, everything is read once more.

**Roll back by** nothing: MongoDB is only read, and DynamoDB holds nothing older than before.
"""

from airflow.sdk import chain
from docferry_airflow.dag_factory import MENDING, migrations, phase_dag, unless_dry_run
from docferry_airflow.forms import SAFETY, confirmation, dry_run, flag, some_collections
from docferry_airflow.operators.mending.again import BeginAgainOperator
from docferry_airflow.operators.phase import PhaseOperator
from docferry_airflow.pools import MONGO_READ

LOAD = {name: f"{{{{ params.{name} }}}}" for name in ("collections", "waive_oplog_window")}
WAIVE = ("Waive the oplog window", "Load although it takes longer than half of the oplog window.")

for migration in migrations():
    params = {
        "collections": some_collections(migration),
        "waive_oplog_window": flag(*WAIVE, section=SAFETY),
        "dry_run": dry_run(on=True),
        "confirm": confirmation(migration),
    }
    with phase_dag(migration, "load_again", doc=__doc__, params=params, tags=(MENDING,)):
        ready = BeginAgainOperator(
            task_id="make_ready",
            collections="{{ params.collections }}",
            confirmed="{{ params.confirm }}",
            plan_only="{{ params.dry_run }}",
            pool=MONGO_READ,
        )
        chain(ready, unless_dry_run(), PhaseOperator(task_id="load", phase="backfill", conf=LOAD))
