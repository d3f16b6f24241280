"""Commands that say what each who acts must be allowed: `iam` for AWS, `privileges` for MongoDB. They ask no server."""

from __future__ import annotations

import json

import click

from docferry.cli.common import explained, file_argument, json_option
from docferry.config import load_migration
from docferry.core.permissions.aws import Actor, policy
from docferry.core.permissions.mongodb import REVOKE, WRITE_BLOCK, application_role, atlas_role, role
from docferry.core.permissions.statements import AwsAccount
from docferry.flows.preflight.permissions import resources_of, wanted_of


def add_to(group: click.Group) -> None:
    """These commands, as commands of `group`."""
    group.add_command(iam)
    group.add_command(privileges)


@click.command()
@file_argument
@click.option("--for", "actor", type=click.Choice([one.value for one in Actor]), help="One who acts; without it, all.")
@click.option("--account", default="*", show_default=True, help="The number of the AWS account.")
@click.option("--partition", default="aws", show_default=True, help="aws, aws-cn or aws-us-gov.")
@json_option
@explained
def iam(file: str, actor: str | None, account: str, partition: str, as_json: bool) -> None:
    """Print IAM policies of least privilege, made from a migration file: one for each who acts. A policy is JSON either way."""
    migration = load_migration(file)
    place = AwsAccount(region=migration.target.region, account=account, partition=partition)
    of = resources_of(migration)
    if actor is not None:
        click.echo(json.dumps(policy(Actor(actor), of, place), indent=2))
    else:
        click.echo(json.dumps({one.value: policy(one, of, place) for one in Actor}, indent=2))


@click.command()
@file_argument
@click.option("--fence", type=click.Choice([WRITE_BLOCK, REVOKE]), help="The kind of fence; without it, the file's.")
@click.option("--role", "name", default="docferry", show_default=True, help="The role's name.")
@click.option("--application", is_flag=True, help="What docferry.connect adds to the application's own rights.")
@click.option("--atlas", is_flag=True, help="As a custom database role of Atlas's Admin API.")
@json_option
@explained
def privileges(file: str, fence: str | None, name: str, application: bool, atlas: bool, as_json: bool) -> None:
    """Print MongoDB's role of least privilege, made from a migration file, as a `createRole` command for database `admin`: JSON
    either way."""
    of = wanted_of(load_migration(file))
    command = application_role(of, name) if application else role(of, name, fence or of.fence)
    click.echo(json.dumps(atlas_role(command) if atlas else command, indent=2))
