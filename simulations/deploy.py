"""What an exchange costs between real processes: a federation as medtl deploys it, and Flower's own processes.

    python -m simulations.deploy

Three hospitals with a small table each, on loopback. Through medtl: `medtl coordinator up` with TLS and registered
keys, three `medtl site run`. Through Flower: `flower-superlink` and three `flower-supernode` as they are, without TLS,
which run the same two apps from the run's bundle. Both ask for the same rounds, one after the other, in one call:
ratios can be compared between machines, seconds cannot. On both roads medtl's server looks for answers, not Flower's
own grid, which looks every three seconds.
"""

import argparse
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from medtl_core.cli.app_folder import installed_app, write_app
from medtl_core.privacy.hospital import Hospital, initialise
from medtl_core.privacy.identity import public_identity
from medtl_core.privacy.policy import Policy

NAMES = ("east", "north", "south")
_BIN = Path(sys.executable).parent
_ON = ("DISABLE_UPDATE_CHECK", "DISABLE_RUNTIME_DEPENDENCY_INSTALLATION")
_ENVIRONMENT = {
    **{f"FLWR_{word}": "1" for word in _ON}, "FLWR_TELEMETRY_ENABLED": "0",
    "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
    **dict.fromkeys(("no_proxy", "NO_PROXY"), "127.0.0.1,localhost"),
}  # fmt: skip
_PATIENCE = 900.0


class Processes:
    """Children that end with the context, each with a log."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.children: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str], place: Path | None = None) -> "subprocess.Popen[bytes]":
        """Starts one in a session of its own."""
        home = self.folder / f"flwr-{name}"
        home.mkdir(exist_ok=True)
        env = {**os.environ, **_ENVIRONMENT, "FLWR_HOME": str(home), "PATH": f"{_BIN}{os.pathsep}{os.environ['PATH']}"}
        with (self.folder / f"{name}.log").open("ab") as log:
            self.children[name] = subprocess.Popen(
                [str(_BIN / command[0]), *command[1:]], cwd=place or self.folder, env=env, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        return self.children[name]

    def done(self, name: str, command: Sequence[str], place: Path | None = None) -> float:
        """Runs one to its good end and returns how many seconds it took."""
        began = time.monotonic()
        code = self.start(name, command, place).wait(_PATIENCE)
        if code:
            raise SystemExit(
                f"{' '.join(command)} ended with {code}:\n{(self.folder / f'{name}.log').read_text()[-3000:]}"
            )
        return time.monotonic() - began

    def memory(self, name: str) -> float:
        """Returns the memory, in MB, that the processes of one child take, each shared page counted in part (PSS)."""
        session, total = self.children[name].pid, 0
        for entry in Path("/proc").iterdir():
            with suppress(OSError, ValueError):
                if entry.name.isdigit() and os.getsid(int(entry.name)) == session:
                    total += int(re.findall(r"^Pss:\s+(\d+)", (entry / "smaps_rollup").read_text(), re.M)[0])
        return total / 1024

    def end(self) -> None:
        """Ends all of them."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for child in self.children.values():
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, number)
            time.sleep(3.0 if number == signal.SIGTERM else 0.2)


@contextmanager
def processes(folder: Path) -> Iterator[Processes]:
    """Ends what it has started, whatever happens."""
    folder.mkdir()
    group = Processes(folder)
    try:
        yield group
    finally:
        group.end()


def main(rounds: int) -> None:
    """Prints the medians, their ratio, a private run's seconds and a hospital's memory."""
    settings = {"backbone": "table", "shots": "40", "bootstrap": "20", "methods": f"fedavg-{rounds}"}
    with TemporaryDirectory(prefix="medtl-deploy-") as base:
        folder = Path(base)
        write_cases(folder)
        quick, private, exchanges, rest = medtl(folder, settings)
        slow = flower(folder, settings)
    ours, theirs = statistics.median(quick), statistics.median(slow)
    print(
        f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; {len(quick)} and {len(slow)} exchanges, 3 hospitals"
    )
    print(f"an exchange, median: medtl {ours:.2f} s, Flower {theirs:.2f} s, {ours / theirs:.2f} of it")
    print(f"a private run with a secure sum, {exchanges} exchanges: {private:.1f} s, {private / exchanges:.2f} s each")
    print(f"a hospital at rest: {rest:.0f} MB (PSS of the node's two processes)")


def medtl(folder: Path, settings: Mapping[str, str]) -> tuple[list[float], float, int, float]:
    """Returns seconds of each exchange, those of a private run and its exchanges, and a hospital's memory at rest."""
    home, port = folder / "coordinator", free_port()
    test = f"test-path={folder / 'test.csv'}"
    with processes(folder / "medtl") as group:
        group.done(
            "init", ["medtl", "coordinator", "init", str(home), "--name", "bench", "--address", f"127.0.0.1:{port}"]
        )
        group.done("up", ["medtl", "coordinator", "up", str(home), "--detach"])
        try:
            sites = join(group, home, folder)
            words = [f"{key}={value}" for key, value in settings.items()]
            group.done(
                "run", ["medtl", "coordinator", "run", str(home), *words, test, "--name", "plain", "--wait", "300"]
            )
            time.sleep(2.0)
            rest = statistics.mean(group.memory(f"site-{site.name}") for site in sites)
            words = [
                "backbone=table",
                "bootstrap=20",
                "privacy=auto",
                "epsilon=2",
                "public-cases=40",
                "secure-sum=true",
            ]
            group.done("private", ["medtl", "coordinator", "run", str(home), *words, test, "--name", "private"])
        finally:
            group.done("stop", ["medtl", "coordinator", "stop", str(home)])
        took = seconds(home / "runs" / "private" / "events.jsonl")
        return seconds(home / "runs" / "plain" / "events.jsonl"), sum(took), len(took), rest


def join(group: Processes, home: Path, folder: Path) -> list[Path]:
    """Invites three hospitals, lets them enrol, know each other's keys, and start."""
    sites = [folder / "sites" / name for name in NAMES]
    (folder / "sites").mkdir()
    for site in sites:
        letter = str(folder / f"{site.name}.toml")
        group.done("invite", ["medtl", "coordinator", "invite", str(home), site.name, "--out", letter])
        own = ["--invitation", letter, "--data", str(folder / f"{site.name}.csv"), "--public-patients", "40"]
        group.done("join", ["medtl", "site", "init", str(site), *own])
    peers = "".join(f'{site.name} = "{public_identity(site)}"\n' for site in sites)
    for site in sites:
        path = site / "hospital.toml"
        text = path.read_text(encoding="utf-8").replace("secure_sum = false", "secure_sum = true")
        path.write_text(text + peers, encoding="utf-8")
        group.start(f"site-{site.name}", ["medtl", "site", "run", str(site)])
    return sites


def flower(folder: Path, settings: Mapping[str, str]) -> list[float]:
    """Returns seconds of each exchange through Flower's own processes."""
    app, out, link = folder / "medtl-app", folder / "out", free_port()
    write_app(installed_app(), app)
    with processes(folder / "flower") as group:
        group.start("superlink", ["flower-superlink", "--insecure", "--host", "127.0.0.1", "--port", str(link)])
        wait_for_health(link)
        for name in NAMES:
            own = folder / "plain" / name
            initialise(Hospital(own, name, str(folder / f"{name}.csv"), policy=Policy(require_private=False)))
            node = ["flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{link}", "--port", str(free_port())]
            group.start(f"node-{name}", [*node, "--node-config", f'hospital="{own}"'])
        home = group.folder / "flwr-run"
        home.mkdir()
        (home / "config.toml").write_text(
            f'[superlink]\ndefault = "b"\n[superlink.b]\naddress = "127.0.0.1:{link}"\ninsecure = true\n',
            encoding="utf-8",
        )
        own_words = {**settings, "data": "", "test-path": str(folder / "test.csv"), "out": str(out), "sites": "3"}
        words = " ".join(f"{key}={value if value.isdigit() else json.dumps(value)}" for key, value in own_words.items())
        group.done("run", ["flwr", "run", ".", "b", "--stream", "--run-config", words], app)
        return seconds(out / "events.jsonl")


def seconds(events: Path) -> list[float]:
    """Returns how long each exchange of a run took."""
    rows = map(json.loads, events.read_text(encoding="utf-8").splitlines())
    return [row["seconds"] for row in rows if row["kind"] == "exchange"]


def write_cases(folder: Path) -> None:
    """Two numbers that tell two classes apart: 40 patients a hospital, and the server's own."""
    rng = np.random.default_rng(4)
    (folder / "task.json").write_text('{"name": "label", "classes": ["0", "1"]}', encoding="utf-8")
    for first, name in enumerate((*NAMES, "test"), start=1):
        rows = ["label,patient_id,site,split,a,b"]
        for number in range(40):
            a, b = rng.normal(2.0 * (number % 2) - 1.0, 1.0, 2)
            rows.append(
                f"{number % 2},p{first}{number:03d},{name},{'test' if name == 'test' else 'train'},{a:.6f},{b:.6f}"
            )
        (folder / f"{name}.csv").write_text("\n".join(rows), encoding="utf-8")


def free_port() -> int:
    """Returns a port at which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_health(port: int) -> None:
    """Returns once a SuperLink answers."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + 120
    while time.monotonic() < end:
        with suppress(OSError):
            opener.open(f"http://127.0.0.1:{port}/health", timeout=2).close()
            return
        time.sleep(0.1)
    raise SystemExit("Flower's SuperLink did not start")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=8)
    main(parser.parse_args().rounds)
