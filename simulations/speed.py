"""The speed benchmark: `make bench-speed`. Every figure is a ratio of two things measured in this one run.

It compares a simulation with the plain torch code that does the same arithmetic, the in-process grid with Flower's Ray
simulation, and the bytes of every method with sending the whole backbone. Absolute seconds are printed beside the
ratios, for the reader; they mean little on another machine.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from simulations.probe import local, measured
from simulations.speed_device import device

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data" / "ham10000_sites"

#: Images in a pass of the plain loop: the fastest of 4, 8, 16 and 32 here.
_BATCH = 4


@dataclass(frozen=True)
class Line:
    """One measured ratio: what was compared, its value, what we want in words, and the two quantities."""

    name: str
    value: float
    goal: str
    detail: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the parts asked for and prints their ratios."""
    parts = {"features": features, "training": training, "grid": grid, "memory": memory, "bytes": sent}
    return printed({**parts, "device": partial(device, Line)}, __doc__, arguments)


def printed(parts: Mapping[str, Callable[[], list[Line]]], doc: str | None, arguments: Sequence[str] | None) -> int:
    """Measures the parts named on the command line, or all, and prints their ratios."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("parts", nargs="*", default=list(parts), help=f"any of {', '.join(parts)}")
    print(f"{'ratio':<58}{'value':>9}  {'goal':<12}detail")
    for name in parser.parse_args(arguments).parts:
        for line in parts[name]():
            print(f"{line.name:<58}{line.value:>9.3f}  {line.goal:<12}{line.detail}", flush=True)
    return 0


def features() -> list[Line]:
    """A cold and a warm simulation over one bare torch forward pass of the same images."""
    with tempfile.TemporaryDirectory() as folder:
        chosen = _scenario(cache=str(Path(folder) / "cache"))
        bare, images = _bare_forward(chosen)
        cold = _spent(lambda: _simulate(chosen, Path(folder) / "cold"))
        _forget()
        warm = _spent(lambda: _simulate(chosen, Path(folder) / "warm"))
    detail = f"{images} images, {chosen['data']}"
    return [
        Line("cold simulation / bare forward pass", cold / bare, "<= 1.25", f"{cold:.1f} s / {bare:.1f} s, {detail}"),
        Line("warm simulation / bare forward pass", warm / bare, "<= 0.10", f"{warm:.1f} s / {bare:.1f} s, {detail}"),
    ]


def training() -> list[Line]:
    """CPU seconds of FedAvg through the real apps over a plain torch loop with the same steps on the same features.

    Both start from features in memory: the hospitals of this process keep theirs from the run before.
    """
    with tempfile.TemporaryDirectory() as folder:
        chosen = _small(10, Path(folder), shots=90)
        local({**chosen, "out": f"{folder}/first"}, workers=1)
        again = {**chosen, "out": f"{folder}/again"}
        ours = min(_spent(lambda: local(again, workers=1), time.process_time) for _ in range(3))
        sites = _site_features(chosen)
    loop = min(_spent(lambda: _torch_loop(sites, rounds=20), time.process_time) for _ in range(3))
    cases = sum(len(label) for _, label in sites)
    detail = f"{ours:.2f} s / {loop:.2f} s, {len(sites)} hospitals, {cases} cases, 20 rounds"
    return [Line("CPU of FedAvg-20 in medtl / plain torch loop", ours / loop, "<= 1.1", detail)]


def grid() -> list[Line]:
    """Wall time of Flower's Ray simulation over ours, both with the same apps and a warm cache.

    Each runs twice, in turns, and its faster run counts: what else the machine does slows either.
    """
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for hospitals in (10, 50, 200):
            chosen = _small(hospitals, Path(folder))
            measured("local", chosen)  # fills the cache
            runs = [(measured("local", chosen), measured("ray", chosen)["seconds"]) for _ in range(2)]
            ours, theirs = min(run["seconds"] for run, _ in runs), min(seconds for _, seconds in runs)
            cpu = min(run["cpu"] for run, _ in runs)
            detail = f"{theirs:.1f} s / {ours:.2f} s ({cpu:.2f} s of CPU), 20 head rounds"
            lines.append(Line(f"Ray / in-process grid, {hospitals} hospitals", theirs / ours, ">= 10", detail))
    return lines


def memory() -> list[Line]:
    """Peak resident memory of whole simulations with ever more hospitals."""
    with tempfile.TemporaryDirectory() as folder:
        peaks = {}
        for hospitals in (10, 100, 1000):
            chosen = {**_small(hospitals, Path(folder)), "methods": "discriminant,fedavg-5"}
            peaks[hospitals] = measured("local", chosen)["megabytes"]
    detail = ", ".join(f"{count}: {peak:.0f} MB" for count, peak in peaks.items())
    return [Line("peak memory, 1,000 / 10 hospitals", peaks[1000] / peaks[10], "< 2", detail)]


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


def _small(hospitals: int, folder: Path, shots: int = 10) -> dict[str, Any]:
    """Many small hospitals with tiny synthetic images: what is measured is the machinery, not the backbone.

    The images are drawn once and read from a file, so that no road is timed drawing them.
    """
    import numpy as np

    from medtl_core.data.synthetic.phantom import phantom

    path = folder / f"phantom-{hospitals}-{shots}.npz"
    if not path.is_file():
        cases = phantom(size=32, patients=2 * hospitals * shots + 200)
        test = cases["split"] == "test"
        arrays: dict[str, Any] = {}
        for name, rows in (("train", ~test), ("val", test[:0].repeat(0)), ("test", test)):
            chosen = np.flatnonzero(rows)
            arrays |= {
                f"{name}_images": cases["image"][chosen, :, :, 0],
                f"{name}_labels": cases["label"][chosen, None],
            }
        np.savez(path, **arrays)
    return {
        "data": "", "data-path": str(path), "sites": hospitals, "shots": shots, "partition": "even",
        "image-size": 32, "cache": str(folder / "cache"), "methods": "fedavg-20",
    }  # fmt: skip


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


def _bare_forward(values: dict[str, Any]) -> tuple[float, int]:
    """Seconds of decoding and running the frozen network over every image and view, all threads, nothing else."""
    import numpy as np
    import torch

    from medtl_core.backbones.extractor import load_extractor
    from medtl_core.backbones.zoo import find_backbone
    from medtl_core.config import settings
    from medtl_core.data.images import decode
    from medtl_core.data.shared import shared_parts, shared_source
    from medtl_core.features.spec import backbone_spec

    chosen = settings(values)
    source, parts = shared_source(chosen), shared_parts(chosen)
    rows = np.concatenate([parts.server_test, *(part.train for part in parts.sites)])
    spec = backbone_spec(chosen, source.entry.views)
    extractor = load_extractor(find_backbone(chosen.backbone), chosen.weights, spec.taps, spec.pooling)
    column = "path" if "path" in source.examples.columns else "image"
    torch.set_num_threads(os.cpu_count() or 1)
    started = time.perf_counter()
    with torch.inference_mode():
        for first in range(0, len(rows), _BATCH):
            pixels = [decode(image) for image in source.examples[column][rows[first : first + _BATCH]]]
            batch = torch.stack([torch.tensor(one).permute(2, 0, 1) for one in pixels]).float() / 127.5 - 1
            batch = torch.nn.functional.interpolate(batch, (spec.size, spec.size), mode="bilinear", antialias=True)
            for _ in spec.views:
                extractor(batch.contiguous(memory_format=torch.channels_last))
    seconds = time.perf_counter() - started
    torch.set_num_threads(1)
    return seconds, len(rows)


def _site_features(values: dict[str, Any]) -> list[tuple[Any, Any]]:
    from client.site import Node, open_site
    from medtl_core.config import settings

    chosen = settings(values).of_site()
    sites = [open_site(chosen, Node("", "", part)) for part in range(chosen.sites)]
    return [(site.data.values, site.data.label) for site in sites]


def _torch_loop(sites: list[tuple[Any, Any]], rounds: int) -> None:
    """FedAvg as one would write it by hand: SGD with torch on cached features, then the weighted mean."""
    import torch

    torch.set_num_threads(1)
    data = [(torch.tensor(values), torch.tensor(label)) for values, label in sites]
    classes, width = int(max(label.max() for _, label in data)) + 1, data[0][0].shape[1]
    pooled = torch.cat([values for values, _ in data])
    mean, scale, total = pooled.mean(0), pooled.std(0) + 1e-6, len(pooled)
    data = [((values - mean) / scale, label) for values, label in data]
    weight, bias = torch.zeros(classes, width), torch.zeros(classes)
    for _ in range(rounds):
        next_weight, next_bias = torch.zeros_like(weight), torch.zeros_like(bias)
        for values, label in data:
            head = torch.nn.Linear(width, classes)
            with torch.no_grad():
                head.weight.copy_(weight)
                head.bias.copy_(bias)
            optimiser = torch.optim.SGD(head.parameters(), lr=0.05, weight_decay=1e-3)
            for _ in range(5):
                for batch in torch.split(torch.randperm(len(label)), 16):
                    optimiser.zero_grad()
                    torch.nn.functional.cross_entropy(head(values[batch]), label[batch]).backward()  # type: ignore[no-untyped-call]
                    optimiser.step()
            next_weight += head.weight.detach() * len(label) / total
            next_bias += head.bias.detach() * len(label) / total
        weight, bias = next_weight, next_bias


def _spent(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    started = clock()
    work()
    return clock() - started


if __name__ == "__main__":
    raise SystemExit(main())
