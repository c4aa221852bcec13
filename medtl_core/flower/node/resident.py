"""A deployed hospital's node: Flower's SuperNode, which talks to the server, and this process, which answers.

Flower would unpack and run the code that comes with a run. Here nothing of it is unpacked, imported or installed: the
SuperNode only carries messages, and each is answered by the app of the installed medtl in a process of its own, forked
from this one, which has read its libraries and nothing else. So no message finds anything of an earlier one but what
the hospital's folder holds, and no message waits for Python to start.

Guarantee:
    Whoever may submit a run decides which messages reach the hospital and with which settings, never which code reads
    its data. The SHA-256 of the bundle that a run brought goes into the hospital's log, and no further.
"""

import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from flwr.app import Error, Message

from medtl_core.flower import compat
from medtl_core.flower.node.presence import CONTACT, FLOWER, MESSAGE, NODE, LeftOut, alone, note, noted
from medtl_core.flower.node.single_record import is_joined, joined, parted
from medtl_core.flower.node.supernode import BELL, end_with
from medtl_core.privacy.hospital import Hospital
from medtl_core.store import to_json, write_bytes

App = Callable[..., Any]

#: Seconds between two looks for a task for which nobody has rung.
_PAUSE = 1.0
#: Seconds before a SuperNode that has ended starts again: the first, and the most. Flower lets a known node rejoin only
#: half a minute after it went away (its exit 305); so long it is tried again and again.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 15.0
#: Seconds after which a SuperNode counts as well.
_WELL = 120.0
#: Seconds the SuperNode has to end by itself.
_PATIENCE = 8.0
_DIED = "the process that answered died"
_LOG = logging.getLogger("medtl")


def serve(
    hospital: Hospital,
    app_folder: Path,
    *,
    first: Callable[[], None] = lambda: None,
    beside: Sequence[Callable[[], int]] = (),
    after: Callable[[], None] = lambda: None,
) -> None:
    """Lets a hospital take part in runs until the process is told to end.

    Args:
        hospital: read from its folder.
        app_folder: of the installed Flower app.
        first: what is done before the node starts, and may wait.
        beside: what else runs meanwhile, each in a fork of its own; the fork ends with this process.
        after: what is done when a message was answered, in a fork of its own.

    Raises:
        ConfigError: a node of this hospital is running already.
    """
    app = compat.load_app("client.app:app", app_folder)
    home = hospital.folder / FLOWER
    home.mkdir(mode=0o700, exist_ok=True)
    signal.signal(signal.SIGTERM, _end)
    tasks: set[int] = set()
    with alone(home):
        tasks |= {_forked(work) for work in beside}
        try:
            first()
            with _Node(hospital, home) as node:
                while True:
                    if token := node.next_task():
                        tasks.add(_forked(partial(_keep, app, node.address, token, home, after)))
                    tasks -= _ended(tasks)
                    node.rest()
        finally:
            for task in tasks:
                with suppress(ProcessLookupError):
                    os.kill(task, signal.SIGTERM)


class _Node:
    """The SuperNode of a hospital as a child process that starts again when it ends."""

    def __init__(self, hospital: Hospital, home: Path) -> None:
        self._server, self._home, self._secret = hospital.server, home, os.urandom(32).hex().encode()
        self._process: subprocess.Popen[bytes] | None = None
        self._bell, self._rope = os.pipe()
        self._started = self._due = 0.0
        self._pause = _FIRST_PAUSE
        self._ask: Callable[[], str] = str
        self.address = ""
        write_bytes(home / "secret", self._secret, mode=0o600)
        node_config = f"hospital = {to_json(str(hospital.folder))}"
        write_bytes(home / "node.toml", node_config.encode(), mode=0o600)

    def next_task(self) -> str:
        """Returns the token of a task, "" where there is none; starts the SuperNode if it does not run."""
        if self._process is None or self._process.poll() is not None:
            self._restart()
        return self._ask()

    def rest(self) -> None:
        """Returns when the SuperNode has rung for something to answer, or after a while."""
        if select.select([self._bell], [], [], _PAUSE)[0]:
            os.read(self._bell, 4096)

    def _restart(self) -> None:
        now = time.monotonic()
        if self._process is not None:
            self._pause = _FIRST_PAUSE if now - self._started > _WELL else min(2 * self._pause, _LONGEST_PAUSE)
            why = noted(self._home, CONTACT).get("fault") or f"exit code {self._process.returncode}"
            _LOG.warning("the SuperNode ended (%s); it starts again in %g s", why, self._pause)
            note(self._home, NODE, up=False)
            self._process, self._due, self._ask = None, now + self._pause, str
        if now < self._due:
            return
        port, self._started = _free_port(), now
        self.address = f"127.0.0.1:{port}"
        command = [
            sys.executable,
            "-P",
            "-m",
            "medtl_core.flower.node.supernode",
            str(os.getpid()),
            *self._options(port),
        ]
        env, rope = {**os.environ, BELL: str(self._rope)}, (self._rope,)
        self._process = subprocess.Popen(command, cwd=self._home, env=env, stdin=subprocess.DEVNULL, pass_fds=rope)
        note(self._home, NODE, up=True)
        self._ask = compat.task_source(self.address, self._secret)

    def _options(self, port: int) -> list[str]:
        server = self._server
        trust = ["--insecure"] if server.insecure else ["--root-certificates", server.certificate]
        key = ["--auth-supernode-private-key", server.key] if server.key else []
        return [
            *trust, *key, "--superlink", server.address, "--host", "127.0.0.1", "--port", str(port),
            "--isolation", "process", "--superexec-auth-secret-file", str(self._home / "secret"),
            "--node-config", str(self._home / "node.toml"),
        ]  # fmt: skip

    def __enter__(self) -> "_Node":
        return self

    def __exit__(self, *raised: object) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def _keep(app: App, address: str, token: str, home: Path, after: Callable[[], None]) -> int:
    """Fetches one message and sends the one answer to it: that of a process of its own, or word that it has died.

    Only this process sends, since Flower's server takes two answers to a message, or half of one, for none.
    """
    task = compat.ClientTask(address, token)
    about = {
        "run": str(task.message.metadata.run_id),
        "stage": task.message.metadata.message_type.partition(".")[2],
        "privacy": str(task.context.run_config.get("privacy", "none")),
    }
    note(home, MESSAGE, **about, ended=False, left_out=noted(home, MESSAGE).get("left_out", []))
    _LOG.info(
        "run %d, %r: answered by the installed medtl; the run's bundle, SHA-256 %s, is not unpacked",
        task.message.metadata.run_id, task.message.metadata.message_type, task.bundle,
    )  # fmt: skip
    with task.alive(), TemporaryFile(dir=home) as written:
        _, status = os.waitpid(_forked(partial(_work, app, task, written, home, about)), 0)
        written.seek(0)
        answer = _error(task, compat.CLIENT_CRASHED, _DIED) if status else compat.from_bytes(written.read())
    if status:
        note(home, MESSAGE, **about, ended=True, fault=_DIED)
    task.answer(answer)
    after()
    return status


def _work(app: App, task: compat.ClientTask, answer: IO[bytes], home: Path, about: Mapping[str, str]) -> int:
    """Answers with the app; what it raises is an error as Flower words it."""
    left_out, fault = LeftOut(), ""
    _LOG.addHandler(left_out)
    try:
        reply = app(message=parted(task.message), context=task.context)
        content = compat.to_bytes(joined(reply) if is_joined(task.message) else reply)
    except Exception as error:
        content = compat.to_bytes(_error(task, compat.CLIENT_RAISED, f"{type(error)}:<'{error}'>"))
        fault = str(error)[:300]
    answer.write(content)
    answer.flush()
    note(home, MESSAGE, **about, ended=True, fault=fault, left_out=[*left_out.causes])
    return 0


def _error(task: compat.ClientTask, code: int, reason: str) -> Message:
    return Message(Error(code=code, reason=reason), reply_to=task.message)


def _forked(work: Callable[[], int]) -> int:
    """Does some work in a fork of this process, which ends with this one; returns the fork's id."""
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        end_with(parent)
        status = work()
    except Exception:
        _LOG.exception("a message could not be answered")
    finally:
        os._exit(min(status, 1))


def _ended(children: set[int]) -> set[int]:
    return {child for child in children if os.waitpid(child, os.WNOHANG)[0]}


def _end(*_: object) -> None:
    raise SystemExit(0)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
