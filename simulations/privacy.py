"""The privacy benchmark: `make bench-privacy`. Mechanisms x epsilon x data sets x seeds, resumable, then the tables.

`python -m simulations.privacy run` works through its cells; `table` prints balanced accuracy against epsilon; `csv`
writes one row a cell. With `secure` the server sees only sums and hospitals share the noise; `open` is without.
"""

import argparse
import csv
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medtl_core.config import settings
from medtl_core.evaluation.result import MethodResult
from medtl_core.sweep.cells import FREE as NOT_PRIVATE
from medtl_core.sweep.cells import REFERENCES, SECURE, place
from medtl_core.sweep.rows import result_of
from simulations.batch import ROOT, Job, Values, private_settings, told, work_through
from simulations.rivals import against_best
from simulations.spread import over

EPSILONS = (0.5, 1.0, 2.0, 4.0, 8.0)
#: Hospitals, cases, and a public lower bound of the patients at each. Images of 128 pixels, as in METHODS 11.2: their
#: features suffer less from noise than those of 224, and take a third of the time.
DATA: Mapping[str, Values] = {
    "ham10000_sites": {"sites": 10, "shots": 90, "public-cases": 90, "partition": "natural", "image-size": 128},
    "kermany_cxr224": {
        "sites": 8, "shots": 50, "public-cases": 25, "partition": "dirichlet", "alpha": 0.3, "image-size": 128,
    },
    "nih_cxr64": {
        "sites": 6, "shots": 60, "public-cases": 5, "partition": "dirichlet", "alpha": 1.0, "image-size": 128,
    },
    "heart_uci": {"sites": 4, "shots": 60, "public-cases": 60, "partition": "natural", "backbone": "table"},
}  # fmt: skip
#: Chest radiographs of another hospital where the task is one; they are public, and in none of its runs.
PUBLIC: Mapping[str, str] = {"kermany_cxr224": "nih_cxr64", "nih_cxr64": "kermany_cxr224"}
AUTO = "private-auto"
MECHANISMS = (
    AUTO, "private-prototypes", "private-prototypes-cosine", "private-prototypes-32-cosine", "private-mean",
    "private-discriminant", "private-gradient",
)  # fmt: skip
#: What the usual recipe gives, and what no privacy gives.
RECIPES = ("private-sgd",)
FREE = REFERENCES


@dataclass(frozen=True)
class Cell:
    """One run: one data set, one epsilon, one seed, and how the sum is taken ("secure", "open" or "free")."""

    data: str
    epsilon: float
    seed: int
    mode: str

    @property
    def methods(self) -> tuple[str, ...]:
        """What is compared in it."""
        return {"secure": MECHANISMS, "open": (*MECHANISMS, *RECIPES), "free": FREE}[self.mode]

    def folder(self, out: Path) -> Path:
        """Returns its run folder."""
        return place(out, self.mode, self.data, self.epsilon, self.seed)

    def settings(self, data: Path) -> Values:
        """Returns its flat settings."""
        where: Values = {"data": self.data, "data-path": str((data / self.data).absolute()), "seed": self.seed}
        public = PUBLIC.get(self.data)
        where["public-images"] = str((data / public).absolute()) if public else "photos"
        chosen = {**where, **DATA[self.data], "methods": ",".join(self.methods), "quorum": 0.1}
        if self.mode == NOT_PRIVATE:
            return chosen
        return {**chosen, **private_settings(self.epsilon, self.mode == SECURE), "delta": 1e-5, "bootstrap": 20}


def cells(seeds: int) -> Iterator[Cell]:
    """Yields every cell, the first seed of all of them first; runs without privacy do not depend on epsilon."""
    for seed in range(seeds):
        for data in DATA:
            yield Cell(data, 0.0, seed, "free")
            for epsilon in EPSILONS:
                yield Cell(data, epsilon, seed, "secure")
                yield Cell(data, epsilon, seed, "open")


def found(out: Path) -> Iterator[tuple[Cell, str, MethodResult]]:
    """Yields (cell, method, how it did) of everything that is done."""
    for cell in cells(100):
        result = result_of(cell.folder(out), cell.seed)
        for method, record in result.methods.items() if result else ():
            yield cell, method, record


def table(out: Path) -> str:
    """Returns one Markdown table a data set: methods by epsilon, percent and half-width over seeds."""
    figures: dict[tuple[str, str, str], dict[float, dict[int, float]]] = {}
    for cell, method, record in found(out):
        row = figures.setdefault((cell.data, cell.mode, method), {})
        row.setdefault(cell.epsilon, {})[cell.seed] = 100 * (record.judgement.figures["balanced_accuracy"] or math.nan)
    parts = []
    for data in DATA:
        lines = ["| method | sum | " + " | ".join(f"{epsilon:g}" for epsilon in EPSILONS) + " |"]
        lines.append("|" + " - |" * (len(EPSILONS) + 2))
        for (name, mode, method), row in figures.items():
            if name == data and mode == "free":
                lines.append(f"| `{method}` | not private |" + f" {_shown(row)} |" * len(EPSILONS))
            elif name == data:
                cellular = " | ".join(_shown(row, epsilon) for epsilon in EPSILONS)
                lines.append(f"| `{method}` | {mode} | {cellular} |")
        for mode in ("secure", "open"):
            rows = {method: row for (name, kind, method), row in figures.items() if (name, kind) == (data, mode)}
            rivals = ({method: row.get(epsilon, {}) for method, row in rows.items()} for epsilon in EPSILONS)
            behind = " | ".join(against_best(one, AUTO) for one in rivals)
            lines.append(f"| `{AUTO}` minus the best of the others | {mode} | {behind} |")
        parts.append(f"### {data}: balanced accuracy by epsilon, delta 1e-5\n\n" + "\n".join(lines))
    return "\n\n".join(parts)


def _shown(row: Mapping[float, Mapping[int, float]], epsilon: float = 0.0) -> str:
    return over(list(row.get(epsilon, {}).values()), scale=1.0)


def write_csv(out: Path, path: Path) -> None:
    """Writes one row for each cell and method: what was promised and spent, and how good the head is."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("data", "sum", "method", "seed", "epsilon", "balanced_accuracy", "auroc", "bytes_up"))
        for cell, method, record in found(out):
            figures = record.judgement.figures
            row = (figures["balanced_accuracy"], figures["auroc"], record.cost.bytes_up)
            writer.writerow((cell.data, cell.mode, method, cell.seed, cell.epsilon or "", *row))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs cells, or prints or writes what is done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("run", "table", "csv"))
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of the data sets")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "privacy", help="where runs are kept")
    parser.add_argument("--sets", default=",".join(DATA), help="data sets to run, with commas between")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=600.0, help="time budget")
    chosen = parser.parse_args(arguments)
    if chosen.what == "table":
        print(table(chosen.out))
        return 0
    if chosen.what == "csv":
        write_csv(chosen.out, chosen.out / "privacy.csv")
        print(chosen.out / "privacy.csv")
        return 0
    wanted = chosen.sets.split(",")
    if unknown := sorted(set(wanted) - set(DATA)):
        parser.error(f"--sets knows {', '.join(DATA)}, not {', '.join(unknown)}")
    missing = [name for name in wanted if not (chosen.data / name).is_dir()]
    if missing:
        parser.error(f"{chosen.data} does not hold {', '.join(missing)}; name the folder of the data sets with --data")
    out = chosen.out.absolute()
    asked = [cell for cell in cells(chosen.seeds) if cell.data in wanted]
    jobs = [Job(cell.folder(out), settings(cell.settings(chosen.data))) for cell in asked]
    return told(work_through(jobs, "privacy", chosen.minutes))


if __name__ == "__main__":
    sys.exit(main())
