"""How many public directions, and when a Gram matrix: what `private-auto`'s constants were read from.

`python -m simulations.private_rule` runs prototypes of several sizes, without secure sum, on two sets on which nothing
is judged elsewhere: scikit-learn's digits and synthetic radiographs. The table is by the signal of `private_auto`.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medtl_core.privacy.plan import Terms
from medtl_core.sweep.cells import OPEN, place, private_settings
from medtl_core.sweep.rows import records_of
from medtl_core.transfer.private_auto import signal
from simulations.batch import ROOT, Job, Values, told, work_through

EPSILONS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
SIZES = (16, 32, 64, 100)
METHODS = ("private-auto", *(f"private-prototypes-{size}{end}" for size in SIZES for end in ("-cosine", "")))
#: Hospitals, cases and their public number, and the number of classes.
DATA: Mapping[str, tuple[Values, int]] = {
    "digits": ({"sites": 8, "shots": 50, "public-cases": 50, "partition": "dirichlet", "alpha": 0.5}, 10),
    "phantom": ({"sites": 6, "shots": 50, "public-cases": 50, "partition": "dirichlet", "alpha": 0.5}, 3),
}


def drawn(name: str, folder: Path) -> Path:
    """Returns the file of a set, in MedMNIST's form; it is made where it is missing."""
    path = folder / f"{name}.npz"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        images, labels, test = _digits() if name == "digits" else _phantoms()
        parts = {"train": ~test, "val": np.zeros_like(test), "test": test}
        arrays: dict[str, Any] = {f"{part}_images": images[rows] for part, rows in parts.items()}
        arrays |= {f"{part}_labels": labels[rows, None] for part, rows in parts.items()}
        np.savez(path, **arrays)
    return path


def jobs(out: Path, seeds: int) -> Iterator[Job]:
    """Yields every run."""
    for seed in range(seeds):
        for name, (chosen, _) in DATA.items():
            fixed: Values = {"data": "", "data-path": str(drawn(name, out)), "seed": seed, "delta": 1e-5}
            fixed |= {"methods": ",".join(METHODS), "bootstrap": 20, "quorum": 0.1}
            for epsilon in EPSILONS:
                settings = {**fixed, **chosen, **private_settings(epsilon, secure=False)}
                yield Job(place(out, OPEN, name, epsilon, seed), settings)


def table(out: Path, seeds: int) -> str:
    """Returns balanced accuracy in percent, mean over the seeds that are done, as Markdown."""
    parts = []
    for name, (chosen, classes) in DATA.items():
        hospitals, cases = int(chosen["sites"]), int(chosen["shots"])
        signals = [signal(Terms(one, 1e-5, hospitals, 1, cases, 464, classes, secure=False)) for one in EPSILONS]
        lines = [f"| {name}, signal | " + " | ".join(f"{one:.0f}" for one in signals) + " |", "|" + " - |" * 7]
        for method in METHODS:
            found = [[_accuracy(out, name, one, seed, method) for seed in range(seeds)] for one in EPSILONS]
            means = (f"{np.nanmean(row):.1f}" if np.isfinite(row).any() else "-" for row in found)
            lines.append(f"| `{method}` | " + " | ".join(means) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _accuracy(out: Path, name: str, epsilon: float, seed: int, method: str) -> float:
    found = records_of(place(out, OPEN, name, epsilon, seed), seed)
    return 100 * float(found["methods"][method]["figures"]["balanced_accuracy"]) if found else float("nan")


def _digits() -> tuple[Any, Any, Any]:
    from sklearn.datasets import load_digits

    found = load_digits()
    images = (found.images * 15.9).astype(np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    return images, found.target, np.arange(len(images)) % 3 == 0


def _phantoms() -> tuple[Any, Any, Any]:
    from medtl_core.data.phantom import phantom

    cases = phantom(size=96, patients=1100)
    return cases["image"][:, :, :, 0], cases["label"], cases["split"] == "test"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what is not done, and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "private-rule", help="where runs are kept")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=60.0, help="time budget; 0 = only the tables")
    chosen = parser.parse_args(arguments)
    failed = work_through(list(jobs(chosen.out.absolute(), chosen.seeds)), "private-rule", chosen.minutes)
    print(table(chosen.out, chosen.seeds))
    return told(failed)


if __name__ == "__main__":
    sys.exit(main())
