"""Who we are, and whether the process behind another's mark has ended.

A mark is `boot id/pid namespace/pid/start time/machine id/host name` on Linux: it can belong to one process only, even after a
restart with the same pid in a container. From another host nothing can be proved, and then nothing is.

Why machine id and host name: virtual machines resumed from one snapshot share boot id, namespaces and pids. A host that has no
machine id, or is called "localhost", cannot be told from such a twin: its marks prove nothing, and leases run out instead.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import NamedTuple

from docferry.ports.flows import Identity

_PROC = Path("/proc")
_MACHINE_ID = Path("/etc/machine-id")
_NO_NAMES = frozenset({"", "localhost", "localhost.localdomain", "(none)"})


class Host(NamedTuple):
    """Within these a pid and its start time belong to one process. Empty texts where the system does not tell."""

    boot: str
    namespace: str
    machine: str
    name: str

    @property
    def certain(self) -> bool:
        """Whether this host can be told from every other one."""
        return bool(self.boot and self.namespace and self.machine) and self.name not in _NO_NAMES


def identity(name: str = "") -> Identity:
    """This process. `name` is what people read; the default names user, host and pid."""
    mark = _mark(os.getpid())
    fallback = f"{os.environ.get('USER', 'docferry')}@{socket.gethostname()} pid {os.getpid()}"
    return Identity(name=name or fallback, mark=mark, ended=has_ended)


def has_ended(mark: str, here: Host | None = None) -> bool:
    """True only if the process has been proved dead; a mark of another host, or an unreadable one, proves nothing.

    `here` is this host, as `this_host` finds it.
    """
    here = here if here is not None else this_host()
    parts = mark.split("/")
    if len(parts) != 6 or not here.certain:
        return False
    boot, namespace, pid, started, machine, name = parts
    if not pid.isdigit() or Host(boot, namespace, machine, name) != here:
        return False
    fields = _stat(int(pid))
    if fields is None:
        return not _exists(int(pid))  # with hidepid another user's live process has no /proc entry for us
    return fields[0] in ("Z", "X") or fields[19] != started


def _mark(pid: int) -> str:
    """Empty where there is no /proc."""
    here, fields = this_host(), _stat(pid)
    return f"{here.boot}/{here.namespace}/{pid}/{fields[19]}/{here.machine}/{here.name}" if here.boot and fields else ""


def this_host() -> Host:
    try:
        boot, namespace = (_PROC / "sys/kernel/random/boot_id").read_text().strip(), os.readlink(_PROC / "self/ns/pid")
    except OSError:
        return Host("", "", "", "")
    return Host(boot, namespace, _machine_id(), socket.gethostname())


def _machine_id() -> str:
    """Empty where there is none: in many containers; and on a system that has not booted for the first time yet."""
    try:
        found = _MACHINE_ID.read_text().strip()
    except OSError:
        return ""
    return found if found != "uninitialized" else ""


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
