"""Who is connected to MongoDB, member by member: who reads from a secondary is seen there alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pymongo import MongoClient, ReadPreference

from docferry import errors
from docferry.adapters.mongodb.errors import mongo_errors
from docferry.adapters.mongodb.operations import (
    APP,
    Operation,
    app_of,
    current_operations,
    driver_of,
    is_internal,
    is_resting,
    may_write,
    user_of,
)
from docferry.core.cutover.mongodb_clients import Doing, Look, Sighting


class MongoClients:
    """Clients over one MongoClient for each member. `uri` carries the credentials and stays out of every message."""

    def __init__(self, uri: str, **options: Any) -> None:
        self._uri = uri
        defaults: dict[str, Any] = {"serverSelectionTimeoutMS": 2_000, "appname": APP}
        self._options = defaults | options
        with mongo_errors("connect"):
            self._client: MongoClient[Any] = MongoClient(uri, **self._options)
        self._members: dict[str, MongoClient[Any]] = {}

    def __repr__(self) -> str:
        return "MongoClients()"

    def close(self) -> None:
        for client in (self._client, *self._members.values()):
            client.close()

    def look(self) -> Look:
        with mongo_errors("hello"):
            hello = self._client.admin.command("hello")
            users = self._client.admin.command("connectionStatus")["authInfo"]["authenticatedUsers"]
        own = f"{users[0]['db']}.{users[0]['user']}" if users else ""
        found: list[Sighting] = []
        unseen: list[str] = []
        for address in [*hello.get("hosts", ()), *hello.get("passives", ())]:
            try:
                operations = current_operations(
                    self._member(address), idle=True, read_preference=ReadPreference.NEAREST
                )
            except errors.TransientStoreError:
                unseen.append(address)
                continue
            found += [_sighting(one) for one in operations if _is_foreign(one, own)]
        return Look(sightings=tuple(found), unseen=tuple(unseen))

    def _member(self, address: str) -> MongoClient[Any]:
        """A client that asks this member alone."""

        def only(servers: Sequence[Any]) -> list[Any]:
            return [one for one in servers if "{}:{}".format(*one.address) == address]

        if address not in self._members:
            with mongo_errors("connect"):
                self._members[address] = MongoClient(self._uri, **self._options, server_selector=only)
        return self._members[address]


def _is_foreign(operation: Operation, own: str) -> bool:
    """A connection that is not docferry's. With access control, a client that has not logged in can neither read nor write."""
    user = user_of(operation, {})
    if is_internal(operation) or operation.get("type") == "idleSession" or (own and not user):
        return False
    return not (app_of(operation) == APP and user == own)


def _sighting(operation: Mapping[str, Any]) -> Sighting:
    doing = Doing.IDLE if is_resting(operation) else Doing.WRITE if may_write(operation) else Doing.READ
    return Sighting(
        app=app_of(operation),
        driver=driver_of(operation),
        user=user_of(operation, {}),
        host=str(operation["client"]).rpartition(":")[0],
        doing=doing,
        namespace="" if doing is Doing.IDLE else str(operation.get("ns", "")),
    )
