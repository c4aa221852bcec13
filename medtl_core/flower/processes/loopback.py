"""A deployment rehearsed on this machine: one SuperLink and its hospitals, each a real process."""

import json
import re
import subprocess
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from medtl_core.errors import RunError
from medtl_core.flower.processes.children import Children, executables, free_ports, words
from medtl_core.privacy.hospital import Hospital, initialise
from medtl_core.privacy.hospital_file import HOSPITAL

Values = Mapping[str, str | int | float | bool]

#: Environment variable that names the hospital of a process.
SITE = "MEDTL_SITE_FOLDER"
#: The name of the connection in Flower's own configuration file.
CONNECTION = "medtl"
STARTED = re.compile(r"Successfully started run (\d+)")
_COMPLETED = "finished:completed"
#: Seconds between two looks at a run's status, once its log has ended.
_PAUSE = 0.2
#: Seconds for a SuperLink to listen, and for a question to it.
START = 90.0


class Deployment:
    """One SuperLink and hospitals (`medtl site run`) as real processes on this machine, without TLS, as a context.

    It rehearses a deployment from a script: nothing is shared between the processes but loopback, and no proxy of the
    house comes between them.

    Attributes:
        address: The SuperLink's, once it has started.
    """

    def __init__(self, nodes: Sequence[Values], *, home: Path) -> None:
        """Names the hospitals and a folder for the processes' files.

        Args:
            nodes: one for each hospital: `hospital`, the folder that `medtl site init` made; or `site-name` and
                `data-path`, of which a hospital is made in `home`, which obeys the rules of a new one.
            home: holds every log; made where it is not there.

        Raises:
            ConfigError: a hospital cannot be made, as `initialise`.
        """
        self._folders = [_hospital(node, home) for node in nodes]
        self._children = Children(home)
        self._runs = 0
        self.address = ""

    def __enter__(self) -> Self:
        self._children.__enter__()
        try:
            self._start()
        except BaseException:
            self._children.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._children.stop()

    def run(self, app: Path, run_config: Values, *, timeout: float) -> str:
        """Runs an app to its end and returns its status, which is good: Flower's command exits with 0 after a failure.

        Args:
            app: its folder, as `medtl app` writes it, or a checkout.
            run_config: settings of the run.
            timeout: seconds.

        Raises:
            RunError: the run failed or did not end in time; the last lines of every log are its end.
        """
        self._runs += 1
        env = self._children.environment("flwr")
        name_link(Path(env["FLWR_HOME"]), f'address = "{self.address}"\ninsecure = true')
        job = Submission(self._children, env, f"run-{self._runs}", time.monotonic() + timeout)
        return job.run(app, run_config, [])

    def _start(self) -> None:
        children = self._children
        (link,) = free_ports(1)
        self.address = f"127.0.0.1:{link}"
        start_link(children, link, children.environment("superlink"))
        for folder in self._folders:
            connect(folder, self.address)
            env = children.environment(f"site-{folder.name}", **{SITE: str(folder)})
            children.start(f"site-{folder.name}", ["medtl", "site", "run", str(folder)], env)


@dataclass(frozen=True)
class Submission:
    """One run of an app, from its submission to its true end.

    Attributes:
        children: among which Flower's command is started.
        env: its variables.
        name: of its process and its log.
        end: when patience ends, by `time.monotonic`.
    """

    children: Children
    env: Mapping[str, str]
    name: str
    end: float

    def run(self, app: Path, run_config: Values, more: Sequence[str]) -> str:
        """Submits the app with further words of Flower's command, and returns its good status.

        Raises:
            RunError: as `Deployment.run`.
        """
        command = ["flwr", "run", ".", CONNECTION, "--stream", *more]
        if run_config:
            command += ["--run-config", words(run_config)]
        process = self.children.start(self.name, command, self.env, app.absolute())
        try:
            # The stream ends with the run, or when its connection is lost: the status alone is trusted.
            process.wait(timeout=max(self.end - time.monotonic(), 0))
        except subprocess.TimeoutExpired as error:
            raise self._error(f"{app}: the run did not end in time") from error
        log = self.children.log(self.name).read_text(encoding="utf-8", errors="replace")
        started = STARTED.search(log)
        if started is None:
            raise self._error(f"{app}: Flower did not start the run (exit code {process.returncode})")
        status, details = self._final(started[1])
        if status != _COMPLETED:
            raise self._error(f"{app}: run {started[1]} is {status}{': ' if details else ''}{details}")
        return status

    def _final(self, run_id: str) -> tuple[str, str]:
        while True:
            status, details = self._status(run_id)
            if status.startswith("finished") or time.monotonic() > self.end:
                return status, details
            time.sleep(_PAUSE)

    def _status(self, run_id: str) -> tuple[str, str]:
        command = [str(executables() / "flwr"), "list", CONNECTION, "--run-id", run_id, "--format", "json"]
        try:
            asked = subprocess.run(
                command, env=self.env, cwd=self.children.home, stdin=subprocess.DEVNULL, capture_output=True,
                timeout=START, check=False,
            )  # fmt: skip
            row: dict[str, Any] = json.loads(asked.stdout)["runs"][0]
            return str(row["status"]), str(row.get("status-details") or "")
        except (subprocess.TimeoutExpired, ValueError, LookupError, TypeError) as error:
            raise self._error(f"the SuperLink does not tell the status of run {run_id}") from error

    def _error(self, text: str) -> RunError:
        ended = {name: code for name, code in self.children.ended().items() if name != self.name}
        gone = f"; processes that ended early: {ended}" if ended else ""
        return RunError(f"{text}{gone}\n{self.children.tails()}")


def start_link(children: Children, port: int, env: Mapping[str, str], *more: str) -> None:
    """Starts a SuperLink with further words of its command, and returns once it answers.

    Raises:
        RunError: it ends, or does not answer in time.
    """
    address = f"127.0.0.1:{port}"
    command = ["flower-superlink", "--insecure", "--host", "127.0.0.1", "--port", str(port), *more]
    process = children.start("superlink", command, env)
    end = time.monotonic() + START
    while not _healthy(address):
        if process.poll() is not None or time.monotonic() > end:
            raise RunError(f"the SuperLink did not start at {address}\n{children.tails()}")
        time.sleep(0.1)


def name_link(flower_home: Path, connection: str) -> None:
    """Writes the lines of a connection, `CONNECTION`, into Flower's own configuration file."""
    text = f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\n{connection}\n'
    (flower_home / "config.toml").write_text(text, encoding="utf-8")


def _hospital(node: Values, home: Path) -> Path:
    if "hospital" in node:
        return Path(str(node["hospital"]))
    name = str(node["site-name"])
    folder = home / "hospitals" / name
    initialise(Hospital(folder, name, str(Path(str(node["data-path"])).absolute())))
    return folder


def connect(folder: Path, address: str) -> None:
    """Names a server on this machine in a hospital's file."""
    path = folder / HOSPITAL
    text = re.sub(r'(?m)^address = ".*"$', f'address = "{address}"', path.read_text(encoding="utf-8"))
    path.write_text(text.replace("insecure = false", "insecure = true"), encoding="utf-8")


def _healthy(address: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback goes through no proxy
    try:
        with opener.open(f"http://{address}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
