"""The throw-away stack: up, env, down; and the rehearsal of the whole night on one: drill."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click

from docferry import errors
from docferry.cli.common import EXIT_DIFFERENT, CliProgress, explained, json_option, screen, show, stop_on_signals
from docferry.rehearsal.drill import PROCESSES, RAMP, RATE, drill
from docferry.rehearsal.shop import load_shop
from docferry.sandbox.stack import KeptStack, SandboxStack, read_stack, render_exports

keep_option = click.option(
    "--keep-in",
    type=click.Path(file_okay=False, path_type=Path),
    default="build/stack",
    show_default=True,
    help="The directory whose stack.json tells other shells how to reach the stack.",
)


def add_to(group: click.Group) -> None:
    """These commands, as commands of `group`."""
    for command in (up, env, down, drill_command):
        group.add_command(command)


@click.command()
@keep_option
@click.option("--shop", type=int, default=0, metavar="USERS", help="Also load the example shop with this many users.")
@click.option("--detach", is_flag=True, help="Leave it running and return; `docferry down` ends it.")
@json_option
@explained
def up(keep_in: Path, shop: int, detach: bool, as_json: bool) -> None:
    """Start a throw-away MongoDB replica set and AWS emulator, and print their variables.

    It runs until interrupted. With --detach the command returns: eval "$(docferry up --detach)" gives a shell the variables.
    """
    _refuse_second(keep_in)
    with stop_on_signals() as stop, _made(keep_in), _stack(keep_in, detach) as stack:
        if shop:
            load_shop(stack.env()["DOCFERRY_MONGO_URI"], users=shop)
        show(stack.env(), as_json, render_exports(stack.env()))
        how = "docferry down" if detach else "Ctrl-C"
        screen.print(f"up; {how} ends it and removes everything", markup=False, highlight=False)
        while not detach and not stop.wait(1.0):
            pass


def _stack(keep_in: Path, detach: bool) -> SandboxStack:
    return SandboxStack(keep=detach, announce_in=keep_in, say=CliProgress().say)


@click.command()
@keep_option
@json_option
@explained
def env(keep_in: Path, as_json: bool) -> None:
    """Print the variables of the stack that is up, for eval "$(docferry env)"."""
    stack = read_stack(keep_in)
    if not stack.is_alive():
        raise errors.Unavailable(f"the stack of {stack.file} has ended: docferry down removes what is left of it")
    show(stack.env(), as_json, render_exports(stack.env()))


@click.command()
@keep_option
@json_option
@explained
def down(keep_in: Path, as_json: bool) -> None:
    """End the stack that `docferry up --detach` left running, and remove its data. Without one, nothing happens."""
    stack = _kept(keep_in)
    if stack is not None:
        stack.stop()
        with suppress(OSError):
            keep_in.rmdir()
    show({"stopped": stack is not None}, as_json, "stopped" if stack is not None else "nothing was running")


def _kept(keep_in: Path) -> KeptStack | None:
    try:
        return read_stack(keep_in)
    except errors.Unavailable:
        return None


def _refuse_second(keep_in: Path) -> None:
    """Two stacks would share one stack.json, and the first could no longer be ended by it."""
    stack = _kept(keep_in)
    if stack is not None and stack.is_alive():
        what = f"a stack is up already ({stack.file})"
        suggestion = "docferry env prints its variables, docferry down ends it; --keep-in names another directory"
        raise errors.PreflightFailed("up", [errors.Problem(where="--keep-in", what=what, suggestion=suggestion)])


@contextmanager
def _made(directory: Path) -> Iterator[None]:
    """The directory; what had to be made for it is removed again, unless something has been put there."""
    missing = [one for one in (directory, *directory.parents) if not one.exists()]
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"the directory {directory} cannot be made: {error.strerror}"
        raise errors.ConfigError("--keep-in", [errors.Problem(where="--keep-in", what=what)]) from error
    try:
        yield
    finally:
        with suppress(OSError):
            for one in missing:
                one.rmdir()


@click.command("drill")
@click.option(
    "--processes", type=click.IntRange(2, 64), default=PROCESSES, show_default=True, help="Of the application."
)
@click.option(
    "--rate", type=click.FloatRange(0.5), default=RATE, show_default=True, help="Requests/s of each; 8 of 10 write."
)
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Also write the report there, as JSON.")
@json_option
@explained
def drill_command(processes: int, rate: float, report: Path | None, as_json: bool) -> int:
    """Rehearse the whole way to DynamoDB, back, and there again: a throw-away stack, a live application, an independent judge."""
    with CliProgress() as progress:
        found = drill(progress.say, processes=processes, rate=rate, ramp=RAMP)
    if report is not None:
        report.write_text(json.dumps(found.to_dict(), indent=1) + "\n")
    show(found.to_dict(), as_json, found.render())
    return 0 if found.ok else EXIT_DIFFERENT
