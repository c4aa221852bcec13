"""The same FedAvg through medtl and its peers: `python -m simulations.peers`, or `make bench-peers`.

Every framework trains the linear head of `simulations.peer_loops`' job in a process of its own, one numeric thread,
and is timed from the interpreter's start to the judged head: CPU seconds of all its processes, wall time, and peak
memory of the first process. Each must end with the same head. What is nobody's own work, drawing the images, is done
before. `--pfl PYTHON` names an interpreter that has pfl, which wants older versions of some packages.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medtl_core.values import Array
from simulations.intervals import markdown
from simulations.peer_loops import note_spent, read_job
from simulations.probe import ROOT, local

#: What medtl's head may differ from the plain loop's by, as a share of its largest weight: it sums in float64.
TOLERANCE = 1e-3
#: medtl's CPU over the plain loop's, and over pfl's.
LIMITS = {"plain": 1.15, "pfl": 1.0}
_SIDE, _TESTED = 32, 100
_PEERS = ("plain", "medtl", "pfl", "flower")


@dataclass(frozen=True)
class Spent:
    """What a run took: CPU and wall seconds, peak megabytes of its first process, and how far its head is off."""

    cpu: float
    wall: float
    megabytes: float
    off: float


def settings_of(folder: Path, hospitals: int, cases: int, rounds: int) -> dict[str, Any]:
    """Returns the job as medtl's settings."""
    return {
        "data": "", "data-path": str(folder / "images.npz"), "sites": hospitals, "shots": cases, "partition": "even",
        "backbone": "random:resnet18", "features": "plain", "image-size": _SIDE, "cache": "off", "local-epochs": 1,
        "methods": f"fedavg-{rounds}", "bootstrap": 1, "out": str(folder / "medtl"),
    }  # fmt: skip


def write_job(folder: Path, hospitals: int, cases: int, rounds: int) -> None:
    """Draws the images, and writes who holds which, in which order each round takes them, and the pooled moments."""
    from client.site import Node, open_site
    from medtl_core.backbones.backbone import RANDOM_SEED
    from medtl_core.config import settings
    from medtl_core.data.shared import shared_parts, shared_source
    from medtl_core.heads.linear import batches
    from medtl_core.heads.statistics import TINY
    from medtl_core.rng import stream

    rng, count = np.random.default_rng(0), hospitals * cases
    label = np.arange(count + _TESTED) % 2
    images = rng.normal(110 + 8 * label[:, None, None], 40, (len(label), _SIDE, _SIDE)).clip(0, 255).astype(np.uint8)
    arrays: dict[str, Array] = {}
    for name, rows in (("train", slice(count)), ("val", slice(0)), ("test", slice(count, None))):
        arrays |= {f"{name}_images": images[rows], f"{name}_labels": label[rows, None]}
    np.savez(folder / "images.npz", allow_pickle=False, **arrays)
    flat = settings_of(folder, hospitals, cases, rounds)
    (folder / "medtl.json").write_text(json.dumps(flat), encoding="utf-8")
    chosen = settings(flat)
    examples, sites = shared_source(chosen).examples, shared_parts(chosen).sites
    opened = [open_site(chosen.of_site(), Node("", "", part)).data for part in range(hospitals)]
    values = np.concatenate([site.values for site in opened]).astype(np.float64)
    orders = [
        [
            np.concatenate(
                list(batches(cases, chosen.batch_size, rng=stream(chosen.seed, "fit", site.name, number + 1)))
            )
            for site in opened
        ]
        for number in range(rounds)
    ]
    np.savez(
        folder / "job.npz", allow_pickle=False,
        images=np.stack([examples["image"][part.train].reshape(cases, _SIDE, _SIDE, -1)[..., 0] for part in sites]),
        labels=np.stack([examples["label"][part.train] for part in sites]), orders=np.array(orders),
        test_images=images[count:], test_labels=label[count:], mean=values.mean(0).astype(np.float32),
        scale=(values.std(0) + TINY).astype(np.float32), rate=chosen.learning_rate, decay=chosen.weight_decay,
        batch=chosen.batch_size, network_seed=RANDOM_SEED,
    )  # fmt: skip


def measured(name: str, folder: Path, python: str) -> Spent:
    """Runs one framework; CPU seconds are those of every process below it, seen every twentieth of a second."""
    module = ["simulations.peers", "--medtl"] if name == "medtl" else ["simulations.peer_loops", name]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    env |= {"FLWR_TELEMETRY_ENABLED": "0", "PYTHONPATH": str(ROOT)}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    started, seen = time.perf_counter(), dict[int, float]()
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen([python, "-m", *module, str(folder)], cwd=ROOT, env=env, stdout=log, stderr=log)
        while process.poll() is None:  # not waited for here: what a child took is read where it ends, below
            seen |= _below(process.pid) if name == "flower" else {}
            time.sleep(0.05)
    wall = time.perf_counter() - started
    if process.returncode:
        raise SystemExit(f"{name} failed:\n{(folder / f'{name}.log').read_text(encoding='utf-8')[-3000:]}")
    with np.load(folder / f"{name}.npz") as own, np.load(folder / "plain.npz") as reference:
        joined = [np.concatenate([head["weight"], head["bias"][:, None]], axis=1) for head in (own, reference)]
        off = float(np.abs(joined[0] - joined[1]).max() / np.abs(joined[1]).max())
    cpu, peak = np.loadtxt(folder / f"{name}.spent")
    return Spent(float(cpu) + sum(seen.values()), wall, float(peak), off)


def _below(root: int) -> dict[int, float]:
    """CPU seconds so far of every process below one, by its id."""
    tick, parent, spent = os.sysconf("SC_CLK_TCK"), dict[int, int](), dict[int, float]()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):
            fields = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            number = int(path.parent.name)
            parent[number], spent[number] = int(fields[1]), (int(fields[11]) + int(fields[12])) / tick
    below, level = dict[int, float](), {root}
    while level := {number for number, above in parent.items() if above in level}:
        below |= {number: spent[number] for number in level}
    return below


def run_medtl(folder: Path) -> None:
    """Trains the job with medtl's two apps on the in-process grid, and leaves its head on standardised features."""
    from safetensors.numpy import load_file

    local(json.loads((folder / "medtl.json").read_text(encoding="utf-8")), workers=1)
    (path,) = (folder / "medtl" / "heads").glob("*.safetensors")
    raw, job = load_file(path), read_job(str(folder))
    bias = raw["bias"] + raw["weight"] @ job["mean"].astype(np.float64)
    np.savez(folder / "medtl.npz", weight=raw["weight"] * job["scale"], bias=bias)


def table(spent: Mapping[str, Spent]) -> tuple[str, int]:
    """Returns the figures as Markdown with a sentence for every limit, and how many limits were missed."""
    base = spent["plain"]
    rows = [
        (
            name,
            f"{row.cpu:.2f}",
            f"{row.cpu / base.cpu:.2f}",
            f"{row.wall:.2f}",
            f"{row.megabytes:.0f}",
            f"{row.off:.1e}",
        )
        for name, row in spent.items()
    ]
    head = ("framework", "CPU s", "/ plain", "wall s", "peak MB", "head off by")
    lines = [markdown(head, rows), ""]
    missed = [f"{name}'s head is another: off by {row.off:.1e}" for name, row in spent.items() if row.off > TOLERANCE]
    for name, limit in LIMITS.items():
        if name in spent:
            ratio = spent["medtl"].cpu / spent[name].cpu
            lines.append(f"CPU of medtl / {name}: {ratio:.3f}, wanted <= {limit:g}")
            missed += [f"CPU of medtl / {name} is {ratio:.3f} > {limit:g}"] if ratio > limit else []
    return "\n".join([*lines, *(f"missed: {text}" for text in missed)]), len(missed)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints; exits non-zero if a head differs or a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("frameworks", nargs="*", default=list(_PEERS), help=f"any of {', '.join(_PEERS)}")
    parser.add_argument("--pfl", default=sys.executable, metavar="PYTHON", help="interpreter that has pfl and torch")
    for name, usual in (("hospitals", 10), ("cases", 50), ("rounds", 3), ("repetitions", 3)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--medtl", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.medtl:
        run_medtl(given.medtl)
        note_spent(given.medtl / "medtl.spent")
        return 0
    pythons = {name: given.pfl if name == "pfl" else sys.executable for name in dict.fromkeys(given.frameworks)}
    if (
        "pfl" in pythons
        and subprocess.run([given.pfl, "-c", "import pfl"], capture_output=True, check=False).returncode
    ):
        print("pfl is not installed for this interpreter; name another with --pfl PYTHON")
        pythons.pop("pfl")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_job(folder, given.hospitals, given.cases, given.rounds)
        spent: dict[str, Spent] = {}
        for _ in range(given.repetitions):  # in turns, the least of each counts: what else the machine does adds
            for framework, python in pythons.items():
                once = measured(framework, folder, python)
                best = spent.get(framework, once)
                spent[framework] = min(best, once, key=lambda row: row.cpu)
    text, missed = table(spent)
    print(text)
    return int(bool(missed))


if __name__ == "__main__":
    raise SystemExit(main())
