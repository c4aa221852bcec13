"""How many public directions, and when a Gram matrix: what `private-auto`'s constants were read from.

`python -m simulations.private_rule` runs prototypes of several sizes, without secure sum, on sets on which nothing is
judged elsewhere: scikit-learn's digits and synthetic radiographs, with even classes and with rare ones, and the latter
also with other synthetic radiographs as public images; and scikit-learn's breast cancer and digits as tables. What is
printed is by the signal of `private_auto`.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from medtl_core.config import settings
from medtl_core.methods.private.auto import signal
from medtl_core.privacy.plan import Terms
from medtl_core.rng import stream
from medtl_core.sweep.cells import OPEN, place
from medtl_core.sweep.rows import result_of
from simulations.batch import ROOT, Job, Values, private_settings, told, work_through

EPSILONS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
#: Of tables, where lower signals are of interest.
SMALLER = tuple(epsilon / 4 for epsilon in EPSILONS)
SIZES = (16, 32, 64, 100)
#: Columns that vary less, by their largest value, are left out; values further out, in standard deviations, are cut.
_FLAT, _FAR = 0.02, 4.0
METHODS = ("private-auto", *(f"private-prototypes-{size}{end}" for size in SIZES for end in ("-cosine", "")))


@dataclass(frozen=True)
class Trial:
    """One set.

    Attributes:
        sites, shots: hospitals, and cases at each; the number is public.
        classes: of the set.
        kept: share of its training cases that a class keeps, over that of the class before it; 1 = even classes.
        own_kind: whether public images are of the set's own kind, not photographs.
        columns: whether it is a table.
    """

    sites: int
    shots: int
    classes: int
    kept: float = 1.0
    own_kind: bool = False
    columns: bool = False

    @property
    def epsilons(self) -> tuple[float, ...]:
        """What is run."""
        return SMALLER if self.columns else EPSILONS

    def settings(self, name: str, folder: Path) -> Values:
        """Returns what makes a run of it, less its seed and its privacy."""
        public = str(drawn("public", folder)) if self.own_kind else "photos"
        hospitals: Values = {"sites": self.sites, "shots": self.shots, "public-cases": self.shots}
        if self.columns:
            hospitals["backbone"] = "table"
        fixed: Values = {"partition": "dirichlet", "alpha": 0.5, "delta": 1e-5, "bootstrap": 20, "quorum": 0.1}
        return {"data": "", "data-path": str(drawn(name, folder)), "public-images": public, **hospitals, **fixed}


TRIALS: Mapping[str, Trial] = {
    "digits": Trial(8, 50, 10),
    "digits-rare": Trial(8, 25, 10, kept=0.6),
    "phantom": Trial(6, 50, 3),
    "phantom-rare": Trial(6, 40, 3, kept=0.3),
    "phantom-own": Trial(6, 50, 3, own_kind=True),
    "breast-table": Trial(4, 50, 2, columns=True),
    "digits-table": Trial(8, 50, 10, columns=True),
}


def drawn(name: str, folder: Path) -> Path:
    """Returns the file of a set, in MedMNIST's form or as a table; it is made where it is missing."""
    columns = name in TRIALS and TRIALS[name].columns
    path = folder / f"{name}.{'csv' if columns else 'npz'}"
    if path.is_file():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    if columns:
        path.write_text("\n".join(_rows(name)), encoding="utf-8")
    else:
        images, labels, test = _digits() if name.startswith("digits") else _phantoms(seed=int(name == "public"))
        kept = TRIALS[name].kept if name in TRIALS else 1.0
        parts = {"train": _thinned(labels, ~test, kept), "val": np.zeros_like(test), "test": test}
        arrays: dict[str, Any] = {f"{part}_images": images[rows] for part, rows in parts.items()}
        arrays |= {f"{part}_labels": labels[rows, None] for part, rows in parts.items()}
        np.savez(path, **arrays)
    return path


def jobs(out: Path, seeds: int) -> Iterator[Job]:
    """Yields every run."""
    for seed in range(seeds):
        for name, trial in TRIALS.items():
            fixed = {**trial.settings(name, out), "methods": ",".join(METHODS), "seed": seed}
            for epsilon in trial.epsilons:
                flat = {**fixed, **private_settings(epsilon, secure=False)}
                yield Job(place(out, OPEN, name, epsilon, seed), settings(flat))


def table(out: Path, seeds: int) -> str:
    """Returns balanced accuracy in percent, mean over the seeds that are done, as Markdown."""
    parts = []
    for name, trial in TRIALS.items():
        facts = (
            Terms(one, 1e-5, trial.sites, 1, trial.shots, 464, trial.classes, secure=False) for one in trial.epsilons
        )
        signals = [signal(one) for one in facts]
        lines = [f"| {name}, signal | " + " | ".join(f"{one:.0f}" for one in signals) + " |", "|" + " - |" * 7]
        for method in METHODS:
            found = [[_accuracy(out, name, one, seed, method) for seed in range(seeds)] for one in trial.epsilons]
            means = (f"{np.nanmean(row):.1f}" if np.isfinite(row).any() else "-" for row in found)
            lines.append(f"| `{method}` | " + " | ".join(means) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _accuracy(out: Path, name: str, epsilon: float, seed: int, method: str) -> float:
    result = result_of(place(out, OPEN, name, epsilon, seed), seed)
    return (
        100 * float(result.methods[method].judgement.figures["balanced_accuracy"] or np.nan) if result else float("nan")
    )


def _rows(name: str) -> Iterator[str]:
    """Standardised columns in an order drawn at random, as many cases of each class; two in five are for the test."""
    from sklearn.datasets import load_breast_cancer, load_digits

    found, rng = load_digits() if name.startswith("digits") else load_breast_cancer(), stream(0, "table", name)
    few = np.bincount(found.target).min()
    even = np.concatenate([np.flatnonzero(found.target == label)[:few] for label in np.unique(found.target)])
    values = found.data[:, found.data.std(axis=0) > _FLAT * found.data.max(axis=0)]
    values = (values - values.mean(axis=0)) / values.std(axis=0)
    values = np.clip(values[:, rng.permutation(values.shape[1])], -_FAR, _FAR)
    yield ",".join(("label", "patient_id", "split", *(f"c{column}" for column in range(values.shape[1]))))
    for number, row in enumerate(rng.permutation(even)):
        part = "test" if number % 5 < 2 else "train"
        yield f"{found.target[row]},p{row},{part}," + ",".join(f"{value:.4f}" for value in values[row])


def _digits() -> tuple[Any, Any, Any]:
    from sklearn.datasets import load_digits

    found = load_digits()
    images = (found.images * 15.9).astype(np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    return images, found.target, np.arange(len(images)) % 3 == 0


@lru_cache(maxsize=2)
def _phantoms(seed: int) -> tuple[Any, Any, Any]:
    from medtl_core.data.synthetic.phantom import phantom

    cases = phantom(seed, size=96, patients=1100)
    return cases["image"][:, :, :, 0], cases["label"], cases["split"] == "test"


def _thinned(labels: Any, rows: Any, kept: float) -> Any:
    """Of chosen rows: all of the first class, the share `kept` of the second, its square of the third and so on."""
    chosen = np.zeros_like(rows)
    for number, label in enumerate(np.unique(labels)):
        own = np.flatnonzero(rows & (labels == label))
        chosen[own[: round(kept**number * len(own))]] = True
    return chosen


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
