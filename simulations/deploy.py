"""What an exchange costs between real processes: a federation as medtl deploys it, and Flower's own processes.

    python -m simulations.deploy
    python -m simulations.deploy --images FOLDER --sites 10

Three hospitals with a small table each, on loopback. Through medtl: `medtl coordinator up` with TLS and registered
keys, three `medtl site run`. Through Flower: `flower-superlink` and three `flower-supernode` as they are, without TLS,
which run the same two apps from the run's bundle. Both ask for the same rounds, one after the other, in one call:
ratios can be compared between machines, seconds cannot. On both roads medtl's server looks for answers, not Flower's
own grid, which looks every three seconds. Flower's half is given fewer rounds and a limit of time: its median is of the
exchanges that it came to, and how many is printed. The join, in which hospitals read their cases, is in neither median.

With `--images` hospitals hold radiographs in place of numbers, and only medtl's half is run: how long a head with its
judgement and report takes, from the command to its end.
"""

import argparse
import csv
import json
import os
import re
import shutil
import statistics
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from medtl_core.cli.app_folder import installed_app, write_app
from medtl_core.deploy.coordinator import read_coordinator
from medtl_core.deploy.supervisor import see
from medtl_core.flower.processes.children import Children, free_ports, tail, words
from medtl_core.flower.processes.loopback import CONNECTION, name_link, start_link
from medtl_core.privacy.hospital import Hospital, initialise
from medtl_core.privacy.identity import public_identity
from medtl_core.privacy.policy import Policy

#: Seconds that one command may take, and that Flower's half may.
_PATIENCE, _THEIRS = 900.0, 240.0
#: Fewest exchanges of which a median is told.
_LEAST = 2


class Processes(Children):
    """Children, each with a FLWR_HOME of its own, that can be waited for and weighed."""

    def begin(self, name: str, command: Sequence[str], place: Path | None = None) -> "subprocess.Popen[bytes]":
        """Starts one."""
        return self.start(name, command, self.environment(f"flwr-{name}"), place)

    def done(self, name: str, command: Sequence[str]) -> float:
        """Runs one to its good end and returns how many seconds it took."""
        began = time.monotonic()
        code = self.begin(name, command).wait(_PATIENCE)
        if code:
            raise SystemExit(f"{' '.join(command)} ended with {code}:\n{tail(self.log(name))}")
        return time.monotonic() - began

    def memory(self, name: str) -> float:
        """Returns the memory, in MB, that the processes of one child take, each shared page counted in part (PSS)."""
        session, total = self.pid(name), 0
        for entry in Path("/proc").iterdir():
            with suppress(OSError, ValueError):
                if entry.name.isdigit() and os.getsid(int(entry.name)) == session:
                    total += int(re.findall(r"^Pss:\s+(\d+)", (entry / "smaps_rollup").read_text(), re.M)[0])
        return total / 1024


@dataclass(frozen=True)
class Bench:
    """What is measured: where, with which hospitals and settings of the plain run."""

    folder: Path
    names: tuple[str, ...]
    settings: Mapping[str, str]

    @property
    def words(self) -> list[str]:
        """Settings as a person types them."""
        own = {**self.settings, "test-path": str(self.folder / "test" if self.images else self.folder / "test.csv")}
        return [f"{key}={value}" for key, value in own.items()]

    @property
    def images(self) -> bool:
        """Whether hospitals hold images."""
        return self.settings["backbone"] != "table"

    def data(self, name: str) -> Path:
        """Returns a hospital's cases."""
        return self.folder / (name if self.images else f"{name}.csv")


def main(rounds: int, theirs: int) -> None:
    """Prints the medians, their ratio, a private run's seconds and a hospital's memory."""
    names = ("east", "north", "south")
    settings = {"backbone": "table", "shots": "40", "bootstrap": "20", "methods": f"fedavg-{rounds}"}
    with TemporaryDirectory(prefix="medtl-deploy-") as base:
        bench = Bench(Path(base), names, settings)
        write_cases(bench.folder, names)
        with federation(bench) as (group, home):
            run(group, home, bench.words, "plain")
            time.sleep(2.0)
            rest = statistics.mean(group.memory(f"site-{name}") for name in names)
            words = ["backbone=table", "bootstrap=20", "privacy=auto", "epsilon=2", "public-cases=40"]
            whole = run(group, home, [*words, "secure-sum=true", bench.words[-1]], "private")
            private = [took for _, took in seconds(home / "runs" / "private" / "events.jsonl")]
            quick = rounds_of(home / "runs" / "plain" / "events.jsonl")
        print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; 3 hospitals", flush=True)
        print(f"an exchange of medtl, median of {len(quick)}: {statistics.median(quick):.2f} s")
        print(f"a private run with a secure sum, {len(private)} exchanges: {sum(private):.1f} s")
        print(f"from that command to its end: {whole:.1f} s")
        print(f"a hospital at rest: {rest:.0f} MB (PSS of the node's two processes)", flush=True)
        slow = flower(replace(bench, settings={**settings, "methods": f"fedavg-{theirs}"}))
        print(f"an exchange of Flower, median of {len(slow)}: {statistics.median(slow):.2f} s")
        print(f"medtl / Flower: {statistics.median(quick) / statistics.median(slow):.2f}")


def many(images: Path, sites: int) -> None:
    """Prints how long hospitals with images take for a head, its judgement and the report, each of them a machine."""
    names = tuple(f"h{number:02d}" for number in range(sites))
    with TemporaryDirectory(prefix="medtl-deploy-") as base:
        bench = Bench(Path(base), names, {"backbone": "lite0", "methods": "auto"})
        cases = share_out(images, bench.folder, names)
        with federation(bench) as (group, home):
            whole = run(group, home, bench.words, "head")
            took = seconds(home / "runs" / "head" / "events.jsonl")
            rest = statistics.mean(group.memory(f"site-{name}") for name in names)
        print(f"{sites} hospitals, {cases} images each, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        print(f"head, judgement and report, from the command to its end: {whole:.0f} s")
        print(", ".join(f"{phase} {one:.1f} s" for phase, one in took))
        print(f"a hospital at rest: {rest:.0f} MB")


@contextmanager
def federation(bench: Bench) -> Iterator[tuple[Processes, Path]]:
    """A coordinator that is up with its hospitals, which end with the context."""
    home, (port,) = bench.folder / "coordinator", free_ports(1)
    with Processes(bench.folder / "medtl") as group:
        own = ["--name", "bench", "--address", f"127.0.0.1:{port}"]
        group.done("init", ["medtl", "coordinator", "init", str(home), *own])
        group.done("up", ["medtl", "coordinator", "up", str(home), "--detach"])
        try:
            join(group, home, bench)
            yield group, home
        finally:
            group.done("stop", ["medtl", "coordinator", "stop", str(home)])


def run(group: Processes, home: Path, words: Sequence[str], name: str) -> float:
    """Runs a study with everybody and returns how many seconds the command took once all were there."""
    everybody = ["medtl", "coordinator", "run", str(home), *words, "--name", name, "--wait", "300"]
    return group.done(name, everybody)


def join(group: Processes, home: Path, bench: Bench) -> None:
    """Invites hospitals, lets them enrol, know each other's keys, and start; returns when all are heard."""
    sites = [bench.folder / "sites" / name for name in bench.names]
    (bench.folder / "sites").mkdir()
    for site in sites:
        letter = str(bench.folder / f"{site.name}.toml")
        group.done("invite", ["medtl", "coordinator", "invite", str(home), site.name, "--out", letter])
        own = ["--invitation", letter, "--data", str(bench.data(site.name)), "--public-patients", "40"]
        group.done("join", ["medtl", "site", "init", str(site), *own])
    peers = "".join(f'{site.name} = "{public_identity(site)}"\n' for site in sites)
    for site in sites:
        path = site / "hospital.toml"
        text = path.read_text(encoding="utf-8").replace("secure_sum = false", "secure_sum = true")
        path.write_text(text + peers, encoding="utf-8")
        group.begin(f"site-{site.name}", ["medtl", "site", "run", str(site)])
    end = time.monotonic() + _PATIENCE
    while not all(row.state == "online" for row in see(read_coordinator(home)).hospitals):
        if time.monotonic() > end:
            raise SystemExit("not every hospital came")
        time.sleep(0.5)


def flower(bench: Bench) -> list[float]:
    """Returns seconds of each round through Flower's own processes, as many as came in time."""
    app, out = bench.folder / "medtl-app", bench.folder / "out"
    write_app(installed_app(), app)
    with Processes(bench.folder / "flower") as group:
        link, *ports = free_ports(1 + len(bench.names))
        start_link(group, link, group.environment("flwr-superlink"))
        for name, port in zip(bench.names, ports, strict=True):
            own = bench.folder / "plain" / name
            initialise(Hospital(own, name, str(bench.data(name)), policy=Policy(require_private=False)))
            node = ["flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{link}", "--port", str(port)]
            group.begin(f"node-{name}", [*node, "--node-config", words({"hospital": str(own)})])
        name_link(Path(group.environment("flwr-run")["FLWR_HOME"]), f'address = "127.0.0.1:{link}"\ninsecure = true')
        settings: dict[str, str | int] = {"data": "", "test-path": str(bench.folder / "test.csv"), "out": str(out)}
        settings |= {key: int(value) if value.isdigit() else value for key, value in bench.settings.items()}
        typed = words({**settings, "sites": len(bench.names)})
        command = ["flwr", "run", ".", CONNECTION, "--stream", "--run-config", typed]
        with suppress(subprocess.TimeoutExpired):
            group.begin("run", command, app).wait(_THEIRS)
        took = rounds_of(out / "events.jsonl")
        if len(took) < _LEAST:
            raise SystemExit(f"Flower's half came to {len(took)} exchanges:\n{tail(group.log('run'))}")
        return took


def seconds(events: Path) -> list[tuple[str, float]]:
    """Returns how long each exchange of a run took, with its phase."""
    rows = map(json.loads, events.read_text(encoding="utf-8").splitlines()) if events.is_file() else []
    return [(row["phase"], row["seconds"]) for row in rows if row["kind"] == "exchange"]


def rounds_of(events: Path) -> list[float]:
    """Returns how long each exchange took but the join."""
    return [took for phase, took in seconds(events) if phase != "join"]


def write_cases(folder: Path, names: Sequence[str]) -> None:
    """Two numbers that tell two classes apart: 40 patients a hospital, and the server's own."""
    rng = np.random.default_rng(4)
    (folder / "task.json").write_text('{"name": "label", "classes": ["0", "1"]}', encoding="utf-8")
    for first, name in enumerate((*names, "test"), start=1):
        rows = ["label,patient_id,site,split,a,b"]
        for number in range(40):
            a, b = rng.normal(2.0 * (number % 2) - 1.0, 1.0, 2)
            split = "test" if name == "test" else "train"
            rows.append(f"{number % 2},p{first}{number:03d},{name},{split},{a:.6f},{b:.6f}")
        (folder / f"{name}.csv").write_text("\n".join(rows), encoding="utf-8")


def share_out(images: Path, folder: Path, names: Sequence[str]) -> int:
    """Gives every hospital as many patients' radiographs, and the server the test split; returns a share's cases.

    Args:
        images: with `metadata.csv` (file, label, patient, split) and a folder `images`.
        folder: in which each gets a folder of its name, the server `test`.
        names: of the hospitals.
    """
    with (images / "metadata.csv").open(encoding="utf-8") as handle:
        rows = [*csv.DictReader(handle)]
    patients = sorted({row["patient"] for row in rows if row["split"] == "train"})
    owner = {patient: names[number % len(names)] for number, patient in enumerate(patients)}
    for name in (*names, "test"):
        (folder / name).mkdir()
        (folder / name / "task.json").write_text(
            json.dumps({"name": "chest", "classes": sorted({row["label"] for row in rows})}), encoding="utf-8"
        )
        own = [row for row in rows if (owner.get(row["patient"]) if row["split"] == "train" else "test") == name]
        lines = ["path,label,patient_id,site,split"]
        for row in own:
            shutil.copy(images / "images" / row["file"], folder / name / row["file"])
            lines.append(f"{row['file']},{row['label']},{row['patient']},{name},{row['split']}")
        (folder / name / "manifest.csv").write_text("\n".join(lines), encoding="utf-8")
    return len([row for row in rows if row["split"] == "train"]) // len(names)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--their-rounds", type=int, default=3)
    parser.add_argument("--images", type=Path, help="folder of radiographs with metadata.csv: how long a head takes")
    parser.add_argument("--sites", type=int, default=10, help="hospitals with images")
    asked = parser.parse_args()
    if asked.images:
        many(asked.images, asked.sites)
    else:
        main(asked.rounds, asked.their_rounds)
