"""Provision: make the DynamoDB side, and let MongoDB's change stream tell what a change needs.

**Enter when** the migration file has been reviewed; `docferry check` finds nothing.

**Steps**
0. `say_what_it_costs` prices the design by the documents and calls that MongoDB has now, beside its bill if you give it. The
   button *Report* on its page leads to `cost.html`. It changes nothing, and the other tasks do not wait for it.
1. Run with `dry_run`: the tasks' logs show the plan as a diff (`+` is made, `!` would change what exists, `x` is refused), and
   what the change stream's images cost in space.
2. Run without. Change stream pre- and post-images are switched on for every collection of the file. Tables, indexes, encryption,
   streams, backups, TTL, tags, the ledger and the DAX cluster are made one after the other, and each is read back; so is what the
   file names under `estate`: keys, AWS Backup, alarms and the dashboard, functions on streams.

**Done when** the run succeeds; a second run says `unchanged` for every resource.

**If it fails** read the log's last lines. A difference from what exists is shown and refused: correct the file, or run with
`allow_changes` if DynamoDB can change it in place. Anything else: run it again, it continues where it stopped.

**Roll back by** nothing automatic. Nothing is ever deleted here; new tables are empty, and yours to delete. Images are
switched off with `db.runCommand({collMod: "users", changeStreamPreAndPostImages: {enabled: false}})`, once
nothing follows the stream any more.
"""

from docferry_airflow.dag_factory import migrations, phase_dag
from docferry_airflow.forms import SAFETY, dry_run, flag, text
from docferry_airflow.operators.cost import CostOperator
from docferry_airflow.operators.provision import ProvisionOperator, SwitchImagesOnOperator
from docferry_airflow.pools import MONGO_READ

PRICES = "What it costs: files on the worker"
COST = {
    "price_book": text("Price book", "Prices of your region; none means list prices of us-east-1.", PRICES),
    "mongodb_bill": text("MongoDB's bill", "What MongoDB costs a month; none means an estimate.", PRICES),
    "workload": text("Workload", "Calls a second, and the plan; none means what MongoDB counts.", PRICES),
}

for migration in migrations():
    params = {
        "dry_run": dry_run("Only show the plan."),
        "allow_changes": flag(
            "Allow changes",
            "Also change existing resources that differ, where DynamoDB can do so in place.",
            section=SAFETY,
        ),
    }
    with phase_dag(migration, "provision", doc=__doc__, params=params | COST):
        CostOperator(
            task_id="say_what_it_costs", pool=MONGO_READ, **{name: f"{{{{ params.{name} }}}}" for name in COST}
        )
        images = SwitchImagesOnOperator(task_id="switch_images_on", plan_only="{{ params.dry_run }}")
        tables = ProvisionOperator(
            task_id="make_tables",
            plan_only="{{ params.dry_run }}",
            allow_changes="{{ params.allow_changes }}",
        )
        images >> tables
