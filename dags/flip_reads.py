"""Flip reads: 1, 10, 50 and then 100 % of the reads come from DynamoDB, each share watched before the next.

**Enter when** dual writes have soaked, the last full validation found all equal, no dead letter is open, no call of the
application is left that DynamoDB could not answer (`docferry mode`), in processes that have ended, too, or they are waived by
their shape; and at least `reads` of its reads have been compared, of which at most 1 % differ. With `dry_run` no person is asked,
the run says for each share whether anything is in the way (a missing approval, too), and changes nothing.

**Steps**
1. `wait_for_approval` shows the validation report and its age under Required Actions. The answer goes to the ledger, with a
   reason of five characters at least.
2. `flip_to_1` ... `flip_to_100` change the share, which is stable per key, and watch what the application counts: reads that fell
   back to MongoDB, compared reads that differ, and how long reads take. A share that has served too few soaks as long again, and
   then steps back. `steps` says which shares are taken.

**Done when** the run succeeds: all reads come from DynamoDB, and fall back to MongoDB for what is not there whole.

**If it fails** a step that went past its bound has already stepped back by itself; its error says why, with examples. Correct
the cause, validate, and start again: shares that were passed before are passed quickly.

**Roll back by** the DAG `rollback`: a change of mode, nothing is lost.
"""

from airflow.sdk import Param, chain
from docferry_airflow.dag_factory import migrations, phase_dag, unless_dry_run
from docferry_airflow.forms import HOW, SAFETY, dry_run, lines, number
from docferry_airflow.operators.cutover import FlipReadsOperator
from docferry_airflow.sensors.approval import PhaseApprovalSensor

RAMP = (1, 10, 50, 100)
BOUNDS = "Bounds: past one of them a share steps back"
READS = "So many must be compared before, and a share's part of so many served; 0 waives both."
WAIVED = "Shapes of calls that DynamoDB cannot answer, and no process makes any more, one a line. Recorded."

for migration in migrations():
    steps = Param(
        list(RAMP),
        type="array",
        items={"type": "integer", "enum": list(RAMP)},
        minItems=1,
        title="Shares",
        description="The shares that are taken, in this order.",
        section=HOW,
    )
    params = {
        "steps": steps,
        "soak_minutes": number("Soak, in minutes", 10.0, "How long each share is watched.", minimum=0, maximum=24 * 60),
        "reads": number("Reads as evidence", 300, READS, BOUNDS, minimum=0),
        "slower": number(
            "Slower at most", 3.0, "DynamoDB's p95 may be so many times MongoDB's; 0 waives it.", BOUNDS, minimum=0
        ),
        "waived": lines("Waived calls", WAIVED, SAFETY),
        "dry_run": dry_run(),
    }
    with phase_dag(migration, "flip_reads", doc=__doc__, params=params):
        approved = PhaseApprovalSensor(task_id="wait_for_approval", phase="flip_reads")
        flips = [
            FlipReadsOperator(
                task_id=f"flip_to_{percent}",
                percent=percent,
                soak_minutes="{{ params.soak_minutes }}",
                reads="{{ params.reads }}",
                slower="{{ params.slower }}",
                waived="{{ params.waived }}",
                steps="{{ params.steps }}",
                plan_only="{{ params.dry_run }}",
            )
            for percent in RAMP
        ]
        chain(unless_dry_run(), approved, *flips)
