"""Replicate: DynamoDB follows MongoDB while the application writes.

**Enter when** provision has succeeded. Unpause this DAG and leave it on: it waits for the load, then follows the change
stream from the position that was recorded before the first page was read, in runs of `minutes`, one after the other.

**Steps**
1. `wait_until_loaded` holds no slot; it ends when the ledger says that every collection is complete. So does
   `wait_until_mongodb_leads`: while DynamoDB leads, the DAG `reverse` has its turn.
2. `follow_changes` applies inserts, updates, deletes, moved keys and removed children. Its log tells the lag, the rate, and
   how long the oplog still holds the position. A second one at the same time says that the lease is held, and by whom.

**Done when** `stop_mongo_writes` or a rollback says so. Until then one run follows the other; the lag stays at a few seconds.

**If it fails** it goes on by itself where all was applied. After three failed runs Airflow pauses it: read the log.
`ResumeTokenLost`: the oplog no longer holds the position. `StreamEnded`: a collection was dropped, renamed, or lost its
images. Both say which collections need a new load: `docferry backfill --again`, then unpause this DAG, and while it runs
start `validate` with `repair`, which puts tombstones over what was deleted meanwhile, and `docferry dead-letters --replay`,
which closes what can be stored by now. Changes that cannot be stored are dead letters and stop nothing: `docferry
dead-letters`.

**Roll back by** pausing this DAG: MongoDB is not touched. Unpause it while the oplog still holds the position, and it catches up.
"""

from docferry_airflow.dag_factory import CONTINUOUS, collection_asset, migrations, phase_dag, table_asset
from docferry_airflow.forms import flag, number
from docferry_airflow.operators.replicate import ReplicateOperator
from docferry_airflow.sensors.ledger import CollectionLoadedSensor, MongoDBLeadsSensor

for migration in migrations():
    params = {
        "minutes": number("Minutes", 20.0, "How long a run lasts.", exclusiveMinimum=0, maximum=240),
        "until_caught_up": flag("Until caught up", "End when everything up to the start of the run is applied."),
    }
    with phase_dag(migration, "replicate", doc=__doc__, params=params, schedule=CONTINUOUS):
        loaded = CollectionLoadedSensor(task_id="wait_until_loaded", poke_interval=15, timeout=30 * 24 * 3600)
        followed = ReplicateOperator(
            task_id="follow_changes",
            minutes="{{ params.minutes }}",
            until_caught_up="{{ params.until_caught_up }}",
            inlets=[collection_asset(migration, name) for name in migration.mappings],
            outlets=[table_asset(migration, table.name) for table in migration.tables],
        )
        leads = MongoDBLeadsSensor(task_id="wait_until_mongodb_leads", poke_interval=10, timeout=366 * 24 * 3600)
        loaded >> leads >> followed
