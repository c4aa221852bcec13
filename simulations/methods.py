"""The benchmark of methods: `make bench-methods`. Every method x shots x data set x seed, resumable, then the table.

`python -m simulations.methods run --data DIR` works through its cells, one seed of all of them before the next, until
none is left or the time budget is spent; what is done is never done again. `... table` prints Markdown of what is
there, `... bytes` what a hospital sends for the default. Methods of one family and data set read the same features and
cases, so differences are paired by seed.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from medtl_core.config import Settings, settings
from medtl_core.evaluation.result import MethodResult
from medtl_core.federation.outcome import Problem
from medtl_core.federation.registry import read_methods
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import SiteData
from medtl_core.rng import stream
from medtl_core.sweep.job_queue import Job
from simulations.experiments import Values, carry_out, options, records, where
from simulations.intervals import markdown
from simulations.memory import MemoryHospitals
from simulations.paired import comparison

#: The data sets and their hospitals.
DATA: Mapping[str, Values] = {
    "ham10000_sites": {"sites": 10, "partition": "natural"},
    "kermany_cxr224": {"sites": 8, "partition": "dirichlet", "alpha": 0.3},
    "heart_uci": {"sites": 4, "partition": "natural", "backbone": "table"},
}
#: Data set -> the shots at which methods are compared.
Shots = Mapping[str, tuple[int, ...]]
SHOTS: Shots = dict.fromkeys(("ham10000_sites", "kermany_cxr224"), (5, 10, 25, 50, 90))
#: Where the default is judged.
DEFAULT: Shots = {"ham10000_sites": (25, 50, 90), "kermany_cxr224": (10, 25, 50, 100), "heart_uci": (40,)}

#: Where two sizes are.
SIZES: Shots = {"ham10000_sites": (25, 50, 90), "kermany_cxr224": (25, 50, 100)}


@dataclass(frozen=True)
class Group:
    """Methods that run together.

    Attributes:
        family: groups of one family have the same settings, and share a table.
        apart: whether every method runs by itself, because it takes long.
        shots: at which, a data set.
    """

    name: str
    family: str
    methods: tuple[str, ...]
    seeds: int
    apart: bool = False
    shots: Shots = field(default_factory=lambda: SHOTS)


#: A hospital whose cases cannot fill an episode sits out, named; the benchmark goes on with the others.
_SHARED: Values = {"quorum": 0.1}

#: What differs between families, beyond the data set's own settings.
FAMILIES: Mapping[str, Values] = {
    "default features": {},
    "two sizes, 128+224 pixels": {"image-size": "128+224"},
    "cached features, 224 pixels": {"features": "rich@2"},
    "trained backbone, 128 pixels": {"features": "rich@2", "image-size": 128},
    "own cases": {"features": "rich@2", "test": "sites"},
}
BASELINES = ("fedavg-20", "discriminant")
_CORE = (
    "local", "nearest-mean", "ridge", "discriminant", "fedavg-5", "fedavg-20",
    "fedavg-20-adjusted", "fedprox-20", "fedavgm-20", "fedadam-20", "scaffold-20", "auto", "pooled-logistic",
    "network-20",
)  # fmt: skip
_ENSEMBLES = (
    "ensemble-equal", "ensemble-stacked", "ensemble-local", "ensemble-weighted",
)  # fmt: skip
_ALONE = ("local-logistic", "local-svm", "local-boosting", "local-svm-rbf", "local-knn")
_RARE = ("fedlogit-20", "fedweighted-20")
_ACROSS = ("discriminant-standardised", "discriminant-nuisance", "adversarial-20", "metric", "reptile-20")
_EPISODES = ("protonet-20", "anil-20", "maml-20")
_PERSONAL = (
    "personal-local", "interpolated", "prior-shift", "ditto-20", "fedper-20", "fedrep-20", "fedbn-20",
)  # fmt: skip
_DEEP = ("lpft-head-5", "finetune-last-5", "lpft-last-5", "lora-last-5")
_WEIGHED = ("auto", "discriminant", "logistic-5", "fedavg-20")
GROUPS: tuple[Group, ...] = (
    Group("default", "default features", _WEIGHED, 10, shots=DEFAULT),
    Group("sizes", "two sizes, 128+224 pixels", _WEIGHED, 10, shots=SIZES),
    Group("heads", "cached features, 224 pixels", _CORE, 10),
    Group("rare", "cached features, 224 pixels", _RARE, 10),
    Group("across", "cached features, 224 pixels", _ACROSS, 10),
    Group("episodes", "cached features, 224 pixels", _EPISODES, 10, apart=True),
    Group("ensembles", "cached features, 224 pixels", _ENSEMBLES, 10),
    Group("own-baselines", "own cases", BASELINES, 10),
    Group("alone-own-cases", "own cases", _ALONE, 3),
    Group("personal", "own cases", _PERSONAL, 10),
    Group("deep-baselines", "trained backbone, 128 pixels", ("local", "discriminant", "fedavg-20", "auto"), 3),
    Group("deep", "trained backbone, 128 pixels", _DEEP, 3, apart=True),
    Group("deep-all", "trained backbone, 128 pixels", ("finetune-all-3",), 3, apart=True),
)


@dataclass(frozen=True)
class Cell:
    """One run of the benchmark."""

    group: Group
    data: str
    shots: int
    seed: int
    methods: tuple[str, ...]

    def folder(self, out: Path) -> Path:
        """Returns the run folder of this cell."""
        own = self.methods[0] if self.group.apart else "all"
        return out / self.group.name / f"{self.data}-{self.shots}" / own / f"seed-{self.seed}"

    def settings(self, data: Path) -> Values:
        """Returns the flat settings of this cell."""
        own: Values = {"shots": self.shots, "seed": self.seed, "methods": ",".join(self.methods), **_SHARED}
        return {**DATA[self.data], **FAMILIES[self.group.family], **where(data, self.data), **own}


def cells(groups: Sequence[Group], shots: Sequence[int] = ()) -> Iterator[Cell]:
    """Yields every cell: the first seed of all of them, then the second, so that a short budget covers all rows.

    Args:
        groups: of methods.
        shots: to which the cells are limited, if any are named.
    """
    for seed in range(max((group.seeds for group in groups), default=0)):
        for group in groups:
            for data, counts in group.shots.items():
                for count in counts:
                    if seed < group.seeds and (not shots or count in shots):
                        parts = [(method,) for method in group.methods] if group.apart else [group.methods]
                        yield from (Cell(group, data, count, seed, part) for part in parts)


def results(family: str, data: str, shots: int, out: Path) -> dict[str, dict[int, MethodResult]]:
    """Returns what is done of a table: method -> seed -> how it did."""
    found: dict[str, dict[int, MethodResult]] = {}
    for group in (group for group in GROUPS if group.family == family):
        for run in sorted((out / group.name / f"{data}-{shots}").glob("*/seed-*")):
            for method, by_seed in records(run).items():
                found.setdefault(method, {}).update(by_seed)
    return found


def table(families: Sequence[str], shots: Sequence[int], out: Path) -> str:
    """Returns all tables as Markdown, each method against the baselines, paired by seed."""
    parts = []
    for family in families:
        for data in DATA:
            for count in shots or sorted({count for group in GROUPS for count in group.shots.get(data, ())}):
                done = results(family, data, count, out)
                if done:
                    parts.append(f"### {family}: {data}, {count} shots\n\n{comparison(done, BASELINES)}\n")
    return "\n".join(parts)


def sent(cases: Sequence[int], method: str = "auto", classes: int = 7, width: int = 696) -> str:
    """Returns what a hospital sends for a method, as Markdown; made-up features, arrays without their envelopes."""
    rows = []
    for sizes in (("128",), ("128", "224")):
        groups = tuple((f"lite0@{size}:all", width * at, width * (at + 1)) for at, size in enumerate(sizes))
        row = [f"`{method}`, {'+'.join(sizes)} pixels"]
        for count in cases:
            rng, label = stream(0, "sent", str(count)), np.arange(count) % classes
            values, patients = rng.standard_normal((count, groups[-1][2]), np.float32), np.arange(count).astype(np.str_)
            site = SiteData("hospital", values, label, patients, values[:0], label[:0], patients[:0], classes, 0)
            hospitals, names = MemoryHospitals([site]), tuple(map(str, range(classes)))
            study = Study(hospitals, Problem(names, "", groups), Settings(), read_methods(method))
            study.outcome(study.methods[0])
            row.append(f"{sum(exchange.bytes_up for exchange in hospitals.exchanges) / 1e3:,.0f} kB")
        rows.append(row)
    return markdown((f"sent by a hospital, {classes} classes", *(f"{count:,} cases" for count in cases)), rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs cells, or prints the tables of what is done."""
    parser = options(__doc__, "methods", ("run", "table", "bytes"))
    parser.add_argument("--groups", nargs="*", default=[group.name for group in GROUPS])
    parser.add_argument("--shots", nargs="*", type=int, default=[])
    chosen = parser.parse_args(arguments)
    if chosen.what == "bytes":
        print(sent((10, 25, 90, 1_000)))
        return 0
    groups = [group for group in GROUPS if group.name in chosen.groups]
    if len(groups) < len(set(chosen.groups)):
        parser.error(f"known groups: {', '.join(group.name for group in GROUPS)}")
    if chosen.what == "table":
        print(table(list(dict.fromkeys(group.family for group in groups)), chosen.shots, chosen.out))
        return 0
    out = chosen.out.absolute()
    jobs = (Job(cell.folder(out), settings(cell.settings(chosen.data))) for cell in cells(groups, chosen.shots))
    return carry_out(parser, chosen, jobs, "methods")


if __name__ == "__main__":
    sys.exit(main())
