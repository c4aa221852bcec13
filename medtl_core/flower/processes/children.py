"""Child processes that leave nothing behind: each has its own group, its log, and a mark in its environment.

Flower detaches some of its processes from whoever started them (the local SuperLink, SuperExec, Ray). They inherit the
mark, and by it they are found again.
"""

import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from medtl_core.errors import RunError

#: Environment variable that names the home folder of the processes started for it.
MARK = "MEDTL_PROCESSES"
#: Environment variable that names another interpreter, whose environment the processes are to run in.
PYTHON = "MEDTL_PYTHON"

#: Ports the kernel does not hand out by itself to outgoing connections (those start at 32768 or above).
_PORTS = range(20000, 32000)
_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
#: Seconds a process has to end by itself after SIGTERM, and after SIGKILL.
_PATIENCE = 5.0
#: Lines of every log an error shows.
_SHOWN = 25

#: No telemetry, no update check, no installing while a run starts, one numeric thread a process, quick hand-over.
_QUIET = {
    "no_proxy": "127.0.0.1,localhost",
    "NO_PROXY": "127.0.0.1,localhost",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.05",
    "FLWR_TELEMETRY_ENABLED": "0",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONIOENCODING": "utf-8",
    "RAY_USAGE_STATS_ENABLED": "0",
    "SPT_NOENV": "1",  # Ray's workers rename themselves; the mark must survive that
}


class Children:
    """The processes started for one home folder; as a context it ends them all, whatever happened inside."""

    def __init__(self, home: Path) -> None:
        self.home = home.absolute()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def environment(self, flower_home: str, **own: str) -> dict[str, str]:
        """Returns the variables of a process whose FLWR_HOME is a folder of this name; `own` are further ones."""
        folder = self.home / flower_home
        folder.mkdir(parents=True, exist_ok=True)
        path = os.pathsep.join([str(executables()), os.environ.get("PATH", os.defpath)])
        return {**os.environ, **_QUIET, MARK: str(self.home), "FLWR_HOME": str(folder), "PATH": path, **own}

    def start(
        self, name: str, command: Sequence[str], env: Mapping[str, str], folder: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """Starts a process in its own group; its output goes to `NAME.log` in the home folder."""
        if name in self._processes:  # it was ended, and is started again
            self._processes[name].poll()
        with self.log(name).open("ab") as log:
            process = subprocess.Popen(
                [str(executables() / command[0]), *command[1:]],
                cwd=folder or self.home,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._processes[name] = process
        return process

    def log(self, name: str) -> Path:
        """Returns the file that holds a process' output."""
        return self.home / f"{name}.log"

    def wait(self, name: str, word: str, patience: float) -> None:
        """Returns once a process has said something; raises RunError where it does not in time, or ends before."""
        end = time.monotonic() + patience
        while word not in self.log(name).read_text(encoding="utf-8", errors="replace"):
            if self._processes[name].poll() is not None or time.monotonic() > end:
                raise RunError(f"{name} did not say {word!r}\n{self.tails()}")
            time.sleep(0.05)

    def pid(self, name: str) -> int:
        """Returns the number of a process that was started, which is that of its session too."""
        return self._processes[name].pid

    def ended(self) -> dict[str, int]:
        """Returns the exit codes of the processes that have ended."""
        codes = {name: process.poll() for name, process in self._processes.items()}
        return {name: code for name, code in codes.items() if code is not None}

    def tails(self) -> str:
        """Returns the last lines of every log below the home folder, without colours."""
        logs = sorted(self.home.rglob("*.log"), key=lambda path: (len(path.parts), path))
        return "\n".join(f"--- {path.relative_to(self.home)}\n{tail(path)}" for path in logs)

    def stop(self) -> None:
        """Ends every process: SIGTERM, five seconds, SIGKILL."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            end = time.monotonic() + _PATIENCE
            self._send(number)
            while self._alive() and time.monotonic() < end:
                time.sleep(0.05)
                if number == signal.SIGKILL:  # what a dying process still started
                    self._send(number)
        left = self._alive()
        self._processes.clear()
        if left:
            raise RunError(f"processes {sorted(left)} of {self.home} could not be ended; end them by hand")

    def _alive(self) -> set[int]:
        own = {process.pid for process in self._processes.values() if process.poll() is None}
        return own | marked(self.home)

    def _send(self, number: signal.Signals) -> None:
        for process in self._processes.values():
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, number)
        for pid in marked(self.home):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)

    def __enter__(self) -> Self:
        self.home.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


def executables() -> Path:
    """Returns the folder of `flwr` and its fellows: beside the running interpreter, or the one that `PYTHON` names."""
    return Path(os.environ.get(PYTHON, sys.executable)).parent


def marked(home: Path) -> set[int]:
    """Returns the ids of live processes marked with a home folder; their environment is read from /proc."""
    wanted = f"{MARK}={home}".encode()
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # ended meanwhile, or not ours to read
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.add(int(entry.name))
    return found - {os.getpid()}


def free_ports(count: int) -> list[int]:
    """Returns different ports on which nothing listens."""
    found: list[int] = []
    for port in random.SystemRandom().sample(_PORTS, min(len(_PORTS), 500)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise RunError(f"no {count} free ports between {_PORTS.start} and {_PORTS.stop}; end what listens there")


def tail(path: Path, lines: int = _SHOWN) -> str:
    """Returns the last lines of a log, without colours; nothing where there is no log."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(_COLOUR.sub("", text).splitlines()[-lines:])


def words(values: Mapping[str, str | int | float | bool]) -> str:
    """Returns `key=value` words as Flower's options --run-config and --node-config take them; no quotes in values."""
    return " ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in values.items())
