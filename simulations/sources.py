"""Choosing the source, judged: `python -m simulations.sources --shared DIR`; prints Markdown, resumable.

Runs `medtl select` for three backbones with at least four taps each on three data sets, and prints how each score's
order agrees with the balanced accuracy of the candidates' discriminants on test cases.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from numpy import nanmean

from medtl_core.cli.plan import RunOrder
from medtl_core.cli.select import read_sources, select
from medtl_core.errors import MedtlError
from medtl_core.evaluation.result import Result
from medtl_core.flower.run import RunPlan
from simulations.experiments import ROOT, run_once
from simulations.intervals import markdown

BACKBONES = "lite0,torchvision:squeezenet1_1,torchvision:mobilenet_v2"
#: What medtl reads where nobody chooses; a rule that costs nothing, as the yardstick of every score.
HABIT = "lite0@4+7+10"
_measured = attrgetter("measured")
#: Data set -> hospitals, labelled cases of each.
SELECTION: Mapping[str, tuple[int, int]] = {
    "ham10000_sites": (10, 90), "kermany_cxr224": (8, 50), "nih_cxr64": (6, 100),
}  # fmt: skip


class Candidate(NamedTuple):
    """One backbone's taps under one seed, e.g. "lite0@4+7"; the higher a score, the better."""

    name: str
    seed: int
    scores: Mapping[str, float]
    measured: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what is not done and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/SET and weights/ARCH")
    parser.add_argument("--out", type=Path, default=Path("runs/sources"), help="run folder; resumable")
    parser.add_argument("--sets", nargs="*", default=list(SELECTION), help="data sets")
    parser.add_argument("--backbones", default=BACKBONES)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--size", type=int, default=96, help="pixels a side")
    chosen = parser.parse_args(arguments)
    try:
        print(agreement_markdown({name: candidates(chosen, name) for name in chosen.sets}, chosen.size), flush=True)
    except MedtlError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _run(plan: RunPlan) -> None:
    run_once(plan.settings, plan.out, plan.name, workers=1)


def agreement_markdown(found: Mapping[str, Sequence[Candidate]], size: int) -> str:
    """Returns the agreement of each score on each set: Spearman / Kendall / regret in points, means over seeds."""
    scores = next(iter(found.values()))[0].scores
    lines = [(score, *(_agreed(part, score) for part in found.values())) for score in scores]
    lines.append((f"always {HABIT}", *(f"- / - / {100 * _habit(part):.1f}" for part in found.values())))
    lines.append(("any candidate", *(f"- / - / {100 * _any(part):.1f}" for part in found.values())))
    notes = [
        f"- {name}: {len({one.name for one in part})} candidates, {len({one.seed for one in part})} seeds; measured "
        f"from {100 * min(map(_measured, part)):.1f} to {100 * max(map(_measured, part)):.1f}"
        for name, part in found.items()
    ]
    title = f"### Scores against measured balanced accuracy ({size} px): Spearman / Kendall / regret in points"
    return "\n".join([title, "", markdown(("score", *found), lines), "", *notes, ""])


def candidates(chosen: argparse.Namespace, name: str) -> list[Candidate]:
    """Runs a data set seed by seed, so that a broken run loses one; a half-finished one is begun anew."""
    sites, shots = SELECTION[name]
    found, data, weights = [], *(str(chosen.shared.absolute() / part) for part in (f"data/{name}", "weights"))
    for seed in range(chosen.seeds):
        words = (f"sites={sites}", f"shots={shots}", f"image-size={chosen.size}", f"seed={seed}")
        out = chosen.out.absolute() / "selection" / name / f"seed-{seed}"
        print(f"{name}, seed {seed} of {chosen.seeds}", file=sys.stderr, flush=True)
        select(read_sources(chosen.backbones), RunOrder(None, words, data, 1, 1, None, out), ROOT, _run, weights)
        for path in sorted(out.glob("*/seed-*/result.json")):
            result = Result.read(path)
            for record in result.methods.values():
                source = f"{result.settings['backbone']}@{record.facts['taps']}"
                measured = record.judgement.figures["balanced_accuracy"] or 0.0
                found.append(Candidate(source, seed, record.facts["scores"], measured))
    return found


def _agreed(part: Sequence[Candidate], score: str) -> str:
    from scipy import stats

    pairs = [([one.scores[score] for one in mine], [*map(_measured, mine)]) for mine in _by_seed(part)]
    orders = [nanmean([order(*pair).statistic for pair in pairs]) for order in (stats.spearmanr, stats.kendalltau)]
    regret = fmean(max(measured) - measured[by.index(max(by))] for by, measured in pairs)
    return f"{orders[0]:+.2f} / {orders[1]:+.2f} / {100 * regret:.1f}"


def _by_seed(part: Sequence[Candidate]) -> list[list[Candidate]]:
    return [[one for one in part if one.seed == seed] for seed in dict.fromkeys(one.seed for one in part)]


def _habit(part: Sequence[Candidate]) -> float:
    """Mean regret of always taking `HABIT`."""
    pairs = ((max(map(_measured, mine)), [one for one in mine if one.name == HABIT]) for mine in _by_seed(part))
    return fmean(best - habit.measured for best, [habit] in pairs)


def _any(part: Sequence[Candidate]) -> float:
    """Mean regret of a candidate drawn at random."""
    return fmean(max(map(_measured, mine)) - fmean(map(_measured, mine)) for mine in _by_seed(part))


if __name__ == "__main__":
    raise SystemExit(main())
