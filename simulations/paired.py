"""Methods side by side, on the same splits: differences to a baseline, and to the method that turned out best."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from medtl_core.clinical.significance import Paired, holm, paired
from medtl_core.evaluation.result import MethodResult
from simulations.intervals import apart, markdown, over

#: Method -> seed (or site and seed) -> how it did.
Records = Mapping[str, Mapping[Any, MethodResult]]
#: Method -> seed -> percent.
Figures = Mapping[str, Mapping[int, float]]
#: Fewer seeds than this give a mean, and no interval worth printing.
FEWEST = 3
#: Holm-adjusted p-value below which a difference is marked.
MARKED = 0.05


def comparison(records: Records, baselines: Sequence[str]) -> str:
    """Returns a Markdown table: percent, half-widths of 95 % intervals, differences to the baselines paired by seed.

    `*` marks a difference whose p-value is below 0.05 after Holm's correction for all methods of the table.
    """
    versus = [_versus(records, baseline) for baseline in baselines]
    rows = []
    for method, by_seed in records.items():
        done = list(by_seed.values())
        names = ("balanced_accuracy", "auroc", "worst_site")
        figures = (over([record.judgement.figures.get(name) for record in done], fewest=FEWEST) for name in names)
        sent, cpu = (fmean(getattr(record.cost, name) for record in done) for name in ("bytes_up", "cpu_seconds"))
        differences = (column.get(method, "-") for column in versus)
        rows.append((f"`{method}`", str(len(done)), *figures, f"{sent / 1e3:,.0f} kB", f"{cpu:.2f}", *differences))
    head = ("method", "seeds", "balanced accuracy", "AUROC", "worst site", "sent per hospital", "CPU s")
    return markdown((*head, *(f"against {baseline}" for baseline in baselines)), rows)


def _versus(records: Records, baseline: str) -> dict[str, str]:
    """The difference of every method that has enough seeds in common with the baseline."""
    reference = records.get(baseline, {})
    pairs = {name: _paired(by_seed, reference) for name, by_seed in records.items() if name != baseline}
    known = {name: pair for name, pair in pairs.items() if pair is not None}
    adjusted = holm([pair.p for pair in known.values()])
    return {
        name: apart(pair) + ("*" if p < MARKED else "") for (name, pair), p in zip(known.items(), adjusted, strict=True)
    }


def _paired(ours: Mapping[Any, MethodResult], theirs: Mapping[Any, MethodResult]) -> Paired | None:
    pairs = [
        (ours[seed].judgement.figures["balanced_accuracy"], theirs[seed].judgement.figures["balanced_accuracy"])
        for seed in sorted(ours.keys() & theirs.keys())
    ]
    both = [(our, their) for our, their in pairs if our is not None and their is not None]
    return paired([our for our, _ in both], [their for _, their in both]) if len(both) >= FEWEST else None


def against_best(figures: Figures, own: str) -> str:
    """Returns "difference ± half-width (rival)", in points; "-" with less than two seeds on either half.

    Taking the rival with the highest mean and comparing with that very mean counts its luck as merit. So the rival is
    picked on the even seeds and compared on the odd ones, and the other way round; the difference is paired, over all
    seeds that both have. In brackets: who was picked.

    Example:
        >>> against_best({"a": {s: 50.0 + s for s in range(4)}, "b": {s: 51.0 + s for s in range(4)}}, "a")
        '-1.0 ± 0.0 (b)'
    """
    rivals = {name: row for name, row in figures.items() if name != own and row}
    if own not in figures or not rivals:
        return "-"
    picked = {half: _best(rivals, 1 - half) for half in (0, 1)}
    if None in picked.values():
        return "-"
    differences = list(_differences(figures[own], {half: rivals[str(name)] for half, name in picked.items()}))
    if len(differences) < 4:
        return "-"
    names = " / ".join(dict.fromkeys(str(name) for name in picked.values()))
    return f"{over(differences, scale=1.0, sign='+')} ({names})"


def _best(rivals: Figures, half: int) -> str | None:
    """The rival with the highest mean over the seeds of one half, 0 = even."""
    means = {
        name: float(np.mean([value for seed, value in row.items() if seed % 2 == half]))
        for name, row in rivals.items()
        if any(seed % 2 == half for seed in row)
    }
    return max(means, key=lambda name: means[name]) if means else None


def _differences(own: Mapping[int, float], rival: Mapping[int, Mapping[int, float]]) -> Iterator[float]:
    return (value - rival[seed % 2][seed] for seed, value in own.items() if seed in rival[seed % 2])
