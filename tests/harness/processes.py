"""Runs with real Flower processes on this machine: `flwr run .` with Ray, and SuperLink with SuperNodes."""

import json
import re
import subprocess
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

from medtl_core.errors import RunError
from medtl_core.privacy.hospital_file import HOSPITAL
from tests.harness.children import Children, executables, free_ports, words

Values = Mapping[str, str | int | float | bool]

#: Environment variable that names the hospital of a process.
SITE = "MEDTL_TEST_SITE"
#: The name of the connection in Flower's own configuration file.
_CONNECTION = "medtl"
_STARTED = re.compile(r"Successfully started run (\d+)")
_COMPLETED = "finished:completed"
#: Seconds between two looks at a run's status, once its log has ended.
_PAUSE = 0.2
#: Seconds for a SuperLink to listen, and for a question to it.
_START = 90.0


def flwr_run(
    app: Path, run_config: Values, *, nodes: int, home: Path, timeout: float, cluster: Sequence[int] = ()
) -> str:
    """Runs `flwr run .` with a local SuperLink and Ray of its own; both are ended with it.

    `cluster` are the CPUs of each node of a Ray cluster to start before, its head first; none = Flower's own Ray.

    Flower's command exits with 0 also when the run failed; here the true status decides. It is "finished:completed", or
    the RunError ends with the last lines of the logs. Flower wants the app's folder named by letters, digits, hyphens.
    """
    # Ray's sockets need a short path, and others on this machine must not find the cluster in Ray's usual folder
    with TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as short, Children(home) as children:
        (port,) = free_ports(1)
        env = children.environment("flwr", FLWR_LOCAL_SUPERLINK_HTTP_API_PORT=str(port))
        _connect(Path(env["FLWR_HOME"]), 'address = ":local:"')
        if cluster:
            env["RAY_ADDRESS"] = _start_ray(children, cluster, short)
        # `flwr run` would start the same SuperLink, but waits only 15 s for it; it takes one that is there already
        _start_link(children, port, env, "--simulation")
        simulation = {"num-supernodes": nodes, "client-resources-num-cpus": 1}
        if not cluster:
            simulation["init-args-num-cpus"] = 2
        job = _Job(children, env, "run", time.monotonic() + timeout)
        return job.run(app, run_config, ["--federation-config", words(simulation)])


class Deployment:
    """One SuperLink and hospitals (`medtl site run`) as real processes on loopback, without TLS, as a context."""

    def __init__(self, hospitals: Sequence[Values], *, home: Path) -> None:
        self._folders = [Path(str(hospital["hospital"])) for hospital in hospitals]
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
        self._runs += 1
        env = self._children.environment("flwr")
        _connect(Path(env["FLWR_HOME"]), f'address = "{self.address}"\ninsecure = true')
        job = _Job(self._children, env, f"run-{self._runs}", time.monotonic() + timeout)
        return job.run(app, run_config, [])

    def _start(self) -> None:
        children = self._children
        (link,) = free_ports(1)
        self.address = f"127.0.0.1:{link}"
        _start_link(children, link, children.environment("superlink"))
        for folder in self._folders:
            connect(folder, self.address)
            env = children.environment(f"site-{folder.name}", **{SITE: str(folder)})
            children.start(f"site-{folder.name}", ["medtl", "site", "run", str(folder)], env)


@dataclass(frozen=True)
class _Job:
    """One run of an app, from its submission to its true end."""

    children: Children
    env: Mapping[str, str]
    name: str
    end: float

    def run(self, app: Path, run_config: Values, more: Sequence[str]) -> str:
        command = ["flwr", "run", ".", _CONNECTION, "--stream", *more]
        if run_config:
            command += ["--run-config", words(run_config)]
        process = self.children.start(self.name, command, self.env, app.absolute())
        try:
            # The stream ends with the run, or when its connection is lost: the status alone is trusted.
            process.wait(timeout=max(self.end - time.monotonic(), 0))
        except subprocess.TimeoutExpired as error:
            raise self._error(f"{app}: the run did not end in time") from error
        log = self.children.log(self.name).read_text(encoding="utf-8", errors="replace")
        started = _STARTED.search(log)
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
        command = [str(executables() / "flwr"), "list", _CONNECTION, "--run-id", run_id, "--format", "json"]
        try:
            asked = subprocess.run(
                command, env=self.env, cwd=self.children.home, stdin=subprocess.DEVNULL, capture_output=True,
                timeout=_START, check=False,
            )  # fmt: skip
            row: dict[str, Any] = json.loads(asked.stdout)["runs"][0]
            return str(row["status"]), str(row.get("status-details") or "")
        except (subprocess.TimeoutExpired, ValueError, LookupError, TypeError) as error:
            raise self._error(f"the SuperLink does not tell the status of run {run_id}") from error

    def _error(self, text: str) -> RunError:
        ended = {name: code for name, code in self.children.ended().items() if name != self.name}
        gone = f"; processes that ended early: {ended}" if ended else ""
        return RunError(f"{text}{gone}\n{self.children.tails()}")


def _start_ray(children: Children, cluster: Sequence[int], folder: str) -> str:
    """Starts the nodes of a Ray cluster, one after the other, and returns its address."""
    ports = free_ports(1 + 2 * len(cluster))
    address = f"127.0.0.1:{ports[0]}"
    for number, cpus in enumerate(cluster):
        head = ["--head", f"--port={ports[0]}", "--include-dashboard=false", f"--temp-dir={folder}"]
        place = [f"--address={address}"] if number else head
        more = [f"--num-cpus={cpus}", "--block", "--node-ip-address=127.0.0.1", "--disable-usage-stats"]
        more += [
            f"--dashboard-agent-listen-port={ports[1 + 2 * number]}",
            f"--metrics-export-port={ports[2 + 2 * number]}",
        ]
        first = 33000 + 1000 * number
        more += [f"--min-worker-port={first}", f"--max-worker-port={first + 999}"]
        process = children.start(f"ray-{number}", ["ray", "start", *place, *more], children.environment("ray"))
        end = time.monotonic() + _START
        while "Ray runtime started" not in children.log(f"ray-{number}").read_text(encoding="utf-8", errors="replace"):
            if process.poll() is not None or time.monotonic() > end:
                raise RunError(f"node {number} of the Ray cluster did not start\n{children.tails()}")
            time.sleep(0.1)
    return address


def _start_link(children: Children, port: int, env: Mapping[str, str], *more: str) -> None:
    address = f"127.0.0.1:{port}"
    command = ["flower-superlink", "--insecure", "--host", "127.0.0.1", "--port", str(port), *more]
    process = children.start("superlink", command, env)
    end = time.monotonic() + _START
    while not _healthy(address):
        if process.poll() is not None or time.monotonic() > end:
            raise RunError(f"the SuperLink did not start at {address}\n{children.tails()}")
        time.sleep(0.1)


def _connect(flower_home: Path, connection: str) -> None:
    text = f'[superlink]\ndefault = "{_CONNECTION}"\n\n[superlink.{_CONNECTION}]\n{connection}\n'
    (flower_home / "config.toml").write_text(text, encoding="utf-8")


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
