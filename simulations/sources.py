"""Choosing the source, judged: `python -m simulations.sources --shared DIR`; prints Markdown, resumable.

`selection` runs `medtl select --measure` for three backbones with at least four taps each on three data sets, and
prints how each score's order agrees with the measured balanced accuracy. `medical` fine-tunes lite0 on a public set,
kermany_cxr224, and compares that source with the natural-image one on other sets, where it may help or harm, and on
its own.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from medtl_core.backbones.zoo import find_backbone
from medtl_core.cli.ranking import Candidate, agreement
from medtl_core.cli.select import STANDARD, Selection, Source, is_done, read_sources, select
from medtl_core.cli.simulate import simulate
from medtl_core.errors import MedtlError
from medtl_core.evaluation.intervals import paired
from medtl_core.flower.run import Plan

from .spread import apart, over

ROOT = Path(__file__).resolve().parents[1]
BACKBONES = "lite0,torchvision:squeezenet1_1,torchvision:mobilenet_v2"
#: What medtl reads where nobody chooses; a rule that costs nothing, as the yardstick of every score.
HABIT = "lite0@4+7+10"
#: Data set -> hospitals, labelled cases of each.
SELECTION: Mapping[str, tuple[int, int]] = {
    "ham10000_sites": (10, 90), "kermany_cxr224": (8, 50), "nih_cxr64": (6, 100),
}  # fmt: skip
#: Targets of the medical source: set, hospitals, labelled cases of each; the last one is the set it was made from.
MEDICAL: tuple[tuple[str, int, int], ...] = (
    ("nih_cxr64", 6, 25), ("nih_cxr64", 6, 100), ("ham10000_sites", 10, 25), ("kermany_cxr224", 8, 25),
)  # fmt: skip
#: What of lite0 is compared: the layers medtl reads, and its last block, where fine-tuning moves most.
LAYERS = ("4+7+10", "15")
PUBLIC, OWN = "kermany_cxr224", "lite0-kermany"


@dataclass(frozen=True)
class Bench:
    """Where the experiment reads and writes.

    Attributes:
        shared: folder with `data` and `weights`.
        out: what is finished in it is not run again.
        seeds: repetitions of `selection` and of `medical`.
        size: pixels a side in `selection`, and in `medical` and pretraining.
        epochs: of pretraining.
    """

    shared: Path
    out: Path
    seeds: tuple[int, int] = (3, 10)
    size: tuple[int, int] = (96, 128)
    epochs: int = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the parts asked for and prints their tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parts = {"selection": selection, "medical": medical}
    parser.add_argument("parts", nargs="*", default=list(parts), help="selection, medical")
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/SET and weights/ARCH")
    parser.add_argument("--out", type=Path, default=Path("runs/sources"), help="run folder; resumable")
    parser.add_argument("--seeds", type=int, nargs=2, default=Bench.seeds, help="of selection, of medical")
    chosen = parser.parse_args(arguments)
    bench = Bench(chosen.shared.absolute(), chosen.out.absolute(), tuple(chosen.seeds))
    try:
        for name in chosen.parts:
            print(parts[name](bench), flush=True)
    except MedtlError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def selection(bench: Bench) -> str:
    """Every score against the measured result, on every set."""
    sources = read_sources(BACKBONES)
    found = {
        name: _candidates(bench, "selection", name, sources, (sites, shots, bench.size[0], bench.seeds[0]))
        for name, (sites, shots) in SELECTION.items()
    }
    return agreement_markdown(found, bench.size[0])


def agreement_markdown(found: Mapping[str, Sequence[Candidate]], size: int) -> str:
    """Returns the agreement of each score on each set: Spearman / Kendall / regret in points, means over seeds."""
    rows = {name: {row["score"]: row for row in agreement(part)} for name, part in found.items()}
    lines = [("score", *found), ("-",) * (len(found) + 1)]
    scores = dict.fromkeys(score for part in rows.values() for score in part)
    lines += [(score, *(_agreed(part.get(score)) for part in rows.values())) for score in scores]
    lines.append((f"always {HABIT}", *(f"- / - / {100 * _habit(part):.1f}" for part in found.values())))
    lines.append(("any candidate", *(f"- / - / {100 * _any(part):.1f}" for part in found.values())))
    notes = [
        f"- {name}: {len({one.name for one in part})} candidates of {len({one.backbone for one in part})} backbones, "
        f"{len({one.seed for one in part})} seeds; measured from {100 * min(map(_measured, part)):.1f} to "
        f"{100 * max(map(_measured, part)):.1f}; first by {STANDARD}: {_first(part)}"
        for name, part in found.items()
    ]
    title = f"### Scores against measured balanced accuracy ({size} px): Spearman / Kendall / regret in points"
    return "\n".join([title, "", *(f"| {' | '.join(line)} |" for line in lines), "", *notes, ""])


def medical(bench: Bench) -> str:
    """The natural and the medical source on every target: the federated discriminant on rich features."""
    os.environ["MEDTL_HOME"] = str(bench.out / "home")
    _make_source(bench)
    sources = [_layers(name) for name in ("lite0", f"own:{OWN}")]
    found = [
        _candidates(bench, f"medical-{shots}", name, sources, (sites, shots, bench.size[1], bench.seeds[1]))
        for name, sites, shots in MEDICAL
    ]
    return medical_markdown(dict(zip(MEDICAL, found, strict=True)))


def medical_markdown(found: Mapping[tuple[str, int, int], Sequence[Candidate]]) -> str:
    """Returns both sources on each target, their paired difference, and which one each score would have taken."""
    head = ("target", "blocks", "natural", "medical", "difference", "p", "AUROC of both", "medical preferred by")
    lines = [head, ("-",) * len(head)]
    for (name, sites, shots), part in found.items():
        label = f"{name}, {sites} x {shots}" + (" (its own set)" if name == PUBLIC else "")
        lines += [(label, taps, *_compared(part, taps)) for taps in LAYERS]
    title = "### A natural and a medical source: balanced accuracy of the discriminant, medical less natural"
    seeds = len({one.seed for part in found.values() for one in part})
    note = f"{seeds} seeds; the last column says at how many of them each score prefers the medical source."
    return "\n".join([title, "", *(f"| {' | '.join(line)} |" for line in lines), "", note, ""])


def _compared(part: Sequence[Candidate], taps: str) -> tuple[str, ...]:
    """One row's figures: both sources, paired by seed."""
    mine = sorted((one for one in part if one.taps == taps), key=lambda one: one.seed)
    natural, own = ([one for one in mine if one.backbone.startswith("own:") is medical] for medical in (False, True))
    figures = [list(map(_measured, side)) for side in (natural, own)]
    difference = paired(figures[1], figures[0])
    areas = " / ".join(f"{100 * fmean(one.measured['auroc'] for one in side):.1f}" for side in (natural, own))
    return (*map(over, figures), apart(difference), f"{difference.p:.3f}", areas, _takers(natural, own))


def _candidates(
    bench: Bench, part: str, name: str, sources: Sequence[Source], shape: tuple[int, int, int, int]
) -> list[Candidate]:
    """Runs seed by seed, so that a broken run loses one; a half-finished one is begun anew."""
    sites, shots, size, seeds = shape
    found = []
    for seed in range(seeds):
        words = (f"sites={sites}", f"shots={shots}", f"image-size={size}", f"seed={seed}")
        order = Selection(
            str(bench.shared / "data" / name), sources, words, str(bench.shared / "weights"), True, 1, 1,
            bench.out / part / name / f"seed-{seed}",
        )  # fmt: skip
        print(f"{part}: {name}, seed {seed} of {seeds}", file=sys.stderr, flush=True)
        rows = select(order, ROOT, _run)["by_seed"]
        found += [Candidate(**row) for row in rows]
    return found


def _run(plan: Plan) -> None:
    if plan.out.exists() and not is_done(plan):
        shutil.rmtree(plan.out)
    simulate(plan)


def _make_source(bench: Bench) -> None:
    from medtl_core.backbones.own import own_names
    from medtl_core.cli.pretrain import open_public, pretrain
    from medtl_core.cli.trainer import Lesson

    if OWN in own_names():
        return
    source = open_public(str(bench.shared / "data" / PUBLIC), declared=False)
    lesson = Lesson("lite0", epochs=bench.epochs, size=bench.size[1])
    out = bench.out / f"{OWN}.safetensors"
    out.parent.mkdir(parents=True, exist_ok=True)
    pretrain(source, lesson, out, progress=lambda *told: print("pretrain:", *told, file=sys.stderr, flush=True))


def _layers(name: str) -> Source:
    backbone = find_backbone(name)
    return Source(backbone, (*backbone.rich, LAYERS[1]), backbone.rich)


def _takers(natural: Sequence[Candidate], own: Sequence[Candidate]) -> str:
    pairs = list(zip(natural, own, strict=True))
    names = [name for name in natural[0].scores if name in own[0].scores]
    return ", ".join(f"{name} {sum(b.scores[name] > a.scores[name] for a, b in pairs)}/{len(pairs)}" for name in names)


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
