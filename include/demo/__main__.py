"""What `make demo` runs: a shop in a real MongoDB, written to all the time, through a real Airflow, into DynamoDB, proved equal.

    python -m demo [--users 5000] [--rate 20] [--approve demo|me] [--keep] | --stop

The DAG `playbook` from its first phase to its last. An application writes to MongoDB before, during and after the load, in a
process of its own, while DynamoDB follows; then it takes up docferry's client and moves, is taken back, and moves again. Exit
code 0 only if every number adds up; 1 if one does not or a DAG run fails; 130 after Ctrl-C. Nothing is left behind, unless
`--keep`.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click
from docferry.errors import MigrationError, Unavailable
from docferry.sandbox.airflow import SandboxAirflow
from docferry.sandbox.airflow_api import USER
from docferry.sandbox.processes import ProcessIdentity
from docferry.sandbox.stack import SandboxStack, read_stack

from demo.flow import Demo
from demo.report import DemoReport
from demo.teller import Teller

AIRFLOW_FILE = "airflow.json"
REPORT_FILE = "demo-report.json"
STOP_GRACE_S = 15.0


# --- keeping, stopping ------------------------------------------------------------------------------------------------


def _announce(build: Path, airflow: SandboxAirflow) -> None:
    content = {"url": airflow.url, "process": asdict(airflow.process.identity)}
    (build / AIRFLOW_FILE).write_text(json.dumps(content))


def _kept_airflow(build: Path) -> ProcessIdentity | None:
    try:
        return ProcessIdentity(**json.loads((build / AIRFLOW_FILE).read_text())["process"])
    except FileNotFoundError:
        return None


def stop_kept(build: Path) -> bool:
    """Stop what `--keep` left running. True if there was anything."""
    airflow = _kept_airflow(build)
    if airflow is not None:
        airflow.stop(grace_s=STOP_GRACE_S)
        (build / AIRFLOW_FILE).unlink(missing_ok=True)
    try:
        read_stack(build).stop()
    except Unavailable:
        return airflow is not None
    return True


def _is_kept(build: Path) -> bool:
    airflow = _kept_airflow(build)
    return airflow is not None and airflow.is_alive()


def _how_to_use(demo: Demo, build: Path) -> tuple[str, ...]:
    return (
        f"Airflow:        {demo.airflow.url}   user {USER}, password {demo.airflow.password}",
        f"migration file: {demo.migration.path}",
        f"environment:    {build / 'stack.json'} (for the docferry command line)",
        "stop it with:   make stop",
    )


# --- the program ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """A second Ctrl-C must not end the cleaning up."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _demonstrate(teller: Teller, users: int, rate: float, keep: bool, by_hand: bool, build: Path) -> DemoReport:
    teller.say("fetching what is missing, starting MongoDB and the AWS emulator")
    with SandboxStack(keep=keep, announce_in=build if keep else None, say=teller.say) as stack:
        demo = Demo(teller, stack, build, users=users, rate=rate, keep=keep, by_hand=by_hand)
        try:
            report = demo.run()
            if keep:
                _announce(build, demo.airflow)
                demo.airflow.leave_running()
        except BaseException:
            teller.say("stopping everything")
            with _undisturbed():
                demo.close()
                stack.close()
            raise
        if keep:
            report.hints = _how_to_use(demo, build)
            return report
        teller.say("stopping everything")
        with _undisturbed():
            demo.close()
            stack.close()
        return report


def _finish(teller: Teller, report: DemoReport, build: Path) -> int:
    path = build / REPORT_FILE
    path.write_text(json.dumps(report.to_dict(), indent=1) + "\n")
    for table in report.tables():
        teller.console.print(table)
    for problem in report.problems:
        teller.console.print(f"WRONG: {problem}", markup=False)
    verdict = "not everything adds up" if report.problems else "every number adds up"
    teller.say(f"{verdict}; the same as JSON: {path}")
    teller.console.print("\n".join(report.hints), markup=False)
    return 1 if report.problems else 0


@click.command(help=(__doc__ or "").partition("\n\n")[0])
@click.option("--users", default=5_000, show_default=True, type=click.IntRange(min=100), help="Users of the shop.")
@click.option(
    "--rate",
    default=20.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Writes a second; with 0 nothing is written.",
)
@click.option(
    "--approve",
    default="demo",
    show_default=True,
    type=click.Choice(["demo", "me"]),
    help="Who answers what the phases ask: the demo, through Airflow's API, or you in the browser.",
)
@click.option("--keep", is_flag=True, help="Leave Airflow, MongoDB and the emulator running.")
@click.option("--stop", is_flag=True, help="Stop what --keep left running.")
def main(users: int, rate: float, approve: str, keep: bool, stop: bool) -> None:
    build = Path.cwd() / "build"
    build.mkdir(exist_ok=True)
    if stop:
        print("stopped" if stop_kept(build) else "nothing was running")
        return
    if _is_kept(build):
        print("a demo that was kept is still running; stop it first: make stop", file=sys.stderr)
        sys.exit(1)
    sys.exit(_run(users, rate, keep, approve == "me", build))


def _run(users: int, rate: float, keep: bool, by_hand: bool, build: Path) -> int:
    with Teller() as teller:
        try:
            report = _demonstrate(teller, users, rate, keep, by_hand, build)
            return _finish(teller, report, build)
        except KeyboardInterrupt:
            teller.say("interrupted; nothing is left behind")
            return 130
        except MigrationError as error:
            teller.say(f"failed: {error}")
            return 1


if __name__ == "__main__":
    main()
