"""Validate: are both databases equal, field by field, in both directions?

**Enter when** the backfill has finished. Unpause this DAG then: it runs nightly (`validate.schedule` in the migration file),
and whenever you start it.

**Steps**
1. `compare_every_document` maps every document and compares it with its items, then looks for items without a document.
   With `sample`, only so many documents of each collection; the log says what that proves.

While DynamoDB leads, the same run judges MongoDB: every document of DynamoDB must be what MongoDB holds, and nothing else may be
there. What reverse replication has still to bring is no difference; a stream has no watermark, so the report says from when to
when it looked. After `finalize` it refuses: MongoDB is not kept up to date any more.

**Done when** the run succeeds: 0 missing, 0 different, 0 extra.

**If it fails** with what could not be judged, replication is behind or stands still: let it catch up, then run it again. With
differences, the log names keys and paths; `docferry validate` shows the values. Find out who wrote them,
then run the DAG `repair`. While DynamoDB leads there is no repair: let `reverse` run, and look at its dead letters; what was
changed in MongoDB by hand comes right when its document is next written to DynamoDB. Anything else: run it again.

**Roll back by** nothing: comparing changes nothing, and repair writes only what MongoDB holds.
"""

from docferry_airflow.dag_factory import migrations, phase_dag
from docferry_airflow.forms import SCOPE, some_collections, whole_number
from docferry_airflow.operators.validate import ValidateOperator
from docferry_airflow.pools import MONGO_READ

for migration in migrations():
    params = {
        "collections": some_collections(migration),
        "sample": whole_number("Sample", "Compare only so many documents of each collection; empty means all.", SCOPE),
    }
    with phase_dag(migration, "validate", doc=__doc__, params=params, schedule=migration.validate.schedule):
        ValidateOperator(
            task_id="compare_every_document",
            collections="{{ params.collections }}",
            sample="{{ params.sample }}",
            pool=MONGO_READ,
        )
