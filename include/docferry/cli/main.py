"""`docferry <flow> FILE`: every flow without Airflow, for debugging, tests and scripts.

Results go to standard output (one JSON document with --json), progress and messages to standard error.
Connections: DOCFERRY_MONGO_URI, and for AWS the standard variables (AWS_ENDPOINT_URL_DYNAMODB, AWS_PROFILE, ...).

Exit codes:
  0  done
  1  the databases differ, repair left something, dead letters stay dead, a rollback point is not what was recorded,
     not everything is healthy, or DynamoDB will not serve a call of the source (analyze --source)
  2  wrong usage, migration file or environment
  3  refused: a preflight check, a difference in the estate, a lease that another process holds, too many dead letters,
     a purge that is not proved safe (the dry run's, too), a rollback point that cannot be made, live data without --confirm
  4  a server could not be reached or said no
  5  stopped on request, run again to continue
  70 a bug of ours
"""

from __future__ import annotations

import click

from docferry import __version__
from docferry.cli import cutover, estate, load, points, stack, status, validate
from docferry.cli.design import analyze, cost, permissions


def _epilog() -> str:
    """This module's docstring, but for its first line; \\b keeps click from wrapping it."""
    return "\n\n".join("\b\n" + part for part in (__doc__ or "").split("\n\n")[1:])


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=_epilog())
@click.version_option(__version__, prog_name="docferry")
def main() -> None:
    """Carry a live application from MongoDB to DynamoDB, and back if need be."""


for _commands in (stack, analyze, cost, permissions, estate, load, validate, status, cutover, points):
    _commands.add_to(main)


if __name__ == "__main__":
    main()
