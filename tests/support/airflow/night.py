"""What the people of the control room find: the shop in DUAL_WRITE under an application, and three large migrations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import bson
import pytest
from docferry import wiring
from docferry.client import DualWriteManager
from docferry.errors import ItemTooLarge
from docferry.flows.cutover.flip import begin_dual_write
from docferry.flows.ledger.dead_letters import open_letter
from docferry.sandbox.airflow import SandboxAirflow
from docferry.sandbox.airflow_api import AirflowApi

from support.airflow.large_rooms import EACH, add_chunks, fill_room
from support.airflow.site import LARGE, Site
from support.airflow.standalone import WAIT_S, person
from support.backfill.rig import Rig
from support.client.rig import connected
from support.replicate.rig import Following
from support.validate.planting import require_equal

FLIP = "shop.flip_reads"
SECRET = "ann@example.org"


@dataclass
class Night:
    """Airflow, with the shop in DUAL_WRITE and three large migrations."""

    airflow: SandboxAirflow
    shop: Rig
    large: Rig

    def person(self, name: str) -> AirflowApi:
        return person(self.airflow, name)

    def runs(self) -> list[str]:
        """Of the flip: the latest first."""
        return [run["dag_run_id"] for run in self.person("victor").runs(FLIP)]

    def ended(self) -> str:
        """How the latest flip ended."""
        return self.person("victor").wait_for_run(FLIP, self.runs()[0], timeout_s=WAIT_S)


@contextmanager
def open_night(site: Site) -> Iterator[Night]:
    """The shop is loaded, followed, used by an application and validated, all in this process; Airflow only flips reads."""
    shop = site.shop
    images = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
    shop.dynamodb.update_table(TableName=shop.table, StreamSpecification=images)
    with pytest.MonkeyPatch.context() as patch:
        prepare_large(site.large)
        connected(shop, patch, site.stack)
        with Following(shop) as following, wiring.connect(shop.file) as manager:
            following.await_all()
            prepare_shop(shop, manager)
            site.airflow.wait_until_ready()
            site.airflow.api.wait_for_dags([FLIP, *(f"{name}.playbook" for name in LARGE)])
            yield Night(site.airflow, shop, site.large[0])


def prepare_large(large: list[Rig]) -> None:
    """The first has a dead letter."""
    large[0].provision()
    for one in large:
        fill_room(one)
    add_chunks(large[0], range(EACH))
    error = ItemTooLarge("it is too large", id=f"~{SECRET}", path="notes")
    open_letter(large[0].ledger, "c01", error, bson.encode({"_id": SECRET, "notes": "long"}), 7)


def prepare_shop(shop: Rig, manager: DualWriteManager) -> None:
    """In DUAL_WRITE, validated, with some reads that were compared."""
    begin_dual_write(shop.job())
    for one in list(shop.database["users"].find({}, {"username": 1})):
        manager["users"].find_one({"username": one["username"]})
    require_equal(shop)
