"""Backfill: load every document of every collection.

**Enter when** provision has succeeded and nothing else writes to the new tables. The load with what has to be caught up
afterwards must fit into the oplog: the first task says so, and refuses if it takes more than half of the window.

**Steps**
1. Run with `dry_run`: the log of `plan_the_load` shows documents, write units (indexes included), hours and the oplog window.
2. Run without. The position of the change stream is recorded before the first page is read. Each collection is cut into
   ranges of `_id`; each mapped task loads one and is named after it.
3. `report_totals` adds up.

**Done when** the run succeeds: for each collection read = written + superseded + dead letters + outside the filter.

**If it fails** clear the failed tasks or start a new run: both continue from the checkpoints in the ledger. Another run that
is still at work is named. Dead letters: `docferry dead-letters` lists, shows and replays them.

**Roll back by** nothing: MongoDB has not been touched, and nothing reads the new tables yet.
"""

from docferry_airflow.dag_factory import collection_asset, collection_group, migrations, phase_dag, table_asset
from docferry_airflow.forms import SAFETY, dry_run, flag, some_collections
from docferry_airflow.operators.backfill import (
    FinishCollectionOperator,
    LoadRangeOperator,
    PlanBackfillOperator,
    PrepareCollectionOperator,
    ReportOperator,
)
from docferry_airflow.pools import DYNAMO_WRITE, MONGO_READ

for migration in migrations():
    params = {
        "collections": some_collections(migration),
        "waive_oplog_window": flag(
            "Waive the oplog window", "Load although it takes longer than half of the oplog window.", section=SAFETY
        ),
        "dry_run": dry_run("Only plan."),
    }
    with phase_dag(migration, "backfill", doc=__doc__, params=params, retries=5):
        planned = PlanBackfillOperator(
            task_id="plan_the_load",
            collections="{{ params.collections }}",
            waive_oplog_window="{{ params.waive_oplog_window }}",
            pool=MONGO_READ,
        )
        totals = ReportOperator(task_id="report_totals", trigger_rule="none_failed_min_one_success")
        for collection in migration.mappings:
            with collection_group(collection):
                prepared = PrepareCollectionOperator(
                    task_id="prepare",
                    collection=collection,
                    collections="{{ params.collections }}",
                    plan_only="{{ params.dry_run }}",
                    pool=MONGO_READ,
                )
                loaded = LoadRangeOperator.partial(
                    task_id="load",
                    collection=collection,
                    map_index_template="{{ task.id_range['label'] }}",
                    max_active_tis_per_dagrun=8,
                    pool=DYNAMO_WRITE,
                ).expand(id_range=prepared.output)
                finished = FinishCollectionOperator(
                    task_id="finish",
                    collection=collection,
                    inlets=[collection_asset(migration, collection)],
                    outlets=[table_asset(migration, migration.mapping(collection).table)],
                    trigger_rule="none_failed_min_one_success",  # nothing is left to load in a second run
                )
                planned >> prepared >> [loaded, finished]
                loaded >> finished >> totals
