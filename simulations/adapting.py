"""What `medtl adapt` gives a hospital or a machine that the federation never saw, with 1, 5 and 20 cases a class.

python -m simulations.adapting ../shared/data/ai4i2020 backbone=table features=pairs sites=2 seeds=10

Every natural site is left out in turn (of a single site an eighth of the patients), the others train, and the newcomer
is judged on its test cases; a value stands for a seed, the mean over its sites. `backbone` says of which kind they are.
"""

import sys
from collections.abc import Iterator

import numpy as np

from medtl_core.cli.plan import name_data
from medtl_core.clinical.significance import paired
from medtl_core.config import read_assignments, settings
from medtl_core.errors import MedtlError
from medtl_core.evaluation.counts import counted, figures
from medtl_core.federation.registry import read_methods
from medtl_core.federation.study import Study
from medtl_core.methods.adaptation import adapt_head, adapt_metric
from medtl_core.methods.episodes import draw_shots
from medtl_core.methods.fusion_adapted import adapt_fused
from medtl_core.methods.models.fused import modalities
from medtl_core.rng import stream
from medtl_core.values import ABSENT
from simulations.federation import Cases, federate, load
from simulations.intervals import apart, markdown, over
from simulations.newcomer import SHOTS, Split, hospital_splits
from simulations.newcomer_learners import Logits, Newcomer, Values, local_logistic

_FIGURES = ("balanced_accuracy", "auroc")
#: Learner, shots, seed -> a pair of figures for each site that was left out.
Found = dict[tuple[str, int, int], list[tuple[float, float]]]


def answers(newcomer: Newcomer, values: Values, classes: tuple[str, ...]) -> Iterator[tuple[str, Logits]]:
    """Yields learners and their logits [n, C] with the newcomer's classes; "as it is" is the federation's."""
    study, support = newcomer.study, newcomer.support
    auto = newcomer.federated("auto")
    yield "`auto`, as it is", _with(auto.classes, auto.logits(values), support.classes)
    yield "`auto`, adapted", adapt_head(auto, support).logits(values)
    yield "`metric`, adapted", adapt_metric(newcomer.metric, support).logits(values)
    if len(modalities(study.problem)) > 1:
        fused = newcomer.federated("fusion")
        yield "`fusion`, as it is", _with(fused.classes, fused.logits(values), support.classes)
        yield "`fusion`, adapted", adapt_fused(fused, support).logits(values)
    yield "its own cases alone", local_logistic(newcomer, values)


def _with(known: tuple[str, ...], logits: Logits, classes: tuple[str, ...]) -> Logits:
    columns = dict(zip(known, logits.T, strict=True))
    return np.stack([columns.get(name, np.full(len(logits), ABSENT)) for name in classes], axis=1)


def judged(cases: Cases, split: Split, study: Study, found: Found) -> None:
    """Adds what every learner reaches at a newcomer."""
    label, patients = cases.examples["label"][split.pool], cases.examples["patient"][split.pool]
    for shots in SHOTS:
        rng = stream(split.seed, "newcomer", "shots", split.name)
        rows = split.pool[draw_shots(label, patients, shots, rng=rng)]
        newcomer = Newcomer(study, cases.support(rows, split.own), 0)
        for name, logits in answers(newcomer, cases.values[split.test], split.own):
            told = figures(counted(cases.scores(logits, split.test, split.own)), _FIGURES)
            row = (float(told["balanced_accuracy"] or 0.0), float(told["auroc"] or 0.0))
            found.setdefault((name, shots, split.seed), []).append(row)


def table(found: Found, seeds: int) -> str:
    """Returns Markdown: percent by shots, and the paired difference to the federation's `auto` as it is."""
    means = {key: np.mean(rows, axis=0) for key, rows in found.items()}
    names, rows = list(dict.fromkeys(name for name, *_ in means)), []
    for name in names:
        cells, versus = list[str](), list[str]()
        for shots in SHOTS:
            mine = [means[name, shots, seed] for seed in range(seeds)]
            cells.append(" / ".join(over([float(one[place]) for one in mine]) for place in range(2)))
            first = [float(means[names[0], shots, seed][0]) for seed in range(seeds)]
            versus.append("-" if name == names[0] else apart(paired([float(one[0]) for one in mine], first)))
        rows.append((name, *cells, *versus))
    return markdown(("learner", *(f"{n} cases" for n in SHOTS), *(f"{n}: against `auto`" for n in SHOTS)), rows)


def main(data: str, *words: str) -> None:
    """Prints the table of a set: balanced accuracy / AUROC."""
    typed = read_assignments([*words])
    seeds = int(typed.pop("seeds", 10))
    cases = load(settings({"shots": 0, **name_data(data), **typed}))
    found: Found = {}
    for split in hospital_splits(cases, seeds):
        bare = federate(cases, split.base, split.classes, cases.settings.replace(seed=split.seed))
        several = "auto,metric,fusion" if len(modalities(bare.problem)) > 1 else "auto,metric"
        study = Study(bare.hospitals, bare.problem, bare.settings, read_methods(several))
        judged(cases, split, study, found)
        sys.stderr.write(f"seed {split.seed} without {split.name}\n")
    sys.stdout.write(f"balanced accuracy / AUROC in percent, {seeds} seeds\n\n{table(found, seeds)}\n")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except MedtlError as error:
        raise SystemExit(f"error: {error}") from None
