"""Who we are, and whether the process behind another's mark has ended.

A mark is `boot id/pid namespace/pid/start time` on Linux: it can belong to one process only, even after a restart with
the same pid in a container. From another host nothing can be proved, and then nothing is.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

from docferry.ports.flows import Identity

_PROC = Path("/proc")


def identity(name: str = "") -> Identity:
    """This process. `name` is what people read; the default names user, host and pid."""
    mark = _mark(os.getpid())
    fallback = f"{os.environ.get('USER', 'docferry')}@{socket.gethostname()} pid {os.getpid()}"
    return Identity(name=name or fallback, mark=mark, ended=has_ended)


def has_ended(mark: str) -> bool:
    """True only if the process has been proved dead; a mark of another host, or an unreadable one, proves nothing."""
    boot, namespace, pid, started = mark.split("/") if mark.count("/") == 3 else ("", "", "", "")
    if not pid.isdigit() or not boot or (boot, namespace) != _host():
        return False
    fields = _stat(int(pid))
    if fields is None:
        return not _exists(int(pid))  # with hidepid another user's live process has no /proc entry for us
    return fields[0] in ("Z", "X") or fields[19] != started


def _mark(pid: int) -> str:
    """Empty where there is no /proc."""
    boot, namespace = _host()
    fields = _stat(pid)
    return f"{boot}/{namespace}/{pid}/{fields[19]}" if boot and fields else ""


def _host() -> tuple[str, str]:
    """(boot id, pid namespace): within these a pid and its start time belong to one process."""
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip(), os.readlink(_PROC / "self/ns/pid")
    except OSError:
        return "", ""


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/<pid>/stat from the state on."""
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
