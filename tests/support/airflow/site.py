"""One `airflow standalone` with five migrations, for all tests that look at one: to start it is half a minute of work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from docferry.sandbox import SandboxStack
from docferry.sandbox.airflow import SandboxAirflow, aws_connection, mongo_connection

from support.airflow.large_rooms import large_migration
from support.airflow.standalone import load_standalone, write_migration
from support.backfill.rig import Rig
from support.replicate.rig import end, live_shop

LARGE = ("first", "second", "third")
SETTINGS = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
    "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin,maria:user,victor:viewer",
}


@dataclass
class Site:
    """Airflow, and the migrations of its directory: the shop that `shop` has, three large ones, and `standalone`, whose
    documents are in MongoDB and nowhere else."""

    stack: SandboxStack
    airflow: SandboxAirflow
    shop: Rig
    large: list[Rig]
    standalone: Path


@contextmanager
def open_site(stack: SandboxStack, directory: Path) -> Iterator[Site]:
    """Databases are filled while Airflow starts."""
    with ExitStack() as opened:
        files = [large_migration(directory, name, "LargeSite") for name in LARGE]
        large = [Rig(stack.env(), Path(one.path), one) for one in files]
        shop = live_shop(stack.env(), directory)
        opened.callback(end, shop)
        standalone = write_migration(directory)
        connections = {
            "mongo_default": mongo_connection(stack.mongo.uri("docferry")),
            "aws_default": aws_connection(stack.aws.env()),
        }
        airflow = SandboxAirflow(migrations=directory, connections=connections, settings=SETTINGS)
        airflow.start()
        opened.callback(airflow.close)
        load_standalone(stack)
        yield Site(stack, airflow, shop, large, standalone)
