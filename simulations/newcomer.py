"""The newcomer experiment: a class, or a hospital, that the federation never saw, with 1, 5 and 20 labelled cases.

`python -m simulations.newcomer class --data DIR` holds classes out of the federation and learns them afterwards from a
few cases; `... hospital --data DIR` holds out a hospital. Every learner starts from the same federation and reads the
same features of the same cases, so differences are paired by split. Tables are Markdown.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from medtl_core.cli.plan import name_data
from medtl_core.clinical.significance import paired
from medtl_core.config import read_assignments, settings
from medtl_core.errors import ConfigError, MedtlError
from medtl_core.evaluation.scores import balanced_accuracy
from medtl_core.federation.study import Study
from medtl_core.methods.episodes import draw_shots
from medtl_core.rng import stream
from simulations.federation import Cases, Index, federate, load
from simulations.intervals import apart, markdown, over
from simulations.newcomer_learners import LEARNERS, Newcomer

SHOTS = (1, 5, 20)
#: Learner -> shots -> balanced accuracy, one value a seed.
Results = dict[str, dict[int, list[float]]]


@dataclass(frozen=True)
class Split:
    """One federation and its newcomer.

    Attributes:
        name: what is held out, for the log.
        base, classes: rows the federation trains on, and their classes.
        own, pool, test: the newcomer's classes, rows it may draw its labelled cases from, and rows it is judged on.
        seed: of the federation and of the draws.
    """

    name: str
    base: Index
    classes: tuple[str, ...]
    own: tuple[str, ...]
    pool: Index
    test: Index
    seed: int


def class_splits(cases: Cases, count: int, novel: int) -> Iterator[Split]:
    """Yields federations without `novel` classes; the newcomer tells those apart, or all classes if only one is new."""
    names = cases.examples.task.classes
    if not 0 < novel < len(names) - 1:
        raise ConfigError(f"novel={novel} of {len(names)} classes: the federation needs two, and one must be new")
    every = list(combinations(names, novel))
    order = stream(0, "newcomer", "class").permutation(len(every))
    for seed in range(count):
        yield _without_classes(cases, every[order[seed % len(every)]], seed)


def _without_classes(cases: Cases, held: tuple[str, ...], seed: int) -> Split:
    names, train, test = cases.examples.task.classes, cases.rows("train"), cases.rows("test")
    base = tuple(name for name in names if name not in held)
    pool, known = cases.of_classes(train, held), cases.of_classes(train, base)
    own = held
    if len(held) == 1:  # one new class among the known ones, of which the newcomer has an eighth of the patients
        own, mine = names, _eighth(cases, known, seed)
        pool, known = np.concatenate([pool, known[mine]]), known[~mine]
    return Split("+".join(held), known, base, own, pool, cases.of_classes(test, own), seed)


def _eighth(cases: Cases, rows: Index, seed: int) -> NDArray[np.bool_]:
    """Which rows are of the newcomer's patients, an eighth of all."""
    patients = np.unique(cases.examples["patient"][rows])
    drawn = stream(seed, "newcomer", "patients").permutation(patients)[: len(patients) // 8]
    return np.isin(cases.examples["patient"][rows], drawn)


def hospital_splits(cases: Cases, count: int) -> Iterator[Split]:
    """Yields federations without one hospital: each natural site in turn, or an eighth of a single site's patients."""
    sites = np.unique(cases.examples["site"])
    for seed in range(count):
        for site in sites.tolist() if len(sites) > 1 else [""]:
            yield _without(cases, site, seed)


def _without(cases: Cases, site: str, seed: int) -> Split:
    train, test, names = cases.rows("train"), cases.rows("test"), cases.examples.task.classes
    mine = cases.examples["site"][train] == site if site else _eighth(cases, train, seed)
    pool, base = train[mine], train[~mine]
    judged = test[cases.examples["site"][test] == site] if site else test
    own, known = (tuple(names[at] for at in np.unique(cases.examples["label"][rows])) for rows in (pool, base))
    return Split(site or "an eighth", base, known, own, pool, cases.of_classes(judged, own), seed)


def run(cases: Cases, splits: Sequence[Split], rounds: int) -> Results:
    """Returns every learner's figures; splits of one seed are averaged, so that a value stands for one seed."""
    found: dict[tuple[str, int], dict[int, list[float]]] = {}
    for split in splits:
        study = federate(cases, split.base, split.classes, cases.settings.replace(seed=split.seed))
        label, patients = cases.examples["label"][split.pool], cases.examples["patient"][split.pool]
        for shots in SHOTS:
            rng = stream(split.seed, "newcomer", "shots", split.name)
            rows = split.pool[draw_shots(label, patients, shots, rng=rng)]
            newcomer = Newcomer(study, cases.support(rows, split.own), rounds)
            for name, learner in LEARNERS.items():
                scores = cases.scores(learner(newcomer, cases.values[split.test]), split.test, split.own)
                accuracy = float(balanced_accuracy(scores) or 0.0)
                found.setdefault((name, shots), {}).setdefault(split.seed, []).append(accuracy)
        _log(split, study)
    results: Results = {}
    for (name, shots), by_seed in found.items():
        results.setdefault(name, {})[shots] = [fmean(values) for values in by_seed.values()]
    return results


def _log(split: Split, study: Study) -> None:
    failed = sorted({failure.site for failure in study.hospitals.failures})
    note = f"; sat out: {', '.join(failed)}" if failed else ""
    print(f"split {split.seed} without {split.name}: {len(study.hospitals.weights)} hospitals{note}", file=sys.stderr)


def table(results: Results, baseline: str) -> str:
    """Returns a Markdown table: percent with half-widths of 95 % t-intervals over splits; differences are paired."""
    rows = []
    for name, by_shots in results.items():
        versus = (
            "" if name == baseline else apart(paired(by_shots[shots], results[baseline][shots])) for shots in SHOTS
        )
        rows.append((name, *(over(by_shots[shots]) for shots in SHOTS), *versus))
    head = ("learner", *(f"{shots} shots" for shots in SHOTS), *(f"{shots}: against {baseline}" for shots in SHOTS))
    return markdown(head, rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one experiment and prints its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("class", "hospital"))
    parser.add_argument("--data", required=True, metavar="DIR", help="folder, file or catalog name")
    parser.add_argument("--novel", type=int, default=0, help="classes held out (0 = 3, or 1 of three classes)")
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=20, help="of meta-training")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="e.g. sites=6 image-size=128")
    given = parser.parse_args(arguments)
    defaults = {"sites": 6, "shots": 0, **name_data(given.data)}
    cases = load(settings({**defaults, **read_assignments(given.set)}))
    novel = given.novel or (3 if len(cases.examples.task.classes) > 4 else 1)
    made = class_splits(cases, given.splits, novel) if given.what == "class" else hospital_splits(cases, given.splits)
    results = run(cases, list(made), given.rounds)
    print(f"balanced accuracy, new {given.what}, {given.splits} splits\n\n{table(results, 'ProtoNet')}")
    return 0


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except MedtlError as error:
        raise SystemExit(f"error: {error}") from None
