"""Validate: are both databases equal, field by field, in both directions?

**Enter when** the backfill has finished. Unpause this DAG then: it runs nightly (`validate.schedule` in the migration file),
and whenever you start it.

**Steps**
1. `mend_differences` runs only with `repair`: it writes again what is missing or different, and puts tombstones over what
   is extra.
2. `compare_every_document` maps every document and compares it with its items, then looks for items without a document.
   With `sample`, only so many documents of each collection; the log says what that proves.

While DynamoDB leads, the same run judges MongoDB: every document of DynamoDB must be what MongoDB holds, and nothing else may be
there. What reverse replication has still to bring is no difference; a stream has no watermark, so the report says from when to
when it looked. After `finalize` it refuses: MongoDB is not kept up to date any more.

**Done when** the run succeeds: 0 missing, 0 different, 0 extra.

**If it fails** with what could not be judged, replication is behind or stands still: let it catch up, then run it again. With
differences, the log names keys and paths; `docferry validate` shows the values. Find out who wrote them,
then run with `repair`. While DynamoDB leads there is no `repair`: let `reverse` run, and look at its dead letters; what was
changed in MongoDB by hand comes right when its document is next written to DynamoDB. Anything else: run it again.

**Roll back by** nothing: comparing changes nothing, and repair writes only what MongoDB holds.
"""

from docferry_airflow.dag_factory import flag, migrations, phase_dag, some_collections, whole_number
from docferry_airflow.operators.validate import RepairOperator, ValidateOperator
from docferry_airflow.pools import DYNAMO_WRITE, MONGO_READ

for migration in migrations():
    params = {
        "collections": some_collections(migration),
        "sample": whole_number("Compare only so many documents of each collection; empty means all."),
        "repair": flag("First mend what differs."),
    }
    with phase_dag(migration, "validate", doc=__doc__, params=params, schedule=migration.validate.schedule):
        mended = RepairOperator(
            task_id="mend_differences",
            enabled="{{ params.repair }}",
            collections="{{ params.collections }}",
            pool=DYNAMO_WRITE,
        )
        compared = ValidateOperator(
            task_id="compare_every_document",
            collections="{{ params.collections }}",
            sample="{{ params.sample }}",
            trigger_rule="none_failed",
            pool=MONGO_READ,
        )
        mended >> compared
