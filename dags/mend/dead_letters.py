"""Dead letters: documents that could not be carried. List them, try them again, and settle stray writes.

**Enter when** health, the control room or a load says that there are dead letters or stray writes.

**Steps**: `action` says which one task runs.
1. `list_letters`: the log has a line for each, by a handle that shows neither the document nor its id. `docferry dead-letters
   --show` and the control room show the document to those who may.
2. Correct the document in MongoDB, or what the mapping says of it.
3. `replay_letters`: each document is read again in MongoDB and written by the version rules. First with `dry_run`, which says
   how many would be tried; then without, with the migration's name in `confirm`. `letters` names some; none means all.
4. `settle_strays`: a stray write reached a database after it had stopped leading, and is in neither by itself. Make it again
   through the application if it is worth that, then name its key in `strays`, and say in `why` what was done. Your name stays
   with it in the ledger; the copies go.

**Done when** the run succeeds. Replication closes letters, too, once a later change of the document can be stored.

**If it fails** with documents that still cannot be stored, the list has the new reasons. While DynamoDB leads nothing is
replayed: write the document again through the application.

**Roll back by** nothing: replay writes only what MongoDB holds.
"""

from docferry_airflow.dag_factory import MENDING, chosen_task, migrations, phase_dag
from docferry_airflow.forms import SAFETY, confirmation, dry_run, lines, one_of, some_collections, text
from docferry_airflow.operators.mending.letters import ListLettersOperator, ReplayLettersOperator, SettleStraysOperator
from docferry_airflow.pools import DYNAMO_WRITE

ACTIONS = ("list_letters", "replay_letters", "settle_strays")
SAFE = {"confirmed": "{{ params.confirm }}", "plan_only": "{{ params.dry_run }}"}

for migration in migrations():
    params = {
        "action": one_of("Action", ACTIONS, "The one task that runs."),
        "collections": some_collections(migration),
        "letters": lines("Letters", "Handles of dead letters, one a line; none means all. For replay_letters."),
        "strays": lines("Stray writes", "Their keys, one a line. For settle_strays."),
        "why": text("Why", "What was done about the stray writes. Kept with them.", SAFETY),
        "dry_run": dry_run(on=True),
        "confirm": confirmation(migration),
    }
    with phase_dag(migration, "dead_letters", doc=__doc__, params=params, tags=(MENDING,)):
        listed = ListLettersOperator(task_id="list_letters", collections="{{ params.collections }}")
        replayed = ReplayLettersOperator(
            task_id="replay_letters",
            collections="{{ params.collections }}",
            letters="{{ params.letters }}",
            pool=DYNAMO_WRITE,
            **SAFE,
        )
        settled = SettleStraysOperator(
            task_id="settle_strays", keys="{{ params.strays }}", why="{{ params.why }}", **SAFE
        )
        chosen_task("{{ params.action }}", [listed, replayed, settled])
