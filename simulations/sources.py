"""Choosing the source, judged: `python -m simulations.sources --shared DIR`; prints Markdown, resumable.

Runs `medtl select --measure` for three backbones with at least four taps each on three data sets, and prints how each
score's order agrees with the measured balanced accuracy.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from medtl_core.cli.ranking import Candidate, agreement
from medtl_core.cli.select import STANDARD, Selection, read_sources, select
from medtl_core.errors import MedtlError
from medtl_core.flower.run import RunPlan
from simulations.experiments import ROOT, run_once
from simulations.intervals import markdown

BACKBONES = "lite0,torchvision:squeezenet1_1,torchvision:mobilenet_v2"
#: What medtl reads where nobody chooses; a rule that costs nothing, as the yardstick of every score.
HABIT = "lite0@4+7+10"
#: Data set -> hospitals, labelled cases of each.
SELECTION: Mapping[str, tuple[int, int]] = {
    "ham10000_sites": (10, 90), "kermany_cxr224": (8, 50), "nih_cxr64": (6, 100),
}  # fmt: skip


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


def agreement_markdown(found: Mapping[str, Sequence[Candidate]], size: int) -> str:
    """Returns the agreement of each score on each set: Spearman / Kendall / regret in points, means over seeds."""
    rows = {name: {row["score"]: row for row in agreement(part)} for name, part in found.items()}
    scores = dict.fromkeys(score for part in rows.values() for score in part)
    lines = [(score, *(_agreed(part.get(score)) for part in rows.values())) for score in scores]
    lines.append((f"always {HABIT}", *(f"- / - / {100 * _habit(part):.1f}" for part in found.values())))
    lines.append(("any candidate", *(f"- / - / {100 * _any(part):.1f}" for part in found.values())))
    notes = [
        f"- {name}: {len({one.name for one in part})} candidates of {len({one.backbone for one in part})} backbones, "
        f"{len({one.seed for one in part})} seeds; measured from {100 * min(map(_measured, part)):.1f} to "
        f"{100 * max(map(_measured, part)):.1f}; first by {STANDARD}: {_first(part)}"
        for name, part in found.items()
    ]
    title = f"### Scores against measured balanced accuracy ({size} px): Spearman / Kendall / regret in points"
    return "\n".join([title, "", markdown(("score", *found), lines), "", *notes, ""])


def candidates(chosen: argparse.Namespace, name: str) -> list[Candidate]:
    """Runs a data set seed by seed, so that a broken run loses one; a half-finished one is begun anew."""
    sites, shots = SELECTION[name]
    found = []
    for seed in range(chosen.seeds):
        words = (f"sites={sites}", f"shots={shots}", f"image-size={chosen.size}", f"seed={seed}")
        order = Selection(
            str(chosen.shared.absolute() / "data" / name), read_sources(chosen.backbones), words,
            str(chosen.shared.absolute() / "weights"), True, 1, 1,
            chosen.out.absolute() / "selection" / name / f"seed-{seed}",
        )  # fmt: skip
        print(f"{name}, seed {seed} of {chosen.seeds}", file=sys.stderr, flush=True)
        found += [Candidate(**row) for row in select(order, ROOT, _run)["by_seed"]]
    return found


def _run(plan: RunPlan) -> None:
    run_once(plan.settings, plan.out, plan.name, seeds=plan.seeds, workers=plan.workers)


def _agreed(row: Mapping[str, float | int | None] | None) -> str:
    if row is None:
        return "-"
    shown = ["-" if row[key] is None else f"{row[key]:+.2f}" for key in ("spearman", "kendall")]
    return f"{' / '.join(shown)} / {100 * (row['regret'] or 0.0):.1f}"


def _measured(one: Candidate) -> float:
    return one.measured["balanced_accuracy"]


def _by_seed(part: Sequence[Candidate]) -> list[list[Candidate]]:
    return [[one for one in part if one.seed == seed] for seed in dict.fromkeys(one.seed for one in part)]


def _habit(part: Sequence[Candidate]) -> float:
    """Mean regret of always taking `HABIT`."""
    return fmean(
        max(map(_measured, mine)) - next(_measured(one) for one in mine if one.name == HABIT) for mine in _by_seed(part)
    )


def _any(part: Sequence[Candidate]) -> float:
    """Mean regret of a candidate drawn at random."""
    return fmean(max(map(_measured, mine)) - fmean(map(_measured, mine)) for mine in _by_seed(part))


def _first(part: Sequence[Candidate]) -> str:
    """The candidates the standard score puts first, with how often."""
    names = [max(mine, key=lambda one: one.scores[STANDARD]).name for mine in _by_seed(part)]
    return ", ".join(f"{name} ({names.count(name)}x)" for name in dict.fromkeys(names))


if __name__ == "__main__":
    raise SystemExit(main())
