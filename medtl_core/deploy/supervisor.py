"""The process that holds a coordinator's place, keeps its ports answered, and can be found to be ended."""

import fcntl
import json
import logging
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from medtl_core.deploy.coordinator import Coordinator
from medtl_core.deploy.overview import Overview, from_json, overview
from medtl_core.errors import ConfigError, RunError

#: File that is locked while a coordinator is up, with the id of its process.
LOCK = "coordinator.lock"
#: Seconds before what has died starts again: the first, and the most; and those after which it counts as well.
_FIRST_PAUSE, _LONGEST_PAUSE, _WELL = 0.5, 30.0, 60.0
#: Seconds that the ports have to be answered, and that processes have to end.
_START, _PATIENCE = 120.0, 15.0
_LOG = logging.getLogger("medtl")


def keep_up(coordinator: Coordinator, ready: Callable[[], None]) -> None:
    """Keeps the ports of a coordinator answered until this process is told to end; then ends what it has started.

    Raises:
        ConfigError: it is up already, a port is taken, or the certificates cannot be used.
        RunError: the ports were never answered.
    """
    coordinator.certified()
    with _place(coordinator.folder):
        for host, port in (coordinator.listen, ("127.0.0.1", coordinator.words.local)):
            _check_free(host, port)
        signal.signal(signal.SIGTERM, _end)
        child, started, pause, told = _start(coordinator), time.monotonic(), _FIRST_PAUSE, False
        try:
            while True:
                if not told and is_up(coordinator):
                    told = True
                    ready()
                if child.poll() is None:
                    time.sleep(0.1)
                    if not told and time.monotonic() - started > _START:
                        raise RunError(f"the ports were not answered within {_START:g} s; the log above says why")
                    continue
                if not told:
                    raise RunError("Flower's SuperLink did not start; the log above says why")
                pause = _FIRST_PAUSE if time.monotonic() - started > _WELL else min(2 * pause, _LONGEST_PAUSE)
                _LOG.warning("the SuperLink ended (%s); it starts again in %g s", child.returncode, pause)
                time.sleep(pause)
                child, started = _start(coordinator), time.monotonic()
        finally:
            _ended(child)


def holder(coordinator: Coordinator) -> int | None:
    """Returns the id of the process that keeps a coordinator up, None where it is down; a stale file counts none."""
    with suppress(FileNotFoundError), (coordinator.folder / LOCK).open("r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(lock.read() or 0)
    return None


def stop(coordinator: Coordinator) -> bool:
    """Ends a coordinator and returns whether it was up.

    Raises:
        RunError: it does not end.
    """
    pid = holder(coordinator)
    if not pid:
        return False
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + 2 * _PATIENCE
    while holder(coordinator) is not None:
        if time.monotonic() > end:
            raise RunError(f"process {pid} does not end; end it by hand: kill -9 {pid}")
        time.sleep(0.05)
    return True


def is_up(coordinator: Coordinator) -> bool:
    """Returns whether both ports are answered."""
    try:
        _get(coordinator, "/health")
        context = ssl.create_default_context(cadata=coordinator.ca)
        context.check_hostname = False  # that the port answers with this certificate is enough, wherever it is bound
        host, port = coordinator.listen
        with socket.create_connection(("127.0.0.1" if host == "0.0.0.0" else host, port), 2) as plain:
            context.wrap_socket(plain).close()
    except OSError:
        return False
    return True


def see(coordinator: Coordinator) -> Overview:
    """Returns how the federation stands, by the coordinator that is up, else by its folder."""
    try:
        return from_json(json.loads(_get(coordinator, "/status.json")))
    except (OSError, ValueError):
        return overview(coordinator, None)


def _get(coordinator: Coordinator, path: str) -> bytes:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback goes through no proxy
    with opener.open(f"http://{coordinator.local}{path}", timeout=5) as answer:
        return bytes(answer.read())


def _start(coordinator: Coordinator) -> "subprocess.Popen[bytes]":
    words = [sys.executable, "-P", "-m", "medtl_core.deploy.port", str(os.getpid()), str(coordinator.folder)]
    return subprocess.Popen(words, stdin=subprocess.DEVNULL)


def _ended(child: "subprocess.Popen[bytes]") -> None:
    child.terminate()
    try:
        child.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


@contextmanager
def _place(folder: Path) -> Iterator[None]:
    with (folder / LOCK).open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise ConfigError(f"the coordinator in {folder} is up already, as process {lock.read()}") from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
        lock.truncate(0)


def _check_free(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"port {port} of {host} cannot be opened ({error.strerror}); end what listens there, or choose another "
                "in coordinator.toml"
            ) from error


def _end(*_: object) -> None:
    raise SystemExit(0)
