"""The privacy benchmark: `make bench-privacy`. Mechanisms x epsilon x data sets x seeds, resumable, then the tables.

`python -m simulations.privacy run` works through its cells; `table` prints balanced accuracy against epsilon. With
`secure` the server sees only sums and hospitals share the noise; `open` is without.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medtl_core.config import settings
from medtl_core.features.spec import VERSION
from medtl_core.sweep.cells import FREE as NOT_PRIVATE
from medtl_core.sweep.cells import REFERENCES, SECURE, place
from medtl_core.sweep.job_queue import Job
from simulations.experiments import Values, carry_out, options, records, where
from simulations.intervals import markdown, over
from simulations.paired import against_best

EPSILONS = (0.5, 1.0, 2.0, 4.0, 8.0)
#: Hospitals, cases, and a public lower bound of the patients at each. Images of 128 pixels: their features suffer
#: less from noise than those of 224, and take a third of the time.
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
    "private-gradient",
)  # fmt: skip
#: What no privacy gives.
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
        return FREE if self.mode == NOT_PRIVATE else MECHANISMS

    def folder(self, out: Path) -> Path:
        """Returns its run folder."""
        return place(out, self.mode, self.data, self.epsilon, self.seed)

    def settings(self, data: Path) -> Values:
        """Returns its flat settings."""
        public = PUBLIC.get(self.data)
        images = str((data / public).absolute()) if public else "photos"
        own: Values = {"seed": self.seed, "public-images": images, "methods": ",".join(self.methods), "quorum": 0.1}
        chosen = {**where(data, self.data), **DATA[self.data], **own}
        if self.mode == NOT_PRIVATE:
            return chosen
        promise: Values = {"privacy": "auto", "epsilon": self.epsilon, "secure-sum": self.mode == SECURE}
        return {**chosen, **promise, "delta": 1e-5, "bootstrap": 20}


def cells(seeds: int) -> Iterator[Cell]:
    """Yields every cell, the first seed of all of them first; runs without privacy do not depend on epsilon."""
    for seed in range(seeds):
        for data in DATA:
            yield Cell(data, 0.0, seed, "free")
            for epsilon in EPSILONS:
                yield Cell(data, epsilon, seed, "secure")
                yield Cell(data, epsilon, seed, "open")


def table(out: Path) -> str:
    """Returns one Markdown table a data set: methods by epsilon, percent and half-width over seeds."""
    figures: dict[tuple[str, str, str], dict[float, dict[int, float]]] = {}
    for cell in cells(100):
        for method, by_seed in records(cell.folder(out)).items():
            accuracies = {seed: record.judgement.figures["balanced_accuracy"] for seed, record in by_seed.items()}
            done = {seed: 100 * accuracy for seed, accuracy in accuracies.items() if accuracy is not None}
            figures.setdefault((cell.data, cell.mode, method), {}).setdefault(cell.epsilon, {}).update(done)
    parts = []
    for data in dict.fromkeys(data for data, _, _ in figures):
        rows = []
        for (name, mode, method), row in figures.items():
            if name == data:
                by_epsilon = (row.get(0.0 if mode == "free" else epsilon, {}) for epsilon in EPSILONS)
                shown = (over(list(by_seed.values()), scale=1.0) for by_seed in by_epsilon)
                rows.append((f"`{method}`", "not private" if mode == "free" else mode, *shown))
        for mode in ("secure", "open"):
            some = {method: row for (name, kind, method), row in figures.items() if (name, kind) == (data, mode)}
            rivals = ({method: row.get(epsilon, {}) for method, row in some.items()} for epsilon in EPSILONS)
            ahead = (against_best(row, AUTO) for row in rivals)
            rows += [(f"`{AUTO}` minus the best of the others", mode, *ahead)] if len(some) > 1 else []
        title = f"### {data}: balanced accuracy by epsilon, delta 1e-5"
        parts.append(f"{title}\n\n{markdown(('method', 'sum', *(f'{epsilon:g}' for epsilon in EPSILONS)), rows)}")
    return "\n\n".join(parts)


def jobs(chosen: argparse.Namespace) -> list[Job]:
    """Returns the runs of the cells that the command line asks for; one without privacy has no epsilon to ask for."""
    sets, modes = chosen.sets.split(","), chosen.modes.split(",")
    epsilons, asked = [0.0, *(float(word) for word in chosen.epsilons.split(","))], []
    for cell in cells(chosen.seeds):
        if cell.data in sets and cell.mode in modes and cell.epsilon in epsilons:
            methods = ",".join(cell.methods) if cell.mode == NOT_PRIVATE else chosen.methods
            values = {**cell.settings(chosen.data), "methods": methods}
            asked.append(Job(cell.folder(chosen.out.absolute()), settings(values)))
    return asked


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs cells, or prints the tables of what is done."""
    parser = options(__doc__, f"privacy-{VERSION}", ("run", "table"))  # other features' runs are not these cells
    parser.add_argument("--sets", default=",".join(DATA), help="data sets to run, with commas between")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--epsilons", default=",".join(map(str, EPSILONS)), help="only these, with commas between")
    parser.add_argument("--modes", default="free,secure,open", help="only these")
    parser.add_argument("--methods", default=",".join(MECHANISMS), help="only these mechanisms")
    chosen = parser.parse_args(arguments)
    if chosen.what == "table":
        print(table(chosen.out))
        return 0
    if unknown := sorted(set(chosen.sets.split(",")) - set(DATA)):
        parser.error(f"--sets knows {', '.join(DATA)}, not {', '.join(unknown)}")
    asked = jobs(chosen)
    if short := [job for job in asked if job.done and not {*job.settings.methods.split(",")} <= {*records(job.folder)}]:
        print(f"{len(short)} cells, such as {short[0].name}, are done without all these methods and not run again")
    return carry_out(parser, chosen, asked, "privacy")


if __name__ == "__main__":
    sys.exit(main())
