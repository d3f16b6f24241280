"""Threads of an application that write through the client without a pause, read now and then, and know what was acknowledged."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from random import Random
from types import TracebackType
from typing import Any

from bson import ObjectId
from docferry.client import DualWriteManager

PAUSE_S = 0.01


class Writer(threading.Thread):
    """Owns some users, and changes no others: what it was told last is what they are."""

    def __init__(self, manager: DualWriteManager, name: str, stop: threading.Event) -> None:
        super().__init__(name=name, daemon=True)
        self.manager, self.stop_it, self.random = manager, stop, Random(name)
        self.state: dict[str, int | None] = {}
        self.writes = 0
        self.longest_s = 0.0
        self.errors: list[BaseException] = []

    def run(self) -> None:
        while not self.stop_it.is_set():
            began = time.monotonic()
            try:
                self.write()
            except BaseException as error:
                self.errors.append(error)
            self.longest_s = max(self.longest_s, time.monotonic() - began)
            self.writes += 1
            time.sleep(PAUSE_S)

    def write(self) -> None:
        users = self.manager["users"]
        name = f"{self.name}-{self.random.randrange(8)}"
        if self.random.random() < 0.2:
            users.find_one({"username": name})
        visits = self.state.get(name)
        if visits is None:
            number = self.random.randrange(1_000)
            users.insert_one({"_id": ObjectId(), "username": name, "visits": number, "addresses": [{"type": "home"}]})
            self.state[name] = number
        elif self.random.random() < 0.2:
            assert users.delete_one({"username": name}).deleted_count == 1
            self.state[name] = None
        elif self.random.random() < 0.3:
            result = users.replace_one({"username": name}, {"username": name, "visits": visits + 5})
            assert result.matched_count == 1
            self.state[name] = visits + 5
        else:
            assert users.update_one({"username": name}, {"$inc": {"visits": 1}}).modified_count == 1
            self.state[name] = visits + 1


class Traffic:
    """Some writers for as long as the block lasts."""

    def __init__(self, manager: DualWriteManager, writers: int = 4) -> None:
        self.stop = threading.Event()
        self.writers = [Writer(manager, f"w{number}", self.stop) for number in range(writers)]

    def __enter__(self) -> Traffic:
        for one in self.writers:
            one.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop.set()
        for one in self.writers:
            one.join(timeout=60)

    @property
    def errors(self) -> list[BaseException]:
        return [error for one in self.writers for error in one.errors]

    @property
    def writes(self) -> int:
        return sum(one.writes for one in self.writers)

    @property
    def longest_s(self) -> float:
        return max(one.longest_s for one in self.writers)

    def acknowledged(self) -> Mapping[str, int]:
        """username -> visits, of all users that are."""
        return {name: visits for one in self.writers for name, visits in one.state.items() if visits is not None}


def in_dynamodb(dynamodb: Any, table: str) -> Mapping[str, int]:
    """The same as DynamoDB has it, read without docferry."""
    pages = dynamodb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
    items = [item for page in pages for item in page["Items"]]
    roots = [item for item in items if item["SK"] == {"S": "PROFILE"} and "visits" in item]
    return {item["username"]["S"]: int(item["visits"]["N"]) for item in roots}


def in_mongodb(database: Any) -> Mapping[str, int]:
    return {one["username"]: one["visits"] for one in database["users"].find({"visits": {"$exists": True}})}
