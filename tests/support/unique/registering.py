"""A process of an application in which people contend for addresses, until SIGTERM.

`python registering.py FILE HISTORY NUMBER PEOPLE POOL`: the history is as `docferry.rehearsal.history` describes it.
"""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

from docferry import wiring
from docferry.rehearsal.history import HistoryWriter
from docferry.rehearsal.registrations import Registrar

PAUSE_S = 0.05
"""Between two requests: all of a test's processes together stay slower than replication is on a busy machine."""


def main(file: str, history: str, number: int, people: int, pool: int) -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with wiring.connect(file) as manager:

        def mode() -> str:
            return str(manager.get_metrics()["configuration"]["mode"])

        with HistoryWriter(Path(history), number, mode) as written:
            addresses = [f"m{one}@example.org" for one in range(pool)]
            registrar = Registrar(manager, written, f"p{number}", people=people, pool=addresses)
            while not stop.wait(PAUSE_S):
                registrar.step()
            written.stop(manager.get_metrics()["counts"])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
