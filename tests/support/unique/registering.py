"""A process of an application in which people register under addresses from a small pool, move to others, and leave.

`python registering.py FILE NAME POOL`: says each acknowledged change in a line of JSON, and what failed; ends at SIGTERM.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from random import Random
from typing import Any

from bson import ObjectId
from docferry import wiring
from pymongo.errors import DuplicateKeyError

stop = threading.Event()


def say(**told: Any) -> None:
    print(json.dumps(told), flush=True)


def main(file: str, name: str, pool: int) -> None:
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    random, mine, made = Random(name), dict[str, str](), 0
    with wiring.connect(file) as manager:
        users = manager["users"]
        while not stop.is_set():
            mail, draw = f"m{random.randrange(pool)}@example.org", random.random()
            who = random.choice(sorted(mine)) if mine else ""
            made += 1
            try:
                if draw < 0.5 or not who:
                    who = f"{name}-{made}"
                    users.insert_one({"_id": ObjectId(), "username": who, "email": mail, "visits": made})
                    mine[who] = mail
                elif draw < 0.75:
                    assert users.update_one({"username": who}, {"$set": {"email": mail}}).matched_count == 1
                    mine[who] = mail
                else:
                    assert users.delete_one({"username": who}).deleted_count == 1
                    del mine[who]
                say(did=made)
            except DuplicateKeyError as error:
                details = error.details or {}
                say(taken=list(details["keyPattern"]), value=details["keyValue"] == {"email": mail})
            except Exception as error:  # the test fails by what is said here
                say(failed=f"{type(error).__name__}: {error}")
                stop.wait(0.2)
    say(mine=mine)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
