"""Who we are, and whether the process behind another's mark has ended.

A mark is `boot id/pid namespace/pid/start time` on Linux: it can belong to one process only, even after a restart with
the same pid in a container. From another host nothing can be proved, and then nothing is.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

from docferry.ports import Identity

_PROC = Path("/proc")


def identity(name: str = "") -> Identity:
    """This process. `name` is what people read; the default names user, host and pid."""
    mark = _mark(os.getpid())
    fallback = f"{os.environ.get('USER', 'docferry')}@{socket.gethostname()} pid {os.getpid()}"
    return Identity(name=name or fallback, mark=mark, ended=has_ended)


def has_ended(mark: str) -> bool:
    """True only if the process has been proved dead; a mark of another host, or an unreadable one, proves nothing."""
    here, _, process = _mark(os.getpid()).rpartition("/")[0].rpartition("/")
    del process
    parts = mark.split("/")
    if len(parts) != 4 or not parts[2].isdigit() or not here or "/".join(parts[:2]) != here:
        return False
    return _mark(int(parts[2])) != mark


def _mark(pid: int) -> str:
    """Empty where there is no /proc, or no such process (a zombie has ended, too)."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink(_PROC / "self/ns/pid")
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return ""
    if fields[0] in ("Z", "X"):
        return ""
    return f"{boot}/{namespace}/{pid}/{fields[19]}"
