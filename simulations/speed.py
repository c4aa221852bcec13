"""The speed benchmark: `make bench-speed`. Every figure is a ratio of two things measured in this one run.

It compares a simulation with plain torch code that does the same arithmetic, and the bytes of every method with sending
the whole backbone. The plain code is the best of a grid of loops, which is printed. Absolute seconds are printed beside
the ratios, for the reader; they mean little on another machine. `simulations.peers` compares with other frameworks, and
`simulations.scale` few hospitals with many.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from simulations.speed_device import device

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data" / "ham10000_sites"

#: Images a loop of the grid is tried on, and how many times the best rate so far it may take before it is given up.
_SAMPLE, _HOPELESS = 96, 3.0


@dataclass(frozen=True)
class Line:
    """One measured ratio: what was compared, its value, what we want in words, and the two quantities.

    `floor` says that the second quantity is the least the same work can take: a value below 1 shows that it is not.
    """

    name: str
    value: float
    goal: str
    detail: str
    floor: bool = False

    @property
    def fault(self) -> str:
        """Why the value says nothing about its goal; "" = it does."""
        if not (self.floor and self.value < 1):
            return ""
        return (
            f"{self.name} is {self.value:.3f}, below 1: the baseline was slower than what it is the floor of, so the "
            f"ratio is not held against {self.goal}; find a faster plain loop, or measure on a quiet machine"
        )


class Spent(NamedTuple):
    """CPU seconds of this process, and wall seconds."""

    cpu: float
    wall: float


class Loop(NamedTuple):
    """How a plain loop runs: torch's threads, Python threads that share the batches, and images a batch."""

    threads: int
    workers: int
    batch: int


@dataclass(frozen=True)
class Work:
    """What plain loops do to every image: decode, resize, and run a frozen network on so many views."""

    extractor: Any
    size: int
    views: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the parts asked for and prints their ratios."""
    parts: Mapping[str, Callable[[], list[Line]]] = {
        "features": features,
        "bytes": sent,
        "device": partial(device, Line),
    }
    return printed(parts, __doc__, arguments)


def printed(parts: Mapping[str, Callable[[], list[Line]]], doc: str | None, arguments: Sequence[str] | None) -> int:
    """Measures the parts named on the command line, or all, and prints their ratios.

    A ratio that its own baseline contradicts is not printed; a sentence says why, and the exit code is 1.
    """
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("parts", nargs="*", default=list(parts), help=f"any of {', '.join(parts)}")
    chosen, faults = parser.parse_args(arguments).parts, 0
    if unknown := sorted({*chosen} - {*parts}):
        parser.error(f"{unknown[0]!r} is none of {', '.join(parts)}")
    print(f"{'ratio':<58}{'value':>9}  {'goal':<12}detail")
    for line in (line for name in chosen for line in parts[name]()):
        print(line.fault or f"{line.name:<58}{line.value:>9.3f}  {line.goal:<12}{line.detail}", flush=True)
        faults += bool(line.fault)
    return int(bool(faults))


def features() -> list[Line]:
    """A cold and a warm simulation over the best plain torch pass over the same images, in CPU seconds."""
    with tempfile.TemporaryDirectory() as folder:
        chosen = _scenario(cache=str(Path(folder) / "cache"))
        work, images = _work(chosen)
        loop = best_loop(lambda loop, some: plain_pass(work, loop, some), images)
        bare = plain_pass(work, loop, images)
        cold = seconds_of(lambda: _simulate(chosen, Path(folder) / "cold"))
        _forget()
        warm = seconds_of(lambda: _simulate(chosen, Path(folder) / "warm"))
    return [
        Line(
            f"{word} simulation / best plain loop, CPU", run.cpu / bare.cpu, goal,
            f"{run.cpu:.1f} s / {bare.cpu:.1f} s (wall {run.wall:.1f} s / {bare.wall:.1f} s), "
            f"{len(images)} images, {chosen['data']}", floor=word == "cold",
        )
        for word, run, goal in (("cold", cold, "<= 1.15"), ("warm", warm, "<= 0.05"))
    ]  # fmt: skip


def best_loop(forward: Callable[[Loop, Sequence[Any]], Spent], images: Sequence[Any]) -> Loop:
    """Tries plain loops on a sample of the images, prints them, and returns the one that took least CPU.

    Loops that are far from the best after a twelfth of the sample are not tried on the rest.
    """
    cores = os.cpu_count() or 1
    sample = list(images[:: max(len(images) // _SAMPLE, 1)])[:_SAMPLE]
    first, few = Loop(1, 1, 1), sample[: len(sample) // 12 or 1]
    forward(first, few)  # what is set up once
    best, found, base = first, float("inf"), {1, cores}
    print(f"{'threads':>7}{'workers':>8}{'batch':>6}{'CPU ms':>9}{'wall ms':>9}  an image")
    for loop in (Loop(*row) for row in product(sorted(base), sorted(base), (1, 4, 16, 64))):
        spent, tried = forward(loop, few), few
        if spent.cpu / len(few) <= _HOPELESS * found:
            spent, tried = forward(loop, sample), sample
        cpu, wall = (1e3 * seconds / len(tried) for seconds in spent)
        print(f"{loop.threads:>7}{loop.workers:>8}{loop.batch:>6}{cpu:>9.2f}{wall:>9.2f}", flush=True)
        if tried is sample and spent.cpu / len(sample) < found:
            best, found = loop, spent.cpu / len(sample)
    return best


def sent() -> list[Line]:
    """Bytes each hospital sends for each method, over sending the whole backbone once."""
    from medtl_core.backbones.extractor import load_extractor
    from medtl_core.backbones.zoo import find_backbone

    with tempfile.TemporaryDirectory() as folder:
        chosen = _scenario(cache=str(Path(folder) / "cache"))
        metrics = _simulate(chosen, Path(folder) / "run")
    backbone = find_backbone(str(chosen.get("backbone", "lite0")))
    network = load_extractor(backbone, "", tuple(backbone.taps)[-1:], "mean").network
    whole = sum(array.numel() * array.element_size() for array in network.state_dict().values())
    return [
        Line(
            f"bytes up, {name} / whole backbone once", found["bytes_up"] / whole, "",
            f"{found['bytes_up'] / 1e3:.1f} kB / {whole / 1e6:.1f} MB a hospital, {found['rounds']} rounds",
        )
        for name, found in metrics["methods"].items()
    ]  # fmt: skip


def _scenario(**changes: str) -> dict[str, Any]:
    """Real dermoscopy where it lies, else the phantom."""
    from medtl_core.config import read_scenario

    name = "dermoscopy" if SHARED.is_dir() else "quickstart"
    values: dict[str, Any] = read_scenario(ROOT / "simulations" / "scenarios" / f"{name}.toml")
    return {**values, **({"data-path": str(SHARED)} if SHARED.is_dir() else {}), **changes}


def _simulate(values: dict[str, Any], out: Path) -> dict[str, Any]:
    from simulations.experiments import run_once

    run_once(values, out, "speed")
    metrics: dict[str, Any] = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    return metrics


def _forget() -> None:
    """Drops what this process remembers, so that a warm run reads the cache on disk."""
    from client.app import app
    from medtl_core.data import shared

    app.hospitals.close()
    for remembered in (shared._source, shared._parts):
        remembered.cache_clear()


def _work(values: dict[str, Any]) -> tuple[Work, list[Any]]:
    """What plain loops do, and the images, files or arrays, that a simulation reads."""
    from medtl_core.backbones.extractor import load_extractor
    from medtl_core.backbones.zoo import find_backbone
    from medtl_core.config import settings
    from medtl_core.data.shared import shared_parts, shared_source
    from medtl_core.features.extract import images_of
    from medtl_core.features.spec import backbone_spec

    chosen = settings(values)
    source, parts = shared_source(chosen), shared_parts(chosen)
    rows = np.concatenate([parts.server_test, *(part.train for part in parts.sites)])
    spec = backbone_spec(chosen, source.entry.views)
    extractor = load_extractor(find_backbone(chosen.backbone), chosen.weights, spec.taps, spec.pooling)
    return Work(extractor, spec.size, len(spec.views)), list(images_of(source.examples.take(rows)))


def plain_pass(work: Work, loop: Loop, images: Sequence[Any]) -> Spent:
    """Decodes, and runs the frozen network over every image and view; nothing else."""
    import torch

    from medtl_core.data.images import decode
    from medtl_core.data.views import square

    def pass_over(batch: Sequence[Any]) -> None:
        pixels = torch.from_numpy(np.stack([square(decode(image), work.size) for image in batch]))
        with torch.inference_mode():
            ready = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1  # "channels last" in memory, as the pixels lie
            for _ in range(work.views):
                work.extractor(ready)

    torch.set_num_threads(loop.threads)
    batches = [images[first : first + loop.batch] for first in range(0, len(images), loop.batch)]
    with ThreadPoolExecutor(loop.workers) as pool:
        spent = seconds_of(lambda: list(pool.map(pass_over, batches)))
    torch.set_num_threads(1)
    return spent


def seconds_of(work: Callable[[], object]) -> Spent:
    """Returns what some work takes."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return Spent(time.process_time() - cpu, time.perf_counter() - wall)


if __name__ == "__main__":
    raise SystemExit(main())
